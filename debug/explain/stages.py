# SPDX-License-Identifier: BSD-2-Clause
"""What the stages mean to the explanation.

The names are those of trampoline/stages.h; a stream that uses other codes is still explained,
only without these conclusions.
"""

from __future__ import annotations

from typing import Iterable, Optional

from debug.evidence import Evidence, StageEvent
from debug.explain.model import Milestone
from debug.stages.model import StageTable
from debug.stages.table import BUILT_IN

AP_REAL16, AP_SEGMENTS, AP_GDT, AP_PE = 0x10, 0x11, 0x12, 0x13
AP_PROT32, AP_PAE, AP_CR3, AP_LME, AP_PG = 0x30, 0x31, 0x32, 0x33, 0x34
AP_LONG64, AP_IDENTIFIED, AP_LCPU_FOUND, AP_STACK, AP_FPU = 0x60, 0x61, 0x62, 0x63, 0x64
AP_ENTERING_C, AP_ABANDONED, AP_UNKNOWN = 0x65, 0x6E, 0x6F
AP_C, AP_ONLINE, AP_BARRIER, AP_SCHEDULER = 0xA0, 0xA4, 0xA5, 0xA6
AP_GS, AP_DESCRIPTORS, BSP_DESCRIPTORS = 0xA1, 0xA2, 0xBA
BSP_PROT32, BSP_HIGH, BSP_C, BSP_ACPI, BSP_APIC = 0xB0, 0xB7, 0xB8, 0xBD, 0xBE
BSP_PAE, BSP_CR3, BSP_LME, BSP_PG, BSP_LONG64 = 0xB2, 0xB3, 0xB4, 0xB5, 0xB6
BSP_TRAMPOLINE, BSP_RELOCATED, BSP_TABLES_READY = 0xC0, 0xC1, 0xC2
BSP_INIT_SENT, BSP_SIPI_SENT, BSP_AP_SEEN, BSP_AP_MISSING = 0xC3, 0xC4, 0xC5, 0xC6
BSP_ALL_ONLINE, BSP_SCHEDULER, BSP_EXIT = 0xC7, 0xC9, 0xCF
AP_APIC, AP_INTERRUPTS, BSP_INTERRUPTS = 0xA3, 0xA7, 0xCA
EXCEPTION, PANIC, STOPPED, PANIC_NESTED = 0xE0, 0xE1, 0xE2, 0xE3
BOOT_ERROR, IPI_UNANSWERED = 0xE4, 0xE5

MEMORY = "memory"  # StageEvent.source of the record in memory

AP_CODES = frozenset(range(0x10, 0x80)) | frozenset(range(0xA0, 0xB0))
BSP_CODES = frozenset(range(0xB0, 0xD0))
# A guest that lights one of these tells which of its APs came up.
ARRIVAL_CODES = frozenset(
    (AP_ONLINE, BSP_INIT_SENT, BSP_SIPI_SENT, BSP_AP_SEEN, BSP_AP_MISSING, BSP_ALL_ONLINE)
)


def by_cpu(stages: Iterable[StageEvent]) -> dict[int, list[StageEvent]]:
    """The stage events of each APIC ID, in their order.

    Of several streams the longest speaks for a CPU: each carries everything, unless it was
    damaged.  What was mended from memory belongs to the stream; memory speaks alone only where
    there is no stream.
    """
    found: dict[int, list[StageEvent]] = {}
    for event in stages:
        found.setdefault(event.apic_id, []).append(event)
    return {apic: _one_stream(events) for apic, events in found.items()}


def _one_stream(events: list[StageEvent]) -> list[StageEvent]:
    streams = [event.source for event in events if event.source != MEMORY]
    if not streams:
        return events
    best = max(dict.fromkeys(streams), key=streams.count)
    return [e for e in events if e.source == best or (e.source == MEMORY and e.damaged)]


def argument(evidence: Evidence, code: int) -> Optional[int]:
    """The argument of the last stage `code`, None if it never came or carries none."""
    for event in reversed(evidence.stages):
        if event.code == code and event.argument is not None:
            return event.argument
    return None


def arguments(evidence: Evidence, code: int) -> tuple[int, ...]:
    """The distinct arguments of all stages `code`, in order."""
    values = (e.argument for e in evidence.stages if e.code == code and e.argument is not None)
    return tuple(dict.fromkeys(values))


def describe(code: int, table: Optional[StageTable] = None) -> tuple[str, str, str]:
    """(name, what became true, what the next step needs) of a stage; generic for an unknown one.

    `table` is the guest's own, which may give codes of ours another meaning.
    """
    entry = (table or BUILT_IN).get(code)
    if entry is not None:
        return entry.name, entry.became, entry.needs
    return f"stage {code:02x}", "a stage that this table does not know", "unknown"


def said(milestone: Milestone) -> str:
    """What is true of a CPU at a milestone: its own words, or the stage's."""
    return milestone.words or describe(milestone.code)[1]
