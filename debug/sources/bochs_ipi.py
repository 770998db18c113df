# SPDX-License-Identifier: BSD-2-Clause
"""INIT, SIPI and other IPIs in a Bochs log.

Pure.  With the APICs' and CPUs' debug level in the log each write to an ICR is there, which names
the sender [SDM 3A "Interrupt Command Register"]; without it only what arrived is.
"""

from __future__ import annotations

import re
from collections import deque
from dataclasses import replace
from typing import Optional

from debug.evidence import IpiEvent, IpiKind

MAX_IPIS = 2048
MAX_FIXED = 256

_WRITE = re.compile(r"^LAPIC write 0x([0-9a-f]{1,8}) to register 0x0?(3[01]0)\b")
_X2APIC = re.compile(r"^WRMSR: write ([0-9a-f]{8}):([0-9a-f]{8}) to MSR 0{0,5}830\b")
_DELIVERED = re.compile(r"^Deliver (INIT|Start Up) IPI")
_STARTED = re.compile(r"^CPU [0-9a-fA-F]{1,2} started up at ([0-9A-Fa-f]{1,4}):")

_SHORTHANDS = (None, "self", "all", "all-but-self")
_KINDS = {0: IpiKind.FIXED, 4: IpiKind.NMI, 5: IpiKind.INIT, 6: IpiKind.SIPI}
_LEVEL_ASSERT, _TRIGGER_LEVEL = 1 << 14, 1 << 15


def decode_icr(
    low: int, destination: int, source: Optional[int], tick: Optional[int]
) -> Optional[IpiEvent]:
    """The IPI that a write to the ICR sends; None for a delivery mode of no interest here."""
    kind = _KINDS.get(low >> 8 & 7)
    if kind is None:
        return None
    if kind is IpiKind.INIT and not low & _LEVEL_ASSERT and low & _TRIGGER_LEVEL:
        kind = IpiKind.INIT_DEASSERT
    shorthand = _SHORTHANDS[low >> 18 & 3]
    return IpiEvent(
        kind=kind,
        source=source,
        destination=destination if shorthand is None else None,
        shorthand=shorthand,
        vector=low & 0xFF if kind in (IpiKind.SIPI, IpiKind.FIXED) else None,
        tick=tick,
    )


class IpiReader:
    """Takes the lines of APICs and CPUs in order."""

    def __init__(self) -> None:
        self._events: deque[IpiEvent] = deque(maxlen=MAX_IPIS)
        self._fixed = 0
        self._high: dict[int, int] = {}
        self._pending: Optional[IpiEvent] = None  # the last one sent: its arrival follows at once
        self.started: dict[int, int] = {}  # CPU: the segment that its last SIPI set
        self._hands_over = False  # the log shows when the BIOS does
        self._again = False  # a BIOS runs that will

    def firmware_begins(self) -> None:
        """The machine was reset: the BIOS runs again."""
        self._pending = None
        self._high.clear()
        self.started.clear()
        self._again = self._hands_over

    def firmware_ends(self) -> None:
        """The BIOS hands over: what was sent since the reset was its own."""
        events = [
            replace(e, by_firmware=True) if e.by_firmware is None else e for e in self._events
        ]
        self._events.clear()
        self._events.extend(events)
        self._pending = None
        self.started.clear()
        self._hands_over = True

    def apic_line(self, tick: int, apic: int, text: str, booted: bool) -> None:
        """A line of a local APIC; Bochs names an APIC by its initial ID, the CPU's index."""
        if found := _WRITE.match(text):
            value = int(found[1], 16)
            if found[2] == "310":
                self._high[apic] = value
            else:
                self._send(decode_icr(value, self._high.get(apic, 0) >> 24, apic, tick), booted)
        elif found := _DELIVERED.match(text):
            kind = IpiKind.INIT if found[1] == "INIT" else IpiKind.SIPI
            self._arrive(kind, tick, apic, booted)

    def cpu_line(self, tick: int, cpu: int, text: str, booted: bool) -> None:
        """A line of a CPU."""
        if found := _X2APIC.match(text):
            self._send(decode_icr(int(found[2], 16), int(found[1], 16), cpu, tick), booted)
        elif found := _STARTED.match(text):
            segment = int(found[1], 16)
            self.started[cpu] = segment
            self._vector(cpu, segment >> 8)

    def events(self) -> tuple[IpiEvent, ...]:
        return tuple(self._events)

    def _send(self, event: Optional[IpiEvent], booted: bool) -> None:
        if event is None:
            return
        if event.kind is IpiKind.FIXED:
            self._fixed += 1
            if self._fixed > MAX_FIXED:
                return
        event = replace(event, by_firmware=self._by_firmware(booted))
        if event.kind in (IpiKind.INIT, IpiKind.SIPI):
            event = replace(event, delivered=False)  # until its arrival is seen
        self._events.append(event)
        self._pending = event

    def _by_firmware(self, booted: bool) -> Optional[bool]:
        """None: before a handover that the log may not show."""
        return False if booted else True if self._again else None

    def _arrive(self, kind: IpiKind, tick: int, apic: int, booted: bool) -> None:
        pending = self._pending
        if pending is not None and pending.kind is kind and pending.tick == tick:
            if not pending.delivered:
                self._pending = self._events[-1] = replace(pending, delivered=True)
            return
        self._pending = None
        self._events.append(
            IpiEvent(
                kind=kind,
                destination=apic,
                delivered=True,
                by_firmware=self._by_firmware(booted),
                tick=tick,
            )
        )

    def _vector(self, cpu: int, page: int) -> None:
        """A started CPU tells the vector that its SIPI line does not."""
        if not self._events:
            return
        last = self._events[-1]
        if last.kind is IpiKind.SIPI and last.vector is None and last.destination == cpu:
            self._events[-1] = replace(last, vector=page)
