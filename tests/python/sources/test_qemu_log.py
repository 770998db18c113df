# SPDX-License-Identifier: BSD-2-Clause
"""The reader of QEMU's exception log."""

from __future__ import annotations

import random
import tracemalloc
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from debug.evidence import Ending, EventKind, IpiKind
from debug.sources.excerpt import Excerpt
from debug.sources.qemu_files import log_evidence
from debug.sources.qemu_log import (
    MAX_EXCEPTIONS,
    MAX_FIRST,
    MAX_INTERRUPTS,
    LogReader,
    QemuLog,
    read_log,
)

RECORDED = Path(__file__).resolve().parents[2] / "recorded" / "qemu"
LONG = (RECORDED / "ap-long-mode.log").read_bytes()
REAL = (RECORDED / "real-mode.log").read_bytes()

RECORD = """     0: v=%s e=0000 i=%d cpl=0 IP=0008:00100000 pc=00100000 SP=0010:00200000 %s
EAX=00000001 EBX=00000002 ECX=00000003 EDX=00000004
ESI=00000000 EDI=00000000 EBP=00000000 ESP=00200000
EIP=00100000 EFL=00000002 [-------] CPL=0 II=0 A20=1 SMM=0 HLT=0
CR0=80000011 CR2=0000beef CR3=00001000 CR4=00000000
"""


def record(vector: str, software: int = 0, rest: str = "") -> str:
    return RECORD % (vector, software, rest)


def chain(log: QemuLog) -> list[tuple[EventKind, int, object]]:
    return [
        (event.kind, event.vector, event.while_delivering)
        for event in log.exceptions
        if event.kind in (EventKind.EXCEPTION, EventKind.TRIPLE_FAULT)
    ]


def test_a_page_fault_in_long_mode_to_its_triple_fault() -> None:
    log = read_log([LONG])
    assert chain(log) == [
        (EventKind.EXCEPTION, 14, -1),
        (EventKind.EXCEPTION, 13, 14),
        (EventKind.EXCEPTION, 8, 14),
        (EventKind.EXCEPTION, 13, 8),
        (EventKind.TRIPLE_FAULT, 13, 8),
    ]
    first = next(e for e in log.exceptions if e.vector == 14 and e.kind is EventKind.EXCEPTION)
    assert (first.cr2, first.error_code) == (0xDEAD0000, 2)
    assert first.registers.rip == log.exceptions[-1].registers.rip
    assert log.smm and log.triple_faults == 1


def test_start_up_ipis_and_which_are_the_firmwares() -> None:
    ipis = read_log([LONG]).ipis
    assert [(ipi.kind, ipi.vector, ipi.destination, ipi.by_firmware) for ipi in ipis] == [
        (IpiKind.INIT, None, None, True),
        (IpiKind.SIPI, 0x10, None, True),
        (IpiKind.INIT, None, 1, None),
        (IpiKind.SIPI, 0x07, 1, None),
    ]
    assert ipis[0].shorthand == "all-but-self"


def test_real_mode_leaves_a_chain_without_registers() -> None:
    log = read_log([REAL])
    assert [vector for _, vector, _ in chain(log)] == [13, 13, 13, 13]
    assert all(event.registers.rip is None for event in log.exceptions)
    evidence = log_evidence(log)
    assert evidence.ending is Ending.TRIPLE_FAULT
    assert any("real mode" in limit for limit in evidence.limits)


def test_the_timer_is_no_double_fault() -> None:
    text = "Servicing hardware INT=0x08\n" + record("08")
    (event,) = read_log([text.encode()]).exceptions
    assert event.kind is EventKind.HARDWARE_INTERRUPT and event.error_code is None


def test_interrupt_kinds() -> None:
    text = (
        record("80", 1) + record("21") + "check_exception old: 0xffffffff new 0x6\n" + record("06")
    )
    kinds = [event.kind for event in read_log([text.encode()]).exceptions]
    assert kinds == [
        EventKind.SOFTWARE_INTERRUPT,
        EventKind.HARDWARE_INTERRUPT,
        EventKind.EXCEPTION,
    ]


def test_a_triple_fault_is_seen_where_its_line_is_not_logged() -> None:
    assert read_log([LONG.replace(b"Triple fault\n", b"")]).triple_faults == 1
    assert read_log([LONG]).triple_faults == 1


def test_nested_behind_a_vector_that_qemu_forgets_is_unknown_not_none() -> None:
    text = "check_exception old: 0xffffffff new 0x6\n" + record("06")
    text += "check_exception old: 0xffffffff new 0xd\n" + record("0d")
    assert [event.while_delivering for event in read_log([text.encode()]).exceptions] == [-1, None]


def test_power_on_resets_are_not_evidence_but_an_init_of_a_running_cpu_is() -> None:
    resets = log_evidence(read_log([LONG])).resets
    assert [reset.cpu for reset in resets] == [1]
    assert resets[0].registers is not None and resets[0].registers.control["cr0"] == 0x11


def test_the_culprit_is_found_in_the_resets_behind_its_death() -> None:
    dump = LONG[LONG.rindex(b" v=08") :].split(b"\n", 1)[1].split(b"check_exception")[0]
    again = b"CPU Reset (CPU 0)\nEAX=00000000\nEIP=00007c77\nCPU Reset (CPU 1)\n" + dump
    evidence = log_evidence(read_log([LONG + again]))
    assert [(cpu.index, cpu.shutdown) for cpu in evidence.cpus] == [(1, True)]
    assert {event.cpu for event in evidence.events[-5:]} == {1}


def test_a_record_without_its_dump_still_says_where() -> None:
    line = b"186: v=06 e=0000 i=0 cpl=3 IP=0023:0000000000435b98 pc=...435b98 SP=001b:...01002fb0\n"
    evidence = log_evidence(read_log([line]))
    assert evidence.events[0].registers.rip == 0x435B98
    assert evidence.events[0].registers.cpl == 3
    assert evidence.cpus[0].registers.rip == 0x435B98


def test_a_jump_to_zero_is_a_place_too() -> None:
    text = ("check_exception old: 0xffffffff new 0xe\n" + record("0e")).replace(
        "00100000", "00000000"
    )
    assert log_evidence(read_log([text.encode()])).cpus[0].registers.rip == 0


def test_pasted_with_quotes_and_fixed_spaces() -> None:
    pasted = LONG.replace(b"     0: v=", b"\xc2\xa0 \xc2\xa0 0: v=").replace(b"\n", b"\r\n")
    assert chain(read_log([pasted])) == chain(read_log([LONG]))
    quoted = b"".join(b"> " + line + b"\n" for line in LONG.split(b"\n"))
    assert chain(read_log([quoted])) == chain(read_log([LONG]))


@pytest.mark.parametrize("step", [1, 7, 1000])
def test_chunks_do_not_matter(step: int) -> None:
    chunks = [LONG[at : at + step] for at in range(0, len(LONG), step)]
    assert read_log(chunks) == read_log([LONG])


def test_truncation_anywhere_loses_only_what_is_cut() -> None:
    whole = read_log([LONG]).exceptions
    for end in range(0, len(LONG), 97):
        seen = read_log([LONG[:end]]).exceptions
        settled = [event.vector for event in seen][:-1]
        assert settled == [event.vector for event in whole][: len(settled)]


def test_a_long_log_needs_little_memory_and_keeps_the_death() -> None:
    noise = (record("80", 1) + record("20")).encode() * 2000
    reader = LogReader(head=64 << 10, tail=256 << 10)
    tracemalloc.start()
    reader.feed(LONG)
    for _ in range(16):
        reader.feed(noise)
    log = reader.result()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert reader.length > 16 << 20 and peak < 12 << 20
    assert log.triple_faults == 1 and chain(log)[-1][0] is EventKind.TRIPLE_FAULT
    assert log.unread > 12 << 20


def test_floods_are_bounded() -> None:
    text = ("check_exception old: 0xffffffff new 0x6\n" + record("06")) * 1000 + record(
        "80", 1
    ) * 500
    events = read_log([text.encode()]).events
    assert len(events) == MAX_FIRST + MAX_EXCEPTIONS + MAX_INTERRUPTS
    assert events[0].sequence == 0


def test_the_start_of_an_ap_is_found_in_the_middle_of_a_flood() -> None:
    flood = ("check_exception old: 0xffffffff new 0xe\n" + record("0e")) * 4000
    sent = "apic_mem_writel 0x310 = 0x01000000\napic_mem_writel 0x300 = 0x{}\n"
    reader = LogReader()
    for part in (flood, sent.format("0000c500"), flood, sent.format("0000060f"), flood):
        reader.feed(part.encode())
    ipis = log_evidence(reader.result()).ipis
    assert [(ipi.kind, ipi.destination) for ipi in ipis] == [
        (IpiKind.INIT, 1),
        (IpiKind.SIPI, 1),
    ]


def test_a_start_in_x2apic_mode_is_found_in_the_middle_of_a_flood_too() -> None:
    """QEMU 8.1 and later trace the register; a timer writes others all the time."""
    line = "apic_register_write register 0x{} = 0x{}\n".format
    flood = (line("38", "2580de") + line("0b", "0") + line("30", "100004039")) * 120_000
    reader = LogReader()
    for part in (flood, line("30", "10000c500"), flood, line("30", "100000602"), flood):
        for at in range(0, len(part), 65_521):  # some lines are cut in two
            reader.feed(part[at : at + 65_521].encode())
    ipis = log_evidence(reader.result()).ipis
    starts = [ipi for ipi in ipis if ipi.kind is not IpiKind.FIXED]
    assert [(ipi.kind, ipi.destination, ipi.vector) for ipi in starts] == [
        (IpiKind.INIT, 1, None),
        (IpiKind.SIPI, 1, 2),
    ]


def test_a_write_behind_the_first_word_of_a_register_is_one_to_it() -> None:
    """A kernel that copies a register's 16 bytes: the zeros behind overwrite the destination."""
    words = [(0x310, 0x01000000), (0x314, 0), (0x318, 0), (0x31C, 0), (0x300, 0xC500)]
    text = "".join(f"apic_mem_writel 0x{at:x} = 0x{value:08x}\n" for at, value in words)
    (ipi,) = log_evidence(read_log([text.encode()])).ipis
    assert (ipi.kind, ipi.destination) == (IpiKind.INIT, 0)


def test_no_escape_sequence_survives() -> None:
    log = read_log([b"qemu: \x1b]0;x\x07fatal: \x1b[31mred\n7\x1b[2Jodd\n"])
    assert all(text.isprintable() for text in (*log.messages, *log.odd_lines))
    assert log.messages


@settings(max_examples=150, deadline=None)
@given(st.lists(st.binary(max_size=200), max_size=5))
def test_any_bytes_are_read_without_error(chunks: list[bytes]) -> None:
    log_evidence(read_log(chunks))


@settings(max_examples=150, deadline=None)
@given(st.randoms(use_true_random=False))
def test_damaged_logs_are_read_without_error(source: random.Random) -> None:
    damaged = bytearray(LONG[-6000:])
    for _ in range(source.randrange(1, 40)):
        at = source.randrange(len(damaged))
        if source.random() < 0.5:
            damaged[at] = source.randrange(256)
        else:
            del damaged[at : at + source.randrange(100)]
    evidence = log_evidence(read_log([bytes(damaged)]))
    assert len(evidence.events) <= MAX_FIRST + MAX_EXCEPTIONS + MAX_INTERRUPTS
    assert replace(evidence) is not None


@settings(max_examples=300, deadline=None)
@given(st.lists(st.integers(0, 300), max_size=30), st.integers(0, 400), st.integers(1, 400))
def test_an_excerpt_is_a_part_of_its_stream(sizes: list[int], head: int, tail: int) -> None:
    source = random.Random(1)
    excerpt = Excerpt(head, tail, (b"MARK",), before=20, after=30, windows=3)
    stream = b""
    for size in sizes:
        chunk = bytes(source.choice(b"MARKxyz") for _ in range(size)) + b"MARK" * (size % 7 == 3)
        stream += chunk
        excerpt.feed(chunk)
    pieces = excerpt.pieces()
    for piece in pieces:
        assert stream[piece.start : piece.end] == piece.data
    assert all(a.end < b.start for a, b in zip(pieces, pieces[1:]))
    kept = {at for piece in pieces for at in range(piece.start, piece.end)}
    assert set(range(max(0, len(stream) - tail), len(stream))) <= kept
    assert set(range(min(head, len(stream)))) <= kept
    last = stream.rfind(b"MARK")
    if last >= 0:
        assert set(range(max(0, last - 20), min(len(stream), last + 30))) <= kept


@given(st.lists(st.integers(1, 9), min_size=1, max_size=200), st.integers(0, 9))
def test_markers_with_a_stem_are_those_without(sizes: list[int], seed: int) -> None:
    source = random.Random(seed)
    words = (b"write = a1 ", b"write = a2 ", b"write = b1 ", b"end", b"wri", b"\n")
    stream = b"".join(source.choice(words) for _ in range(sum(sizes)))
    markers = (b"write = a1", b"write = b1", b"end")
    plain = Excerpt(0, 1, markers, before=4, after=14, windows=3)
    stemmed = Excerpt(0, 1, markers, before=4, after=14, windows=3, stem=b"write = ")
    at = 0
    for size in (*sizes, len(stream)):
        plain.feed(stream[at : at + size])
        stemmed.feed(stream[at : at + size])
        at += size
    assert stemmed.pieces() == plain.pieces()
    assert stemmed.counts == {marker: stream.count(marker) for marker in markers}


def test_of_the_resets_behind_a_death_the_first_of_each_cpu_is_that_of_the_death() -> None:
    died = b"check_exception old: 0x8 new 0xe\nTriple fault\n"
    first = b"CPU Reset (CPU 0)\nEAX=80000010\nEIP=00000288\nCR0=80000010 CR2=00000020\n"
    rebooted = b"CPU Reset (CPU 0)\nEAX=00000006\nEIP=000ef348\nCR0=00000011 CR2=00000000\n"
    evidence = log_evidence(read_log([died + first + rebooted]))
    assert evidence.cpus[0].registers.rip == 0x288
    before = b"check_exception old: 0xffffffff new 0xe\n" + died + first
    again = log_evidence(read_log([before + died + first.replace(b"288", b"299") + rebooted]))
    assert again.cpus[0].registers.rip == 0x299
