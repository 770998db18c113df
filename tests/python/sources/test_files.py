# SPDX-License-Identifier: BSD-2-Clause
"""Files as witnesses: any bytes, any length, and what a long one costs."""

from __future__ import annotations

import re
import resource
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from debug.cli.explain import decode_stages, explain
from debug.failures.row import Certainty
from debug.report import text
from debug.report.machine import to_json
from debug.sources.bochs_debugger import parse_session, unpack
from debug.sources.bochs_pasted import canonical, instructions
from debug.sources.elf_symbols import ElfSymbols
from debug.sources.files import FileError, FileReader
from debug.sources.kinds import Kind
from debug.sources.pasted import clean
from debug.sources.qemu_files import registers_evidence
from debug.sources.witness import Ceiling, Witness
from debug.stages.checksum import encode
from tests.python.cli.test_explain import BOCHS, LONG, REGISTERS
from tests.python.sources.test_core import LONG as CPU
from tests.python.sources.test_core import core

SESSION = b"""\
<bochs:1> c
(1).[17405120] [0x000000008031] 0800:0031 (unk. ctxt): jmpf 0x0008:8040 ; ea40800800
<bochs:2> set $cpu=1
<bochs:3> sreg
cs:0x0800, dh=0x00009300, dl=0x8000ffff, valid=1
        Data segment, base=0x00008000, limit=0x0000ffff, Read/Write, Accessed
tr:0x0068, dh=0x81008b00, dl=0x0290006b, valid=1
gdtr:base=0x0000000000006000, limit=0x17
idtr:base=0x0000000000000000, limit=0x3ff
<bochs:4> creg
CR0=0x60000011: pg CD NW ac wp ne ET ts em mp PE
CR2=page fault laddr=0x000000000803cff8
CR3=0x000000002000
CR4=0x00000000: cet pke
EFER=0x00000000: ffxsr nxe lma lme sce
<bochs:5> r
rax: 00000000_60000011 rcx: 00000000_00000001
rsp: 00000000_00007000 rip: 00000000_00000031
eflags 0x00000006: id vip vif ac vm rf nt IOPL=0 of df if tf sf zf af PF cf
"""
TRACE = b"hello\n" + b"".join(encode(0, 0xB0 + n, None, n) for n in range(8))
SEEDS = (LONG, REGISTERS, BOCHS, SESSION, TRACE, core([CPU], b"RAM!" * 64), BOCHS + LONG)
NOTHING = ElfSymbols(())


def read(path: Path, data: bytes) -> Witness:
    path.write_bytes(data)
    with FileReader(decode_stages) as reader:
        return reader.read(str(path))


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_a_damaged_file_is_explained_or_refused_at_once(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    damaged = bytearray(data.draw(st.sampled_from(SEEDS)))
    for _ in range(data.draw(st.integers(1, 12))):
        at = data.draw(st.integers(0, len(damaged)))
        end = min(len(damaged), at + data.draw(st.integers(0, 80)))
        other = data.draw(st.sampled_from((*SEEDS, bytes(damaged))))
        start = data.draw(st.integers(0, len(other)))
        damaged[at:end] = data.draw(
            st.one_of(st.binary(max_size=8), st.just(other[start : start + 200]))
        )
    path = tmp_path_factory.getbasetemp() / "damaged"
    begin = time.process_time()
    try:
        path.write_bytes(bytes(damaged))
        with FileReader(decode_stages) as reader:
            diagnosis = explain(reader.read(str(path)), NOTHING)
            assert text.render(diagnosis).isprintable() is False  # it has lines
            assert to_json(diagnosis).isascii()
    except FileError as error:
        assert str(path) in str(error)
    assert time.process_time() - begin < 1


@pytest.mark.parametrize(
    "line", [b"CPU#0\n", b"RAX=0000000000000000 ", b"v=0e e=0000 i=0 ", b" ; "]
)
def test_a_megabyte_of_one_thing_takes_no_second(tmp_path: Path, line: bytes) -> None:
    begin = time.process_time()
    try:
        explain(read(tmp_path / "file", line * ((1 << 20) // len(line))), NOTHING)
    except FileError:
        pass
    assert time.process_time() - begin < 3


def test_a_long_log_is_read_in_bounded_memory(tmp_path: Path) -> None:
    path = tmp_path / "long.log"
    record = LONG[LONG.index(b"check_exception") :].replace(b"Triple fault\n", b"")
    with path.open("wb") as file:
        while file.tell() < 24 << 20:
            file.write(record * 64)
        file.write(LONG)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with FileReader(decode_stages) as reader:
        witness = reader.read(str(path))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 32 << 10  # KiB
    diagnosis = explain(witness, NOTHING)
    assert diagnosis.explanation.chain[0].rip == 0x7CEA
    assert any("skipped" in note for note in diagnosis.explanation.notes)


def test_a_long_bochs_log_keeps_its_death(tmp_path: Path) -> None:
    noise = b"00017405001i[BXVGA ] a line that means nothing here\n" * 200_000
    witness = read(tmp_path / "log", BOCHS[:300] + noise + BOCHS)
    assert [cpu.index for cpu in witness.evidence.cpus if cpu.shutdown] == [1]
    assert any("skipped" in note for note in witness.notes)


def test_a_debugger_session_shows_the_chosen_cpu() -> None:
    (cpu,) = parse_session(SESSION.decode())
    registers = cpu.registers
    assert cpu.index == 1 and registers.rip == 0x31
    assert registers.segments["cs"].base == 0x8000 and registers.segments["cs"].limit == 0xFFFF
    assert registers.segments["tr"].base == 0x81000290
    assert registers.gdtr is not None and (registers.gdtr.base, registers.gdtr.limit) == (
        0x6000,
        0x17,
    )
    assert registers.control["cr2"] == 0x803CFF8 and registers.control["cr3"] == 0x2000
    assert registers.general["rsp"] == 0x7000 and registers.rflags == 6


def test_a_granular_descriptor_is_unpacked() -> None:
    flat = unpack(8, 0x00CF9B00, 0x0000FFFF)
    assert (flat.base, flat.limit, flat.dpl, flat.big) == (0, 0xFFFFFFFF, 0, True)


def test_what_bochs_disassembled_is_kept() -> None:
    (one,) = instructions(SESSION.decode())
    assert (one.rip, one.data) == (0x31, bytes.fromhex("ea40800800"))


def test_a_message_without_its_exception_still_is_one(tmp_path: Path) -> None:
    line = b"00171667504e[CPU1  ] LTR: doesn't point to an available TSS descriptor!\n"
    (event,) = read(tmp_path / "log", line).evidence.events
    assert (event.vector, event.cpu, event.error_code) == (13, 1, None)
    assert "available TSS" in event.reason
    line = b"00188123246e[CPU3  ] load_seg_reg(GS, 0x0093): RPL & CPL must be <= DPL\n"
    (event,) = read(tmp_path / "log", line).evidence.events
    assert (event.vector, event.cpu, event.error_code) == (13, 3, 0x90)


def test_a_dump_inside_an_instruction_shows_the_one_that_faulted() -> None:
    line = "00182888318i[CPU0  ] | RIP=ffff800000001ebc (ffff800000001eba)"
    assert "RIP=ffff800000001eba (" in canonical(line)


def test_an_aborted_qemu_and_its_registers(tmp_path: Path) -> None:
    witness = read(tmp_path / "file", b"qemu: fatal: invalid tss type\n" + REGISTERS)
    assert witness.kind is Kind.QEMU_REGISTERS
    assert witness.evidence.messages == ("qemu: fatal: invalid tss type",)


def test_the_last_of_several_screens_counts() -> None:
    screen = REGISTERS.decode()
    cpus = registers_evidence(screen + screen.replace("7cea", "7cec")).cpus
    assert [(cpu.registers.rip, cpu.moved) for cpu in cpus] == [(0x7C77, False), (0x7CEC, True)]


def test_prose_is_no_death() -> None:
    said = clean(b"I get a Triple fault when I enable paging, see CPU#0 below.\n")
    assert said == b"I get a Triple fault when I enable paging, see CPU#0 below.\n"


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=400))
def test_cleaning_takes_any_bytes(data: bytes) -> None:
    clean(data)


@pytest.mark.parametrize("whole", [LONG, BOCHS, REGISTERS], ids=["log", "bochs", "registers"])
def test_what_is_whole_stays_as_it_is(whole: bytes) -> None:
    assert [line.strip() for line in clean(whole).splitlines()] == [
        line.strip() for line in whole.splitlines()
    ]


@pytest.mark.parametrize("whole", [LONG, REGISTERS], ids=["log", "registers"])
@pytest.mark.parametrize(
    "before",
    [
        b"2026-11-26T09:00:01.1234567Z ",
        b"boot\tUNKNOWN STEP\t2026-11-26T09:00:01.1Z ",
        b"09:00:01 ",
        b"[    1.234567] ",
        b"vm-1  | ",
        b"> ",
        b"  17\t",
    ],
)
def test_what_a_ci_system_puts_before_each_line_is_undone(whole: bytes, before: bytes) -> None:
    given = b"".join(before + line for line in whole.splitlines(True))
    ours = [line.strip() for line in clean(whole).splitlines() if b"=" in line]
    left = [line.strip() for line in clean(given).splitlines() if b"=" in line]
    assert [line for line in left if line in ours] == ours


def test_a_bochs_log_that_contradicts_itself_proves_nothing(tmp_path: Path) -> None:
    assert read(tmp_path / "log", BOCHS).ceiling is Ceiling.CERTAIN
    changed = read(tmp_path / "log", BOCHS.replace(b"EIP=00000031", b"EIP=00000032"))
    assert changed.ceiling is Ceiling.POSSIBLE and "instruction pointers" in changed.why


CHAIN = LONG[LONG.index(b"check_exception") :]


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_a_changed_register_never_leads_to_another_certain_cause(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = tmp_path_factory.getbasetemp() / "changed"
    start = len(LONG) - len(CHAIN)
    fields = [found.start(1) for found in re.finditer(rb"=([0-9a-f]{8,16})\b", CHAIN)]
    at = start + data.draw(st.sampled_from(fields)) + data.draw(st.integers(0, 7))
    changed = bytearray(LONG)
    changed[at] = ord(data.draw(st.sampled_from("0123456789abcdef")))
    path.write_bytes(bytes(changed))
    with FileReader(decode_stages) as reader:
        causes = explain(reader.read(str(path)), NOTHING).causes
    certain = [cause.row.id for cause in causes if cause.certainty is Certainty.CERTAIN]
    assert certain in ([], ["page-fault-undelivered"])


def test_the_32_bit_layout_shows_lower_halves(tmp_path: Path) -> None:
    narrow = re.sub(rb"(?m)^R(?:8 |9 |1\d)=.*\n", b"", CHAIN)
    narrow = re.sub(rb"\bR([ABCD]X|[SD]I|[BS]P|IP)=[0-9a-f]{8}", rb"E\1=", narrow)
    assert b"EAX=" in narrow and b"RAX=" not in narrow
    assert read(tmp_path / "log", narrow).ceiling is Ceiling.CERTAIN
    upper = re.sub(rb"R_EAX\]=0{8}", b"R_EAX]=00cf9200", narrow)
    assert upper != narrow
    assert read(tmp_path / "log", upper).ceiling is Ceiling.CERTAIN
    wrong = re.sub(rb"(R_EAX\]=[0-9a-f]{15}).", rb"\g<1>7", narrow)
    assert read(tmp_path / "log", wrong).ceiling is Ceiling.POSSIBLE
