# SPDX-License-Identifier: BSD-2-Clause
"""Seeing in what a machine writes that nothing more need be waited for.

An idle machine is told from a busy one by seconds in which nothing happens; where the stages
themselves say that a boot is over, or was as it should be, these need not go by.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Callable, Sequence

from debug.evidence import StageEvent
from debug.stages.elf import table_for
from debug.stages.lanes import lanes
from debug.stages.trace import decode

LAST = ("AP_INTERRUPTS", "BSP_INTERRUPTS")  # what our kernel lights last on a CPU


@dataclass
class Arrival:
    """`done` says of the stages so far whether the boot is over; give it to a Watch."""

    done: Callable[[Sequence[StageEvent]], bool]
    _data: bytearray = field(default_factory=bytearray)
    _fresh: bool = False
    _over: bool = False

    def take(self, data: bytes) -> None:
        """Console output, as it comes."""
        self._data += data
        self._fresh = True

    def is_over(self) -> bool:
        """Polled: whether it is."""
        if self._fresh and not self._over:
            self._fresh = False
            self._over = self.done(decode(bytes(self._data)).events("e9"))
        return self._over


def all_arrived(cpus: int) -> Callable[[Sequence[StageEvent]], bool]:
    """Whether so many CPUs have lit their last stage."""
    table = table_for(None)
    last = {code for code in range(256) if (stage := table.get(code)) and stage.name in LAST}

    def done(events: Sequence[StageEvent]) -> bool:
        came = [lane.events[-1].code for lane in lanes(events, table)]
        return len(came) >= cpus and all(code in last for code in came)

    return done
