# SPDX-License-Identifier: BSD-2-Clause
"""The record in memory: read from hostile memory, and used to mend a torn stream."""

from __future__ import annotations

import random
import struct
from typing import Optional

from hypothesis import given, settings
from hypothesis import strategies as st

from debug.evidence import StageEvent
from debug.stages.checksum import encode
from debug.stages.memory import MAGIC, CpuRecord, find_control, read_memory
from debug.stages.repair import repair
from debug.stages.trace import decode

CONTROL, RECORDS, STRIDE, BSP_RING = 0x9000, 0xA000, 64 + 16 * 16, 0x120000
Message = tuple[int, Optional[int], int]  # code, argument, tsc


class Image:
    """Physical memory that is there in pages."""

    def __init__(self, size: int = 0x140000) -> None:
        self.data = bytearray(size)
        self.unreadable: set[int] = set()

    def read(self, physical: int, length: int) -> Optional[bytes]:
        pages = range(physical >> 12, (physical + length + 0xFFF) >> 12)
        if physical + length > len(self.data) or self.unreadable.intersection(pages):
            return None
        return bytes(self.data[physical : physical + length])


def build(cpus: dict[int, list[Message]], lock: int = 0, capacity: int = 16) -> Image:
    """Memory as the kernel leaves it; the first CPU is the BSP with a ring of its own."""
    image = Image()
    struct.pack_into(
        "<8sIIQIIIIQ",
        image.data,
        CONTROL,
        MAGIC,
        lock,
        7,
        10**6,
        0,
        8,
        len(cpus),
        STRIDE,
        RECORDS,
    )
    for slot in range(8):
        struct.pack_into("<I", image.data, RECORDS + slot * STRIDE, 0xFFFFFFFF)
    for slot, (apic_id, messages) in enumerate(cpus.items()):
        header = RECORDS + slot * STRIDE
        ring = header + 64 if slot else BSP_RING
        size = capacity if slot else 1024
        frame = b"@03:60.c*5a\n"
        struct.pack_into(
            "<IIQIBBBx32s",
            image.data,
            header,
            apic_id,
            len(messages),
            ring,
            size,
            4,
            0,
            len(frame),
            frame,
        )
        for number, (code, argument, tsc) in enumerate(messages):
            struct.pack_into(
                "<QIBBH",
                image.data,
                ring + number % size * 16,
                tsc,
                argument or 0,
                code,
                argument is not None,
                number & 0xFFFF,
            )
    return image


def test_the_record_is_found_and_read() -> None:
    image = build({0: [(0xB8, None, 5), (0xC3, 3, 9)], 3: [(0x10, None, 12)]}, lock=0x00070002)
    trace = read_memory(image)
    assert trace.control is not None and trace.problems == ()
    assert (trace.control.address, trace.control.generation) == (CONTROL, 7)
    assert [cpu.apic_id for cpu in trace.cpus] == [0, 3]
    assert trace.cpus[0].events[1] == StageEvent(0, 0xC3, 3, 1, 9, "memory")
    assert trace.lock_owner is trace.cpus[1]
    assert trace.cpus[0].is_bsp and trace.cpus[1].frame == "@03:60.c*5a"


def test_a_ring_that_went_round_gives_what_it_still_holds() -> None:
    image = build({0: [], 1: [(0x10 + n % 5, n, n) for n in range(40)]})
    (cpu,) = (cpu for cpu in read_memory(image).cpus if cpu.apic_id == 1)
    assert [event.argument for event in cpu.events] == list(range(24, 40))
    assert (cpu.count, cpu.overwritten, cpu.events[0].sequence) == (40, 24, 8)


def test_no_record_says_so() -> None:
    trace = read_memory(Image())
    assert trace.control is None
    assert trace.problems == ("no stage record in the first MiB of memory",)
    assert read_memory(Image(), 0x9000).problems[0].startswith("no stage record at 0x9000")
    assert "can't be read" in read_memory(Image(), 1 << 60).problems[0]


def test_a_stray_magic_is_passed_over() -> None:
    image = build({0: [(0xB8, None, 5)]})
    image.data[0x500:0x508] = MAGIC  # unaligned to 64? 0x500 is aligned, but no slots follow
    image.data[0x7C0:0x7C8] = MAGIC
    assert find_control(image) == CONTROL


def test_unreadable_entries_are_a_problem_and_not_the_end() -> None:
    image = build({0: [(0xB8, None, 5)], 1: [(0x10, None, 6)]})
    image.unreadable.add(BSP_RING >> 12)
    trace = read_memory(image)
    assert [cpu.apic_id for cpu in trace.cpus] == [1]
    assert trace.problems == (f"slot 0: APIC ID 0: its entries at {BSP_RING:#x} can't be read",)


@given(st.lists(st.tuples(st.integers(0, 0xFFF), st.integers(0, 255)), max_size=60))
@settings(deadline=None, max_examples=60)
def test_damaged_memory_is_read_without_an_exception(wounds: list[tuple[int, int]]) -> None:
    image = build({0: [(0xB8, None, 5)] * 9, 1: [(0x10, None, 6)] * 9})
    for at, value in wounds:
        base = CONTROL if at < 64 else RECORDS
        image.data[base + at] = value
    trace = read_memory(image, CONTROL)
    assert sum(len(cpu.events) for cpu in trace.cpus) <= 1 << 18


def history(cpus: int, length: int, seed: int) -> tuple[list[StageEvent], list[CpuRecord]]:
    """A machine's true history: the stream in order, and each CPU's record of it."""
    chance = random.Random(seed)
    numbers = [0] * cpus
    stream: list[StageEvent] = []
    for tsc in range(length):
        cpu = chance.randrange(cpus)
        code = 0x10 + numbers[cpu] % 50
        argument = chance.choice([None, 1, 2])
        stream.append(StageEvent(cpu, code, argument, numbers[cpu] % 16, tsc, "memory"))
        numbers[cpu] += 1
    records = []
    for cpu in range(cpus):
        own = tuple(event for event in stream if event.apic_id == cpu)
        records.append(CpuRecord(cpu, cpu, len(own), own, tuple(range(len(own))), ""))
    return stream, records


def bare(events: object) -> list[tuple[int, int, Optional[int]]]:
    return [(e.apic_id, e.code, e.argument) for e in events]  # type: ignore[attr-defined]


@given(st.integers(1, 6), st.integers(0, 120), st.integers(0, 10**6), st.floats(0, 1))
def test_whatever_is_lost_comes_back_in_order(
    cpus: int, length: int, seed: int, kept: float
) -> None:
    truth, records = history(cpus, length, seed)
    chance = random.Random(seed + 1)
    survivors = [event for event in truth if chance.random() < kept]
    stream = [StageEvent(e.apic_id, e.code, e.argument, e.sequence, None, "e9") for e in survivors]
    mended = repair(stream, records)
    for cpu in range(cpus):
        assert bare(e for e in mended.events if e.apic_id == cpu) == bare(records[cpu].events)
    assert [e for e in mended.events if not e.damaged] == [
        StageEvent(e.apic_id, e.code, e.argument, e.sequence, e.tsc, "e9")
        for e in mended.events
        if not e.damaged
    ]
    assert sum(mended.restored.values()) == length - len(survivors)
    assert mended.disagreements == ()
    assert all(e.source == "memory" for e in mended.events if e.damaged)


def test_with_time_stamps_the_order_between_cpus_comes_back_too() -> None:
    truth, records = history(3, 60, 7)
    stream = [
        StageEvent(e.apic_id, e.code, e.argument, e.sequence, None, "e9")
        for n, e in enumerate(truth)
        if n % 7
    ]
    assert [e.tsc for e in repair(stream, records).events] == list(range(60))


def test_a_torn_frame_is_restored_from_memory() -> None:
    codes = (0x10, 0x11, 0x12, 0x13)
    image = build({0: [(0xB8, None, 1)], 3: [(code, None, 10 + code) for code in codes]})
    frames = [encode(3, code, None, n) for n, code in enumerate(codes)]
    data = encode(0, 0xB8, None, 0) + frames[0] + frames[1][:5] + frames[2] + frames[3][:7]
    trace = decode(data)
    mended = repair(trace.events("e9"), read_memory(image).cpus)
    assert [e.code for e in mended.events if e.apic_id == 3] == list(codes)
    assert [e.damaged for e in mended.events if e.apic_id == 3] == [False, True, False, True]
    assert mended.restored == {3: 2}


def test_what_the_ring_overwrote_stays_from_the_stream() -> None:
    messages: list[Message] = [(0x10 + n, None, n) for n in range(40)]
    image = build({0: [], 1: messages})
    stream = b"".join(encode(1, code, None, n) for n, (code, _, _) in enumerate(messages))
    mended = repair(decode(stream).events("e9"), read_memory(image).cpus)
    assert [e.code for e in mended.events] == [code for code, _, _ in messages]
    assert mended.restored == {} and mended.disagreements == ()


def test_a_frame_that_the_record_does_not_know_is_a_disagreement() -> None:
    image = build({0: [(0xB8, None, 1), (0xB9, None, 2)]})
    data = encode(0, 0xB8, None, 0) + encode(0, 0x44, None, 1)
    mended = repair(decode(data).events("e9"), read_memory(image).cpus)
    assert [event.code for event in mended.disagreements] == [0x44]


def test_only_the_last_run_is_mended_after_a_reset() -> None:
    image = build({0: [], 1: [(0x10, None, 1), (0x11, None, 2), (0x12, None, 3)]})
    first = encode(1, 0x10, None, 0) + encode(1, 0x11, None, 1)
    again = encode(1, 0x10, None, 0) + encode(1, 0x12, None, 2)
    mended = repair(decode(first + again).events("e9"), read_memory(image).cpus)
    assert [event.code for event in mended.events] == [0x10, 0x11, 0x10, 0x11, 0x12]
    assert [event.damaged for event in mended.events] == [False, False, False, True, False]
