# SPDX-License-Identifier: BSD-2-Clause
"""A lane as short words for one terminal row: `b0`, `c3=1`, and long stretches of wake-ups folded.

The BSP wakes each AP with the same few stages; beyond a handful they are counted, not listed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional, Sequence

from debug.evidence import StageEvent
from debug.stages.lanes import Lane

_FOLD_FROM = 25  # so many events of the same few codes in a row are counted instead
_FOLD_CODES = 4  # how many different codes such a stretch may have


@dataclass(frozen=True)
class Step:
    """One word of a row; `restored` if it was put back from memory, `delta` in TSC cycles."""

    text: str
    code: int
    restored: bool = False
    delta: Optional[int] = None


def steps(lane: Lane) -> tuple[Step, ...]:
    """The lane's words in order."""
    result: list[Step] = []
    events = lane.events
    at = 0
    previous: Optional[StageEvent] = None
    while at < len(events):
        length = _stretch(events, at)
        if length >= _FOLD_FROM:
            result += _folded(events[at : at + length])
        else:
            length = 1
            event = events[at]
            result.append(Step(_word(event), event.code, event.damaged, _delta(previous, event)))
        previous = events[at + length - 1]
        at += length
    return tuple(result)


def _word(event: StageEvent) -> str:
    value = "" if event.argument is None else f"={event.argument:x}"
    return f"{event.code:02x}{value}"


def _delta(previous: Optional[StageEvent], event: StageEvent) -> Optional[int]:
    if previous is None or previous.tsc is None or event.tsc is None:
        return None
    return event.tsc - previous.tsc


def _stretch(events: Sequence[StageEvent], start: int) -> int:
    """How many events from `start` on carry an argument and come from a few codes that repeat."""
    codes: dict[int, int] = {}
    end = start
    while end < len(events) and events[end].argument is not None:
        code = events[end].code
        if code not in codes and len(codes) == _FOLD_CODES:
            break
        codes[code] = codes.get(code, 0) + 1
        end += 1
    while end > start and codes[events[end - 1].code] == 1:  # a code that comes once is no repeat
        end -= 1
    return end - start if codes.get(events[start].code, 0) > 1 else 0


def _folded(events: Sequence[StageEvent]) -> list[Step]:
    counts: dict[int, int] = {}
    restored: set[int] = set()
    for event in events:
        counts[event.code] = counts.get(event.code, 0) + 1
        if event.damaged:
            restored.add(event.code)
    return [
        Step(f"{code:02x}x{count}" if count > 1 else f"{code:02x}", code, code in restored)
        for code, count in counts.items()
    ]
