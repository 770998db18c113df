# SPDX-License-Identifier: BSD-2-Clause
"""Mends a stream with the record in memory: what tore or was lost is put back, marked as such.

Both name a CPU's events in the same order, so the stream of a CPU is a subsequence of what the
CPU recorded.  They are aligned from the end, where the record is complete; what the ring has
overwritten is known from the stream alone.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, replace
from typing import Mapping, NamedTuple, Optional, Sequence

from debug.evidence import StageEvent
from debug.stages.memory import CpuRecord


@dataclass(frozen=True)
class Repair:
    """The mended events, in the stream's order.

    Events of the stream carry the TSC of their entry; restored ones have source "memory" and
    damaged=True.  `restored` counts them by APIC ID; `disagreements` are events of the stream
    that the record should hold and does not.
    """

    events: tuple[StageEvent, ...]
    restored: Mapping[int, int]
    disagreements: tuple[StageEvent, ...] = ()


class _Aligned(NamedTuple):
    """One run of a CPU in the stream (as positions there) beside its record."""

    run: Sequence[int]
    record: CpuRecord
    entry_of: Mapping[int, int]  # position in the stream -> index in the record
    unmatched: Sequence[int]  # positions that the record should hold and does not


class _Placed(NamedTuple):
    """A restored event and its place: after the stream's event `position`."""

    position: float
    order: int
    event: StageEvent


def repair(stream: Sequence[StageEvent], records: Sequence[CpuRecord]) -> Repair:
    """Merge a stream's events (any number of CPUs) with the records of one machine.

    A CPU that was started again has several runs in the stream and, unless the machine was reset
    between them, several records; the last run belongs to the last record, and so on.
    """
    aligned = _align_all(stream, records)
    clock = _Clock.of(aligned)
    events = list(stream)
    added: list[_Placed] = []
    for part in aligned:
        for position, entry in part.entry_of.items():
            events[position] = replace(events[position], tsc=part.record.events[entry].tsc)
        added += _missing(part, clock)
    added += [_Placed(float(n), 0, event) for n, event in enumerate(events)]
    added.sort(key=lambda placed: (placed.position, placed.order))
    return Repair(
        tuple(placed.event for placed in added),
        _restored(aligned),
        tuple(stream[n] for n in sorted(n for part in aligned for n in part.unmatched)),
    )


def begins_anew(first: StageEvent, last: StageEvent, event: StageEvent) -> bool:
    """Whether a CPU's `event` begins another run: its first stage again, out of sequence.

    `first` and `last` are the first and the latest event of its current run.
    """
    if event.sequence != 0 or first.sequence != 0 or event.code != first.code:
        return False
    return last.sequence != 15


def _restored(aligned: Sequence[_Aligned]) -> dict[int, int]:
    counts: dict[int, int] = {}
    for part in aligned:
        missing = len(part.record.events) - len(part.entry_of)
        if missing:
            apic_id = part.record.apic_id
            counts[apic_id] = counts.get(apic_id, 0) + missing
    return counts


def _runs(stream: Sequence[StageEvent]) -> dict[int, list[list[int]]]:
    """Positions in the stream by APIC ID, a new list wherever the CPU begins anew."""
    runs: dict[int, list[list[int]]] = {}
    for position, event in enumerate(stream):
        cpu = runs.setdefault(event.apic_id, [])
        if not cpu or begins_anew(stream[cpu[-1][0]], stream[cpu[-1][-1]], event):
            cpu.append([])
        cpu[-1].append(position)
    return runs


def _align_all(stream: Sequence[StageEvent], records: Sequence[CpuRecord]) -> list[_Aligned]:
    """Each record beside its run; a CPU that the stream does not know has an empty one."""
    runs = _runs(stream)
    slots: dict[int, list[CpuRecord]] = {}
    for record in records:
        slots.setdefault(record.apic_id, []).append(record)
    return [
        _align(stream, run, record)
        for apic_id, own in slots.items()
        for run, record in _last_with_last(runs.get(apic_id, []), own)
    ]


def _last_with_last(
    runs: Sequence[Sequence[int]], records: Sequence[CpuRecord]
) -> list[tuple[Sequence[int], CpuRecord]]:
    empty: list[Sequence[int]] = [()] * max(0, len(records) - len(runs))
    return list(zip([*empty, *runs[len(runs) - len(records) + len(empty) :]], records))


def _align(stream: Sequence[StageEvent], run: Sequence[int], record: CpuRecord) -> _Aligned:
    """From the end: each event with the latest entry that is the same and still free."""
    entries: dict[tuple[int, Optional[int], Optional[int]], list[int]] = {}
    for index, event in enumerate(record.events):
        entries.setdefault(_key(event), []).append(index)
    entry_of: dict[int, int] = {}
    unmatched: list[int] = []
    free = len(record.events)
    for position in reversed(run):
        candidates = entries.get(_key(stream[position]), [])
        while candidates and candidates[-1] >= free:
            candidates.pop()
        if candidates:
            free = candidates.pop()
            entry_of[position] = free
        else:
            unmatched.append(position)
    if record.overwritten:  # the ring no longer holds what came before its oldest entry
        oldest = min(entry_of, default=None)
        unmatched = [n for n in unmatched if oldest is not None and n > oldest]
    return _Aligned(run, record, entry_of, unmatched)


def _key(event: StageEvent) -> tuple[int, Optional[int], Optional[int]]:
    return event.code, event.argument, event.sequence


class _Clock(NamedTuple):
    """When the stream was where: running maxima of the TSCs that are known."""

    times: Sequence[int]
    positions: Sequence[int]

    @classmethod
    def of(cls, aligned: Sequence[_Aligned]) -> "_Clock":
        known = sorted(
            (position, part.record.events[entry].tsc or 0)
            for part in aligned
            for position, entry in part.entry_of.items()
        )
        times: list[int] = []
        for _, tsc in known:
            times.append(max(tsc, times[-1]) if times else tsc)
        return cls(times, [position for position, _ in known])

    def position(self, tsc: Optional[int]) -> int:
        """The last position that is not later than `tsc`, -1 if there is none."""
        index = bisect_right(self.times, tsc or 0)
        return self.positions[index - 1] if index else -1


def _missing(part: _Aligned, clock: _Clock) -> list[_Placed]:
    """The record's entries that the stream lacks, each where its TSC and its CPU's order put it."""
    position_of = {entry: position for position, entry in part.entry_of.items()}
    result: list[_Placed] = []
    own = -1
    following = _following(part, position_of)
    for index, event in enumerate(part.record.events):
        if index in position_of:
            own = position_of[index]
            continue
        limit = following[index]
        place = max(own, clock.position(event.tsc))
        position = place + 0.5 if limit is None else min(place + 0.5, limit - 0.5)
        own = max(own, int(position))
        result.append(_Placed(position, index, replace(event, damaged=True)))
    return result


def _following(part: _Aligned, position_of: Mapping[int, int]) -> list[Optional[int]]:
    """For each entry the stream's position of the next entry that the stream has."""
    result: list[Optional[int]] = [None] * len(part.record.events)
    following: Optional[int] = None
    for index in range(len(part.record.events) - 1, -1, -1):
        following = position_of.get(index, following)
        result[index] = following
    return result
