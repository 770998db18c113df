# SPDX-License-Identifier: BSD-2-Clause
"""What a foreign kernel's bring-up executed, from the log of running_total.c and QEMU.  Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Iterable, Optional

# What QEMU traces beside the plugin's lines.
EVENTS = ("apic_mem_writel", "serial_write")
_LINE = re.compile(
    r"(?:executed (?P<total>\d+)"
    r"|(?:\d+@[\d.]+:)?apic_mem_writel (?:0x)?0*300 = (?:0x)?(?P<icr>[0-9a-f]+)"
    r"|(?:\d+@[\d.]+:)?serial_write write addr 0x0*0 val (?:0x)?(?P<byte>[0-9a-f]+))$"
)
_DELIVERY, _INIT, _STARTUP = 0x700, 0x500, 0x600
_ASSERT = 1 << 14
_TAIL = 200  # characters of the console that are kept


@dataclass
class Starter:
    """Finds the kernel's first INIT among writes to the ICR: the firmware's end with a SIPI."""

    firmware_is_over: bool = False

    def is_first_init(self, icr: int) -> bool:
        """Whether this write, the next one, is it; or one like it, when the first was passed."""
        kind = icr & _DELIVERY
        found = self.firmware_is_over and kind == _INIT and bool(icr & _ASSERT)
        self.firmware_is_over = self.firmware_is_over or kind == _STARTUP
        return found


def is_sipi(icr: int) -> bool:
    """Whether a write of this value to the ICR sends a start-up message."""
    return icr & _DELIVERY == _STARTUP


def executed(log: Iterable[str], online: Optional[str]) -> Optional[int]:
    """Instructions of all CPUs from the first INIT to the line that says that all are `online`.

    Without such a line: to the last SIPI.  None where one of the two is not in the log.
    """
    starter = Starter()
    total = 0
    first: Optional[int] = None
    last: Optional[int] = None
    pending: Optional[int] = None  # an ICR write; the total after it comes next
    console = ""
    for line in log:
        match = _LINE.match(line)
        if match is None:
            continue
        if match["total"]:
            total = int(match["total"])
            if pending is not None and first is None and starter.is_first_init(pending):
                first = total
            elif pending is not None and first is not None and is_sipi(pending):
                last = total
            pending = None
        elif match["icr"]:
            pending = int(match["icr"], 16)
        elif first is not None and online is not None:
            console = (console + chr(int(match["byte"], 16)))[-_TAIL:]
            if re.search(online, console):
                return total - first
    return last - first if online is None and first is not None and last is not None else None
