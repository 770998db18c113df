# SPDX-License-Identifier: BSD-2-Clause
"""Inter-processor interrupts from QEMU's trace of local APIC register writes.

[SDM 3A "Interrupt Command Register (ICR)"].  A log that one CPU's thread wrote holds the writes of
that CPU in order; in a shared log the high half that is current at a send may be another CPU's.
"""

from __future__ import annotations

import re
from collections import deque
from typing import Optional

from debug.evidence import IpiEvent, IpiKind

TRACE_PATTERN = "apic_*write*"  # apic_mem_writel, and apic_register_write where x2APIC is emulated

_MMIO = re.compile(r"apic_mem_writel 0x([0-9a-f]{1,16}) = 0x([0-9a-f]{1,8})\b")
_REGISTER = re.compile(r"apic_register_write\D+?(?:0x)?([0-9a-f]{2}) = 0x([0-9a-f]{1,16})\b")
_SHORTHANDS: tuple[Optional[str], ...] = (None, "self", "all", "all-but-self")
_ICR_LOW, _ICR_HIGH = 0x30, 0x31  # numbers of registers, which lie 16 bytes apart
FIRMWARE_PAGE = 0x10  # SeaBIOS's SIPI page number


def decode_icr(low: int, destination: Optional[int]) -> Optional[IpiEvent]:
    """The interrupt that a write of `low` to the ICR sends; None for what is no IPI of interest."""
    mode, shorthand = low >> 8 & 7, _SHORTHANDS[low >> 18 & 3]
    vector: Optional[int] = None
    if mode == 5:
        kind = IpiKind.INIT if low & 1 << 14 or not low & 1 << 15 else IpiKind.INIT_DEASSERT
    elif mode == 6:
        kind, vector = IpiKind.SIPI, low & 0xFF
    elif mode == 4:
        kind = IpiKind.NMI
    elif mode in (0, 1):
        kind, vector = IpiKind.FIXED, low & 0xFF
    else:
        return None
    return IpiEvent(
        kind,
        destination=None if shorthand else destination,
        shorthand=shorthand,
        vector=vector,
    )


class IcrWrites:
    """Collects the IPIs of one log.  At most 512 start-up IPIs, the first, and 64 others."""

    def __init__(self) -> None:
        self._high: Optional[int] = None
        self._start: list[IpiEvent] = []
        self._start_order: list[int] = []
        self._other: deque[tuple[int, IpiEvent]] = deque(maxlen=64)
        self._count = 0
        self._registers_seen = False

    def line(self, line: str) -> bool:
        """Take one log line; False if it is no APIC trace line."""
        if found := _MMIO.search(line):
            # QEMU takes a write anywhere in a register's 16 bytes for one to the register.
            register, value = (int(found[1], 16) & 0xFFF) >> 4, int(found[2], 16)
            if self._registers_seen:
                return True  # the same write, which the other event reports too
            if register == _ICR_HIGH:
                self._high = value >> 24
            elif register == _ICR_LOW:
                self._send(value, self._high)
            return True
        if found := _REGISTER.search(line):
            self._registers_seen = True
            register, value = int(found[1], 16), int(found[2], 16)
            if register == _ICR_HIGH:
                self._high = value >> 24
            elif register == _ICR_LOW:
                self._send(value, value >> 32 if value >> 32 else self._high)
            return True
        return line.startswith("apic_")

    def _send(self, low: int, destination: Optional[int]) -> None:
        event = decode_icr(low & 0xFFFFFFFF, destination)
        if event is None:
            return
        self._count += 1
        if event.kind in (IpiKind.FIXED, IpiKind.NMI):
            self._other.append((self._count, event))
        elif len(self._start) < 512:
            self._start.append(event)
            self._start_order.append(self._count)

    def events(self) -> tuple[IpiEvent, ...]:
        """The IPIs in order; the firmware's own start of the APs is marked."""
        start = [_mark(event, index) for index, event in enumerate(self._start)]
        merged = sorted([*zip(self._start_order, start), *self._other], key=lambda pair: pair[0])
        return tuple(event for _, event in merged)


def _mark(event: IpiEvent, index: int) -> IpiEvent:
    """SeaBIOS starts all APs with one broadcast INIT and one SIPI, before anything else runs."""
    first = index == 0 and event.kind is IpiKind.INIT and event.shorthand == "all-but-self"
    second = (
        index == 1
        and event.kind is IpiKind.SIPI
        and event.shorthand == "all-but-self"
        and event.vector == FIRMWARE_PAGE
    )
    if not (first or second):
        return event
    return IpiEvent(event.kind, shorthand=event.shorthand, vector=event.vector, by_firmware=True)
