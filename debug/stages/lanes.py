# SPDX-License-Identifier: BSD-2-Clause
"""The way of each CPU through the stages: what the timeline, the SVG and the JSON show.

Whether a CPU arrived is told by the names that lamppost's own table gives its stages; under
another table, or before a telling stage, it stays unknown.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Iterable, Optional

from debug.evidence import StageEvent
from debug.stages.model import StageTable
from debug.stages.repair import begins_anew

MAX_LANES = 8192

_ARRIVED = ("AP_ONLINE", "AP_BARRIER", "AP_SCHEDULER", "AP_INTERRUPTS")
_ARRIVED_BSP = ("BSP_ALL_ONLINE", "BSP_BARRIER", "BSP_SCHEDULER", "BSP_INTERRUPTS", "BSP_EXIT")
_FAILED = ("AP_ABANDONED", "AP_UNKNOWN", "EXCEPTION", "PANIC", "STOPPED", "BOOT_ERROR")


@dataclass(frozen=True)
class Lane:
    """One run of one CPU; `run` counts from 0 when it was started again.

    `arrived` is None where the stages do not tell.
    """

    apic_id: int
    run: int
    is_bsp: bool
    events: tuple[StageEvent, ...]
    places: tuple[int, ...]  # of the events in the whole trace
    arrived: Optional[bool]

    @property
    def label(self) -> str:
        """`CPU 3`, with its run where there was more than one."""
        again = f" run {self.run + 1}" if self.run else ""
        return f"CPU {self.apic_id}{again}"


def lanes(events: Iterable[StageEvent], table: StageTable) -> tuple[Lane, ...]:
    """The lanes of a trace, the BSP's first, then by APIC ID."""
    runs: dict[int, list[list[StageEvent]]] = {}
    places: dict[int, list[list[int]]] = {}
    for place, event in enumerate(events):
        if event.apic_id not in runs and len(runs) >= MAX_LANES:
            continue
        cpu = runs.setdefault(event.apic_id, [])
        if not cpu or begins_anew(cpu[-1][0], cpu[-1][-1], event):
            cpu.append([])
            places.setdefault(event.apic_id, []).append([])
        cpu[-1].append(event)
        places[event.apic_id][-1].append(place)
    result = [
        _lane(apic_id, number, run, places[apic_id][number], table)
        for apic_id, cpu in runs.items()
        for number, run in enumerate(cpu)
    ]
    return tuple(sorted(result, key=lambda lane: (not lane.is_bsp, lane.apic_id, lane.run)))


def _lane(
    apic_id: int, number: int, run: list[StageEvent], places: list[int], table: StageTable
) -> Lane:
    names = [table.name(event.code) for event in run]
    is_bsp = any(name.startswith("BSP_") for name in names)
    return Lane(apic_id, number, is_bsp, tuple(run), tuple(places), _arrived(names, is_bsp, table))


def _arrived(names: list[str], is_bsp: bool, table: StageTable) -> Optional[bool]:
    if any(name in _FAILED for name in names):
        return False
    if any(name in (_ARRIVED_BSP if is_bsp else _ARRIVED) for name in names):
        return True
    known = table.codes(_ARRIVED_BSP if is_bsp else _ARRIVED)
    ours = any(name.startswith(("AP_", "BSP_")) for name in names)
    return False if known and ours else None


@dataclass(frozen=True)
class Roll:
    """Who arrived: `present` and `online` are numbers of CPUs in their last run.

    `expected` is what the user or the machine said, None if neither did; `silent` are APIC IDs
    that the BSP sent INIT or SIPI and that never spoke.
    """

    present: int
    online: int
    expected: Optional[int]
    silent: tuple[int, ...]


def roll_call(all_lanes: Iterable[Lane], table: StageTable, expected: Optional[int]) -> Roll:
    """Count the CPUs; where `expected` is None, the number the BSP found in the MADT counts."""
    last = {lane.apic_id: lane for lane in all_lanes}
    called: dict[int, None] = {}
    woken = table.codes(("BSP_INIT_SENT", "BSP_SIPI_SENT"))
    found = table.codes(("BSP_ACPI",))
    for lane in last.values():
        for event in lane.events:
            if event.argument is None:
                continue
            if event.code in woken:
                called[event.argument] = None
            elif event.code in found and expected is None:
                expected = event.argument
    silent = tuple(sorted(apic_id for apic_id in called if apic_id not in last))
    online = sum(1 for lane in last.values() if lane.arrived)
    return Roll(len(last), online, expected, silent)


def ticks_per_us(all_lanes: Iterable[Lane], table: StageTable) -> Optional[float]:
    """The TSC's rate in cycles per microsecond, from the stage that tells it in kHz."""
    codes = table.codes(("BSP_TIME",))
    for lane in all_lanes:
        for event in lane.events:
            if event.code in codes and event.argument:
                return event.argument / 1000
    return None
