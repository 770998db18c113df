# SPDX-License-Identifier: BSD-2-Clause
"""Level-triggered lines that nobody silences, from looks at the I/O APIC some moments apart.  Pure.

A CPU that may take such an interrupt takes it at once, and again behind each EOI while the device
keeps the line active [SDM 3A "Signaling Interrupt Servicing Completion"].
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Mapping, Optional, Sequence

from debug.evidence import HeldLine
from debug.sources.qemu_text import parse_io_apics, parse_lapic, parse_registers, split_cpus
from debug.x86.registers import Rflags

ENOUGH = 3  # moments
_MASKED, _LEVEL, _LOGICAL = 1 << 16, 1 << 15, 1 << 11
_VECTOR, _DESTINATION = 0xFF, 56
_ACTIVE = re.compile(r"^\s*IRR\s+((?:[0-9]{1,3} +)+)\r?$", re.M)


@dataclass(frozen=True)
class Look:
    """One moment: the monitor's `info registers -a`, `info pic`, and `info lapic` by APIC ID."""

    registers: str
    controllers: str
    lapics: Mapping[int, str]


def destinations(controllers: str) -> frozenset[int]:
    """The APIC IDs that the active lines of that moment interrupt."""
    return frozenset(entry >> _DESTINATION for entry in _active(controllers).values())


def held(looks: Sequence[Look], indices: Mapping[int, int]) -> tuple[HeldLine, ...]:
    """The lines that were active each time; `indices`: the CPUs' indices by APIC ID."""
    if len(looks) < ENOUGH:
        return ()
    seen = [_active(look.controllers) for look in looks]
    found = []
    for pin, entry in seen[0].items():
        vector, destination = entry & _VECTOR, entry >> _DESTINATION
        same = {(one.get(pin, 0) & _VECTOR, one.get(pin, 0) >> _DESTINATION) for one in seen}
        index = indices.get(destination)
        if index is None or same != {(vector, destination)}:
            continue
        taken = sum(_takes(look, index, destination, vector) for look in looks)
        found.append(HeldLine(pin, vector, index, len(looks), taken))
    return tuple(found)


def _active(controllers: str) -> dict[int, int]:
    """The redirection entries, by pin, of active lines that interrupt one CPU by its APIC ID."""
    apics, lines = parse_io_apics(controllers), _ACTIVE.search(controllers)
    if apics is None or len(apics) != 1 or lines is None:
        return {}
    entries = dict(enumerate(apics[0]))
    active = ((pin, entries.get(pin, _MASKED)) for pin in map(int, lines[1].split()))
    return {
        pin: entry
        for pin, entry in active
        if entry & _LEVEL and not entry & (_MASKED | _LOGICAL) and entry & _VECTOR
    }


def _takes(look: Look, index: int, apic_id: int, vector: int) -> bool:
    """Whether nothing keeps that CPU from taking the interrupt."""
    registers = parse_registers(split_cpus(look.registers).get(index, ""))[0]
    apic = parse_lapic(look.lapics.get(apic_id, ""))
    if apic is None or not (registers.rflags or 0) & Rflags.IF:
        return False
    priorities: tuple[Optional[int], ...] = (apic.tpr, *apic.isr)
    held_back = any((one or 0) >> 4 >= vector >> 4 for one in priorities)
    return apic.on and not held_back
