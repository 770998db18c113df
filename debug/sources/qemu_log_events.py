# SPDX-License-Identifier: BSD-2-Clause
"""From a logged record to an event of the evidence model.  Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Optional

from debug.evidence import EventKind, ExceptionEvent, Registers
from debug.sources.qemu_text import parse_registers

CONTRIBUTORY = frozenset((0, 10, 11, 12, 13))


@dataclass
class Entry:
    """An event whose registers are not parsed yet."""

    number: int  # QEMU's record counter, which all CPUs share: the order across files
    sequence: int  # the order within this file
    kind: EventKind
    vector: int
    error_code: Optional[int] = None
    cr2: Optional[int] = None
    delivering: Optional[int] = None  # the emulator's "old": -1 for none
    dump: tuple[bytes, ...] = ()
    cpl: Optional[int] = None
    rip: Optional[int] = None  # as the record's first line has it


@dataclass(frozen=True)
class LogEvent:
    """An event and its place in the order of the whole machine."""

    number: int
    sequence: int
    event: ExceptionEvent


def event_of(entry: Entry, previous: Optional[ExceptionEvent]) -> ExceptionEvent:
    registers = Registers()
    if entry.dump:
        registers = parse_registers(b"\n".join(entry.dump).decode("ascii", "replace"))[0]
    elif entry.kind is EventKind.TRIPLE_FAULT and previous is not None:
        registers = previous.registers  # a delivery that fails leaves them as they were
    elif entry.delivering is not None and entry.delivering >= 0 and previous is not None:
        registers = previous.registers
    if registers.rip is None and entry.rip is not None:
        registers = replace(registers, rip=entry.rip)
    if registers.cpl is None and entry.cpl is not None:
        registers = replace(registers, cpl=entry.cpl)
    cr2 = entry.cr2 if entry.cr2 is not None else registers.control.get("cr2")
    return ExceptionEvent(
        kind=entry.kind,
        vector=entry.vector,
        registers=registers,
        error_code=entry.error_code,
        cr2=cr2,
        while_delivering=_delivering(entry, registers, previous),
    )


def _delivering(
    entry: Entry, registers: Registers, previous: Optional[ExceptionEvent]
) -> Optional[int]:
    """The vector whose delivery raised this one.

    QEMU remembers only contributory exceptions, #PF and #DF, so its "none" proves nothing right
    behind another vector's delivery that left the registers as they were.
    """
    if entry.delivering is None or entry.delivering >= 0:
        return entry.delivering
    if previous is None or previous.kind is EventKind.TRIPLE_FAULT:
        return -1
    unchanged = (previous.registers.rip, previous.registers.general) == (
        registers.rip,
        registers.general,
    )
    remembered = previous.vector in CONTRIBUTORY or previous.vector in (8, 14)
    if previous.kind is EventKind.EXCEPTION and remembered:
        return -1
    return None if unchanged else -1
