# SPDX-License-Identifier: BSD-2-Clause
"""Comparing what a chapter shows with what really came, line by line.

One wildcard: `…`.  Within a line it stands for any text, also none; alone on a line it stands for
any number of lines, also none.  Everything else is literal but for blanks at the end of a line.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Optional, Sequence

WILDCARD = "…"


@dataclass(frozen=True)
class Mismatch:
    """The first line shown that nothing matches, and the line that came instead."""

    index: int  # of the line that is shown
    shown: Optional[str]  # None: more came than is shown
    came: Optional[str]  # None: less came
    at: int  # index of the line that came, or how many came

    def __str__(self) -> str:
        if self.shown is None:
            return f"came and is not shown: {self.came!r}"
        if self.came is None:
            return f"shown and did not come: {self.shown!r}"
        return f"shown {self.shown!r}, came {self.came!r}"


@lru_cache(maxsize=4096)
def _pattern(line: str) -> re.Pattern[str]:
    return re.compile(".*".join(re.escape(part) for part in line.rstrip().split(WILDCARD)) + r"\s*")


def matches(shown: str, came: str) -> bool:
    """Whether one shown line stands for one line that came."""
    return _pattern(shown).fullmatch(came) is not None


def compare(shown: Sequence[str], came: Sequence[str]) -> Optional[Mismatch]:
    """None if what is shown stands for what came; else the furthest point that could be reached."""
    best = (-1, 0)
    # Where in `came` the lines shown so far can end.
    ends = {0}
    for index, line in enumerate(shown):
        best = (index, max(ends))
        if line.strip() == WILDCARD:
            ends = set(range(min(ends), len(came) + 1))
            continue
        ends = {end + 1 for end in ends if end < len(came) and matches(line, came[end])}
        if not ends:
            at = best[1]
            return Mismatch(index, line, came[at] if at < len(came) else None, at)
    if len(came) in ends:
        return None
    return Mismatch(len(shown), None, came[max(ends)], max(ends))


def update(shown: Sequence[str], came: Sequence[str]) -> list[str]:
    """What to show instead: what is shown where it still holds, wildcards and all, else what came.

    A line with a wildcard that stands for a line that came is kept; a lone wildcard is kept where
    the line below it still comes, and at the end.
    """
    if compare(shown, came) is None:
        return list(shown)
    held = [line for line in shown if WILDCARD in line and line.strip() != WILDCARD]
    body = [next((line for line in held if matches(line, real)), real.rstrip()) for real in came]
    fresh: list[str] = []
    position = 0
    for index, line in enumerate(shown):
        if line.strip() != WILDCARD:
            if position < len(came):
                fresh.append(body[position])
                position += 1
            continue
        below = shown[index + 1] if index + 1 < len(shown) else None
        if below is None:
            return [*fresh, line]
        skipped = next((i for i in range(position, len(came)) if matches(below, came[i])), position)
        if skipped > position:
            fresh.append(line)
            position = skipped
    return fresh + body[position:]
