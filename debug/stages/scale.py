# SPDX-License-Identifier: BSD-2-Clause
"""Where each stage lies in time: the common ground of the SVG and the Perfetto trace."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional, Sequence

from debug.stages.lanes import Lane

_MAX_SPAN = 1 << 50  # cycles: days; a record with a longer span is damaged


@dataclass(frozen=True)
class Scale:
    """Times of all events, lane by lane, from the first event of all on.

    `unit` is "us" or "cycles" where every event has a TSC (its rate known or not), else
    "events": an event's place in the trace.
    """

    unit: str
    rows: tuple[tuple[float, ...], ...]

    @property
    def span(self) -> float:
        """The time of the last event."""
        return max((row[-1] for row in self.rows if row), default=0.0)


def scale(lanes: Sequence[Lane], ticks_per_us: Optional[float]) -> Scale:
    """Place the lanes' events; within a lane time never goes backwards."""
    stamps = [[event.tsc for event in lane.events] for lane in lanes]
    known = [tsc for row in stamps for tsc in row if tsc is not None]
    complete = len(known) == sum(len(row) for row in stamps) and known
    if not complete or max(known) - min(known) > _MAX_SPAN:
        return Scale("events", tuple(tuple(float(p) for p in lane.places) for lane in lanes))
    start = min(known)
    divisor = ticks_per_us or 1.0
    rows = tuple(_monotonic([((tsc or 0) - start) / divisor for tsc in row]) for row in stamps)
    return Scale("us" if ticks_per_us else "cycles", rows)


def _monotonic(times: list[float]) -> tuple[float, ...]:
    result: list[float] = []
    for time in times:
        result.append(max(time, result[-1]) if result else time)
    return tuple(result)
