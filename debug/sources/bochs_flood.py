# SPDX-License-Identifier: BSD-2-Clause
"""Floods in a Bochs log: thinning them out, and seeing that nothing else comes any more.

With the CPUs' debug level on, a CPU that faults in a loop writes hundreds of thousands of lines a
second, more than can be read one by one.  What was said first and last of a flood is kept, and
every line that may end a machine; the middle is counted.  Pure.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

FLOOD = 512 << 10  # bytes that come at once: more than a machine that works writes between reads
_EDGE = 64 << 10  # bytes of a flood that are kept at each of its ends
_BEFORE_DEATH = 16 << 10  # bytes that hold the chain of exceptions which a death ends

# What a CPU says in numbers and what no cause is ever in.
_CHATTER = re.compile(
    rb"^[0-9]{5,20}d\[CPU[^\]\n]*\] (?:RDTSC|page walk for|inhibit interrupts|CPUID\[)[^\n]*\n",
    re.MULTILINE,
)
_CPU_LINE = re.compile(rb"^[0-9]{5,20}[de]\[CPU[^\n]*\n", re.MULTILINE)
_DEATH = b"3rd ("
_TICK = re.compile(rb"^([0-9]{5,20})[idep]\[", re.MULTILINE)
_RAISED = b"] exception(0x"
_FAULTS = (b"0e)", b"07)", b"01)", b"03)")  # that a working system takes in great numbers

STORM_SECONDS = 3.0  # of guest time in which nothing was written
STORM_EXCEPTIONS = 20_000  # in that time, without page faults and traps
STORM_PAGE_FAULTS = 200_000
FLOOD_SECONDS = 15.0  # of the observer's: where logging takes most of the time,
FLOOD_EXCEPTIONS = 1_000_000  # so many make up for the guest's time


def thinned(data: bytes) -> tuple[bytes, int]:
    """Whole lines without chatter and without the middle of a flood; how many were left out."""
    data, left_out = _CHATTER.subn(b"", data)
    if len(data) <= FLOOD:
        return data, left_out
    first = data.find(b"\n", _EDGE) + 1
    last = data.rfind(b"\n", 0, len(data) - _EDGE) + 1
    parts, at = [data[:first]], first
    while at < last:
        death = data.find(_DEATH, at, last)
        start = last if death < 0 else max(at, data.rfind(b"\n", 0, death - _BEFORE_DEATH) + 1)
        rest, dropped = _CPU_LINE.subn(b"", data[at:start])
        parts.append(rest)
        left_out += dropped
        end = last if death < 0 else data.find(b"\n", death) + 1 or last
        parts.append(data[start:end])
        at = end
    parts.append(data[last:])
    return b"".join(parts), left_out


@dataclass
class StormWatch:
    """Decides that a guest only faults: `ips` is how many ticks Bochs makes a second of."""

    ips: int
    exceptions: int = 0
    page_faults: int = 0
    tick: int = 0
    _activity: int = -1
    _since: int = 0
    _began: float = 0.0  # when the observer saw the last output

    def feed(self, data: bytes) -> None:
        """What the log says, as it comes."""
        raised = data.count(_RAISED)
        if not raised:
            return
        harmless = sum(data.count(_RAISED + vector) for vector in _FAULTS)
        self.page_faults += data.count(_RAISED + _FAULTS[0])
        self.exceptions += raised - harmless
        last = data.rfind(_RAISED)
        line = data.rfind(b"\n", 0, last) + 1
        if found := _TICK.match(data, line):
            self.tick = int(found[1])

    def rages(self, activity: int, now: float) -> bool:
        """Whether exceptions are all that came for a while; `activity` grows with the consoles.

        `now` in seconds of any steady clock.
        """
        if activity != self._activity:
            self._activity, self._since, self._began = activity, self.tick, now
            self.exceptions = self.page_faults = 0
            return False
        if now - self._began >= FLOOD_SECONDS and self.exceptions >= FLOOD_EXCEPTIONS:
            return True
        if self.tick - self._since < STORM_SECONDS * self.ips:
            return False
        return self.exceptions >= STORM_EXCEPTIONS or self.page_faults >= STORM_PAGE_FAULTS

    def __str__(self) -> str:
        count = self.exceptions + self.page_faults
        guest = (self.tick - self._since) / self.ips
        return f"stopped: {count} exceptions and nothing written for {guest:.1f} s of guest time"
