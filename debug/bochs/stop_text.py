# SPDX-License-Identifier: BSD-2-Clause
"""What Bochs's debugger says when it takes over.  Pure: its text in, a Stop out.

    Next at t=73149505
    (0) [0x00000010d81b] 0008:ffffffff8010d81b (unk. ctxt): jz .+17  (0x…) ; 7411
    (1) Caught mode switch breakpoint switching to 'protected mode'
    (1) [0x00000000811a] 0800:000000000000011a (unk. ctxt): mov al, 0x13 ; b013
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Optional

_TICK = re.compile(r"Next at t=([0-9]{1,20})")
_BREAKPOINT = re.compile(r"^\(([0-9]{1,3})\) Breakpoint ([0-9]{1,5}),")
_SWITCH = re.compile(r"^\(([0-9]{1,3})\) Caught mode switch breakpoint switching to '([^']{1,40})'")
_OTHER = re.compile(r"^\(([0-9]{1,3})\) ([A-Z][^\n]{1,200})")
_PLACE = re.compile(
    r"^\(([0-9]{1,3})\) \[0x([0-9a-f]{1,16})\] ([0-9a-f]{4}):([0-9a-f]{4,16})"
    r" \([^)]{0,80}\): (.{1,200}?)\s*;\s*([0-9a-f]{2,40})\s*$"
)


@dataclass(frozen=True)
class Place:
    """Where one CPU stands, and the instruction it is about to execute, in its own mode."""

    physical: int
    selector: int
    offset: int
    instruction: str
    data: bytes


@dataclass(frozen=True)
class Reason:
    """Why one CPU stopped the machine: a breakpoint's number, or the mode it switched to."""

    cpu: int
    breakpoint: Optional[int] = None
    switched_to: str = ""
    other: str = ""  # Bochs's words for anything else


@dataclass(frozen=True)
class Stop:
    """`reasons` is empty when the machine was interrupted from outside."""

    tick: Optional[int]
    reasons: tuple[Reason, ...]
    places: dict[int, Place]


def parse_stop(text: str) -> Stop:
    """The stop that `text` tells; what can't be read is left out."""
    tick = None
    reasons: list[Reason] = []
    places: dict[int, Place] = {}
    for line in text.splitlines():
        if found := _TICK.search(line):
            tick = int(found[1])
        elif found := _PLACE.match(line):
            places[int(found[1])] = Place(
                int(found[2], 16),
                int(found[3], 16),
                int(found[4], 16),
                re.sub(r"\s+", " ", found[5]),
                bytes.fromhex(found[6]) if len(found[6]) % 2 == 0 else b"",
            )
        elif found := _BREAKPOINT.match(line):
            reasons.append(Reason(int(found[1]), breakpoint=int(found[2])))
        elif found := _SWITCH.match(line):
            reasons.append(Reason(int(found[1]), switched_to=found[2]))
        elif found := _OTHER.match(line):
            reasons.append(Reason(int(found[1]), other=found[2].strip()))
    return Stop(tick, tuple(reasons), places)
