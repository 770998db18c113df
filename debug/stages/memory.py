# SPDX-License-Identifier: BSD-2-Clause
"""The stage record in memory (docs/stage-codes.md "The record in memory").

What a CPU wrote before it died, read from physical memory.  Nothing in it is trusted: sizes are
bounded, and what does not fit becomes a sentence in `problems`.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Optional

from debug.evidence import Memory, StageEvent
from debug.x86.patterns import occurrences

MAGIC = b"LAMPTRC1"
FIRST_MIB = 0x100000
MAX_SLOTS = 4096
MAX_CAPACITY = 1 << 16  # entries of one ring
MAX_EVENTS = 1 << 18  # of all rings together
UNCLAIMED = 0xFFFFFFFF

_PAGE = 0x1000
_ALIGNMENT = 64
_HEADER_SIZE = 64
_ENTRY_SIZE = 16
_CONTROL = struct.Struct("<8sIIQIIIIQ")
_HEADER = struct.Struct("<IIQIBBBx32s")
_ENTRY = struct.Struct("<QIBBH")
_HAS_ARGUMENT = 1
_MEMORY_ALONE = 4  # of the sinks: stages are stamped, and are not in the count


@dataclass(frozen=True)
class Control:
    """The control block; `owner` is the slot whose CPU holds the lock, None when it is free."""

    address: int  # physical
    owner: Optional[int]
    generation: int
    sinks: int  # 1 port 0xE9, 2 COM1, 4 memory
    steal_after: int  # TSC cycles
    steals: int
    slots: int
    record_bytes: int
    records: int  # physical address of slot 0


@dataclass(frozen=True)
class CpuRecord:
    """What one CPU wrote: the entries that are still there, oldest first.

    `count` entries were written in all; event i of `events` is entry number `numbers[i]`.
    """

    slot: int
    apic_id: int
    count: int
    events: tuple[StageEvent, ...]
    numbers: tuple[int, ...]
    frame: str  # text of the last frame, printable ASCII

    @property
    def is_bsp(self) -> bool:
        return self.slot == 0

    @property
    def overwritten(self) -> int:
        """How many of the oldest entries the ring no longer holds."""
        return self.numbers[0] if self.numbers else self.count


@dataclass(frozen=True)
class MemoryTrace:
    """The whole record; `control` is None when there is none, and `problems` says why."""

    control: Optional[Control]
    cpus: tuple[CpuRecord, ...] = ()
    problems: tuple[str, ...] = ()

    @property
    def lock_owner(self) -> Optional[CpuRecord]:
        """The CPU that holds the trace lock, None when it is free or the slot is unknown."""
        owner = self.control.owner if self.control else None
        return next((cpu for cpu in self.cpus if cpu.slot == owner), None)

    def events(self) -> tuple[StageEvent, ...]:
        """All events, CPU by CPU."""
        return tuple(event for cpu in self.cpus for event in cpu.events)


def find_control(memory: Memory) -> Optional[int]:
    """The physical address of the first plausible control block below 1 MiB, None without one."""
    candidates = []
    for page in range(0, FIRST_MIB, _PAGE):
        data = memory.read(page, _PAGE)
        if data is None:
            continue
        candidates += [page + at for at in occurrences(data, MAGIC) if at % _ALIGNMENT == 0]
    return next((a for a in candidates if isinstance(_control(memory, a), Control)), None)


def read_memory(memory: Memory, address: Optional[int] = None) -> MemoryTrace:
    """The record whose control block is at `address` (physical), or is found by its magic."""
    if address is None:
        address = find_control(memory)
        if address is None:
            return MemoryTrace(None, (), ("no stage record in the first MiB of memory",))
    control = _control(memory, address)
    if isinstance(control, str):
        return MemoryTrace(None, (), (control,))
    cpus: list[CpuRecord] = []
    problems: list[str] = []
    budget = MAX_EVENTS
    for slot in range(min(control.slots, MAX_SLOTS)):
        record = _record(memory, control, slot, budget)
        if isinstance(record, str):
            problems.append(f"slot {slot}: {record}")
        elif record is not None:
            cpu, lines = record
            budget -= len(cpu.events)
            cpus.append(cpu)
            problems += [f"slot {slot}: {line}" for line in lines]
    return MemoryTrace(control, tuple(cpus), tuple(problems))


def _read(memory: Memory, address: int, length: int) -> Optional[bytes]:
    if address + length > 1 << 52:
        return None
    data = memory.read(address, length)
    return data if data is not None and len(data) == length else None


def _control(memory: Memory, address: int) -> Control | str:
    """The control block, or why it is none."""
    data = _read(memory, address, _CONTROL.size)
    if data is None:
        return f"the memory at {address:#x} can't be read"
    magic, lock, sinks, steal_after, steals, slots, _, size, records = _CONTROL.unpack(data)
    if magic != MAGIC:
        return f"no stage record at {address:#x}: the magic is not LAMPTRC1"
    if not 0 < slots <= MAX_SLOTS or size < _HEADER_SIZE or size > 1 << 24:
        return f"the stage record at {address:#x} is damaged: {slots} slots of {size} bytes"
    owner = (lock & 0xFFFF) - 1 if lock & 0xFFFF else None
    return Control(address, owner, lock >> 16, sinks, steal_after, steals, slots, size, records)


def _record(
    memory: Memory, control: Control, slot: int, budget: int
) -> tuple[CpuRecord, list[str]] | str | None:
    """One slot with its problems, a problem alone, or None when nobody claimed it."""
    data = _read(memory, control.records + slot * control.record_bytes, _HEADER.size)
    if data is None:
        return "its header can't be read"
    apic_id, count, entries, capacity, _, _, length, text = _HEADER.unpack(data)
    if apic_id == UNCLAIMED or (count == 0 and capacity == 0):
        return None
    frame = "".join(chr(c) for c in text[: min(length, 32)] if 0x20 <= c <= 0x7E)
    if not 0 < capacity <= MAX_CAPACITY:
        return f"APIC ID {apic_id}: a ring of {capacity} entries, expected 1 to {MAX_CAPACITY}"
    stamped = control.sinks == _MEMORY_ALONE and count < capacity
    present = capacity if stamped else min(count, capacity)
    if present > budget:
        return f"APIC ID {apic_id}: more entries than are read of one machine ({MAX_EVENTS})"
    ring = _read(memory, entries, present * _ENTRY_SIZE) if present else b""
    if ring is None:
        return f"APIC ID {apic_id}: its entries at {entries:#x} can't be read"
    last = _last_stamp(ring, count, capacity) if stamped else count
    events, numbers, problems = _entries(ring, apic_id, last, capacity, count)
    return CpuRecord(slot, apic_id, last, events, numbers, frame), problems


def _last_stamp(ring: bytes, count: int, capacity: int) -> int:
    """How many entries there are, with those behind the count that hold a time."""
    for number in range(capacity - 1, count - 1, -1):
        if _ENTRY.unpack_from(ring, number * _ENTRY_SIZE)[0]:
            return number + 1
    return count


def _entries(
    ring: bytes, apic_id: int, count: int, capacity: int, stamps: int
) -> tuple[tuple[StageEvent, ...], tuple[int, ...], list[str]]:
    """The ring's entries, oldest first, those left out that are not what they should be.

    From entry number `stamps` on they are stamps: one without a time was passed by.
    """
    events: list[StageEvent] = []
    numbers: list[int] = []
    wrong = 0
    for number in range(max(0, count - capacity), count):
        at = number % capacity * _ENTRY_SIZE
        tsc, argument, code, flags, low = _ENTRY.unpack_from(ring, at)
        if number >= stamps:
            if not tsc:
                continue
            if events:  # the CPU may have stopped with half a time written
                tsc = max(tsc, events[-1].tsc or 0)
        if low != number & 0xFFFF:
            wrong += 1
            continue
        value = argument if flags & _HAS_ARGUMENT else None
        events.append(StageEvent(apic_id, code, value, number & 15, tsc, "memory"))
        numbers.append(number)
    problems = []
    if wrong:
        problems.append(f"APIC ID {apic_id}: {wrong} entries are not the ones that belong there")
    return tuple(events), tuple(numbers), problems
