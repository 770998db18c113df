# SPDX-License-Identifier: BSD-2-Clause
"""Bochs logs: recorded ones with their expected readings, damaged ones, and random bytes."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from debug.evidence import Ending, EventKind
from debug.report.diagnosis import diagnose
from debug.sources.bochs_evidence import build
from debug.sources.bochs_log import LogReader, parse_line, read_log

RECORDED = Path(__file__).parents[2] / "recorded" / "bochs"
EXPECTED: dict[str, Any] = json.loads((RECORDED / "expected.json").read_text())


def recorded(name: str) -> bytes:
    return (RECORDED / f"{name}.log").read_bytes()


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_recorded(name: str) -> None:
    expected = EXPECTED[name]
    evidence = build(read_log(recorded(name)))
    assert evidence.ending.value == expected["ending"]
    assert evidence.version == "2.7"
    assert len(evidence.cpus) == expected["cpus"]
    dead = [cpu.index for cpu in evidence.cpus if cpu.shutdown]
    assert dead == ([] if expected["culprit"] is None else [expected["culprit"]])
    shown = read_log(recorded(name)).dumps[expected["culprit"] or 0]
    assert shown.mode == expected["mode"]
    assert shown.registers.rip == int(expected["rip"], 16)
    chain = [
        [e.kind.value, e.vector, e.error_code, e.cr2 and hex(e.cr2), e.while_delivering]
        for e in evidence.events
    ]
    assert chain == expected["chain"]
    ours = [i for i in evidence.ipis if not i.by_firmware]
    assert [[i.kind.value, i.source, i.destination, i.vector] for i in ours] == expected["ipis"]
    assert all(i.delivered for i in ours)


def test_every_recording_is_expected() -> None:
    assert {path.stem for path in RECORDED.glob("*.log")} == set(EXPECTED)


def test_the_chain_has_the_registers_of_the_death() -> None:
    log = read_log(recorded("ap64-detailed"))
    assert [event.registers.rip for event in log.events] == [0x7CE1] * 4
    assert log.events[0].registers.segments["cs"].long
    assert "PML4: entry not present" in log.events[0].reason


def test_the_error_strings_are_kept() -> None:
    log = read_log(recorded("gp-detailed"))
    assert "without enabling CR4.PAE" in log.events[0].reason
    assert any("without enabling CR4.PAE" in message for message in log.messages)


def test_registers_of_a_dump() -> None:
    registers = build(read_log(recorded("long64"))).cpus[0].registers
    assert registers.get("rsp") == 0xFFFFFFFF80000000
    assert registers.get("cr0") == 0x80000011
    assert registers.get("cr4") == 0x20
    assert registers.get("efer") == 0x500
    assert registers.cpl == 0
    assert registers.segments["cs"].selector == 8
    assert registers.rflags is not None and registers.rflags & 1 << 16  # RF: a fault
    assert registers.gdtr is None and registers.idtr is None  # a log has neither


def test_flags_in_capitals_are_set() -> None:
    from debug.sources.bochs_dump import flags_of

    words = "id vip vif ac vm RF NT of df IF tf SF zf af PF cf"
    assert flags_of(words, 3) == 2 | 3 << 12 | 1 << 16 | 1 << 14 | 1 << 9 | 1 << 7 | 1 << 2


def test_firmware_is_told_from_the_kernel() -> None:
    log = read_log(recorded("ap64-detailed"))
    firmware = [ipi for ipi in log.ipis if ipi.by_firmware]
    assert [ipi.vector for ipi in firmware] == [None, 0x9F]
    assert log.started == {1: 0x800}


def test_a_halt_with_interrupts_off_is_told() -> None:
    evidence = build(read_log(recorded("halt")))
    assert evidence.cpus[0].halted
    assert any("HLT with interrupts off" in message for message in evidence.messages)


def test_what_a_log_lacks_is_said() -> None:
    assert any("GDTR" in limit for limit in build(read_log(recorded("long64"))).limits)
    assert any("debug level" in limit for limit in build(read_log(recorded("long64"))).limits)
    assert not any(
        "debug level" in limit for limit in build(read_log(recorded("long64-detailed"))).limits
    )


def test_registers_after_a_reset_are_not_those_of_the_death() -> None:
    cut = recorded("long64-resetting").replace(b"CPU is in long mode", b"CPU was in long mode")
    evidence = build(read_log(cut))
    assert evidence.ending is Ending.TRIPLE_FAULT
    assert all(cpu.registers.rip != 0xFFF0 for cpu in evidence.cpus)


def test_an_older_layout_with_named_vectors() -> None:
    text = "\n".join(
        [
            "  00143437569e[CPU0 ] interrupt(): gate descriptor is not valid (vector=0x06)",
            "  00143437569e[CPU0 ] interrupt(): gate descriptor is not valid (vector=0x0d)",
            "  00143437569i[CPU0 ] CPU is in protected mode (active)",
            "  00143437569i[CPU0 ] | EAX=00000000  EBX=00010000  ECX=00102ad0  EDX=000b8000",
            "  00143437569i[CPU0 ] |  CS:0008( 0001| 0|  0) 00000000 ffffffff 1 1",
            "  00143437569i[CPU0 ] | EIP=00000003 (00000003)",
            "  00143437569i[CPU0 ] | CR0=0x60000011 CR2=0x00000000",
            "  00143437569i[CPU0 ] | CR3=0x00102ad0 CR4=0x00000000",
            "  00143437569p[CPU0 ] >>PANIC<< exception(): 3rd (13) exception with no resolution",
        ]
    )
    log = read_log(text.replace("\n", "\r\n").encode())
    assert [event.vector for event in log.events] == [6, 13, 13]
    assert log.events[-1].kind is EventKind.TRIPLE_FAULT
    assert log.events[0].registers.rip == 3
    assert log.death is not None and log.death.cpu == 0


def test_cpu_numbers_are_hex() -> None:
    line = parse_line("00000000001d[CPUa  ] exception(0x0d): error_code=0000")
    assert line is not None and line.cpu == 10 and line.level == "d"


def test_x2apic_writes_name_sender_and_destination() -> None:
    log = read_log(
        b"00000000001i[BIOS  ] Booting from 07c0:0000\n"
        b"00000000002d[CPU0  ] WRMSR: write 00000003:00004608 to MSR 00000830\n"
        b"00000000002i[APIC3 ] Deliver Start Up IPI\n"
        b"00000000003d[CPU0  ] WRMSR: write 00000009:00004500 to MSR 00000830\n"
    )
    sipi, init = log.ipis
    assert (sipi.source, sipi.destination, sipi.vector, sipi.delivered) == (0, 3, 8, True)
    assert (init.destination, init.delivered) == (9, False)  # nobody has APIC ID 9


def test_interrupts_do_not_drive_exceptions_out() -> None:
    tick = b"%011dd[CPU0  ] interrupt(): vector = 20, TYPE = 0, EXT = 1\n"
    log = read_log(
        b"00000000000d[CPU0  ] exception(0x0e): error_code=0002\n"
        + b"".join(tick % number for number in range(1, 5000))
    )
    assert log.events[0].vector == 14
    assert len(log.events) < 200


def test_in_pieces_as_at_once() -> None:
    data = recorded("ap64-detailed")
    whole = read_log(data)
    reader = LogReader()
    generator = random.Random(1)
    at = 0
    while at < len(data):
        size = generator.randint(1, 700)
        reader.feed(data[at : at + size])
        at += size
    assert reader.result() == whole


def test_a_cut_log_is_still_read() -> None:
    data = recorded("ap64-detailed")
    for cut in range(0, len(data), 997):
        build(read_log(data[:cut]))
        build(read_log(data[cut:]))


def test_escapes_do_not_pass() -> None:
    log = read_log(b"00000000001e[CPU0  ] \x1b]0;owned\x07\x1b[2Jbad\n")
    assert all("\x1b" not in message and "\x07" not in message for message in log.messages)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=2000))
def test_any_bytes(data: bytes) -> None:
    build(read_log(data))


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_any_mutation(data: st.DataObject) -> None:
    log = bytearray(recorded("ap32"))
    for _ in range(data.draw(st.integers(1, 20))):
        log[data.draw(st.integers(0, len(log) - 1))] = data.draw(st.integers(0, 255))
    build(read_log(bytes(log)))


def test_a_bochs_with_instrumentation_names_its_exceptions() -> None:
    text = (
        b"00000001000d[CPU0  ] page fault for address ffff900000003ff8 @ ffff800000001000\n"
        b"00000001000i[      ] CPU 0: exception 0eh error_code=2\n"
    )
    (event,) = read_log(text).events
    assert (event.vector, event.error_code, event.cpu) == (14, 2, 0)
    assert (event.cr2, event.registers.rip) == (0xFFFF900000003FF8, 0xFFFF800000001000)


def test_what_the_bios_sends_after_a_reset_is_the_bioss() -> None:
    """Where the log shows its hand-over: else it may be a kernel's."""
    handover = b"00000000001i[BIOS  ] Booting from 07c0:0000\n"
    again = (
        b"00000000005i[SYS   ] bx_pc_system_c::Reset(HARDWARE) called\n"
        b"00000000006d[APIC0 ] LAPIC write 0x000c469f to register 0x0300\n"
    )
    assert [ipi.by_firmware for ipi in read_log(handover + again).ipis] == [True]
    assert [ipi.by_firmware for ipi in read_log(again).ipis] == [None]
    third = handover.replace(b"001i", b"008i")
    kernel = b"00000000009d[APIC0 ] LAPIC write 0x000c4608 to register 0x0300\n"
    marks = [ipi.by_firmware for ipi in read_log(handover + again + third + kernel).ipis]
    assert marks == [True, False]


BIOS_AT_WORK = b"""\
00000004662i[BIOS  ] $Revision: 14314 $ $Date: 2021-07-14 18:10:19 +0200 $
00000320816i[BIOS  ] Starting rombios32
"""
HANDED_OVER = b"00000590000i[BIOS  ] Booting from 0000:7c00\n"
DEATH = b"""\
00000700000e[CPU0  ] interrupt(): vector must be within IDT table limits, IDT.limit = 0x0
00000700000i[CPU0  ] CPU is in protected mode (active)
00000700000i[CPU0  ] CS.mode = 32 bit
00000700000i[CPU0  ] | EAX=00000001  EBX=00000002  ECX=00000003  EDX=00000004
00000700000i[CPU0  ] | ESP=fffffffc  EBP=00000005  ESI=00000006  EDI=00000007
00000700000i[CPU0  ] |  CS:0010( 0002| 0|  0) 00000000 ffffffff 1 1
00000700000i[CPU0  ] |  SS:0018( 0003| 0|  0) 00000000 ffffffff 1 1
00000700000i[CPU0  ] | EIP=12345678 (12345678)
00000700000i[CPU0  ] | CR0=0x60000011 CR2=0x00000000
00000700000i[CPU0  ] | CR3=0x00000000 CR4=0x00000000
00000700000e[CPU0  ] exception(): 3rd (13) exception with no resolution, shutdown status is 00h, resetting
00000700000i[SYS   ] bx_pc_system_c::Reset(HARDWARE) called
"""


@pytest.mark.parametrize(
    "before, death, firmware",
    [
        (BIOS_AT_WORK, DEATH, True),
        (BIOS_AT_WORK + HANDED_OVER, DEATH, False),
        (b"", DEATH, False),
        (BIOS_AT_WORK, DEATH.replace(b"00000700000", b"00990700000"), False),
    ],
)
def test_a_bios_that_dies_before_it_boots_anything_is_told_from_a_kernel(
    before: bytes, death: bytes, firmware: bool
) -> None:
    evidence = build(read_log(before + death))
    assert evidence.in_firmware is firmware
    causes = {cause.row.id for cause in diagnose(evidence).causes}
    assert ("stack-outside-memory" in causes) is not firmware
    assert (causes == {"kernel-not-reached"}) is firmware
