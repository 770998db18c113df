# SPDX-License-Identifier: BSD-2-Clause
"""Comparing what a chapter shows with what really came, line by line.

One wildcard: `…`.  Within a line it stands for any text, also none; alone on a line it stands for
any number of lines, also none.  Numbers that move with each build (places.py) stand for others of
their kind.  Everything else is literal but for blanks at the end of a line.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Iterator, Mapping, Optional, Sequence

from tests.tutorial.places import places

WILDCARD = "…"


@dataclass(frozen=True)
class Mismatch:
    """The first line shown that nothing matches, and the line that came instead."""

    index: int  # of the line that is shown
    shown: Optional[str]  # None: more came than is shown
    came: Optional[str]  # None: less came
    at: int  # index of the line that came, or how many came
    moved: Optional[str] = None  # a number that stood for another one before

    def __str__(self) -> str:
        if self.shown is None:
            return f"came and is not shown: {self.came!r}"
        if self.came is None:
            return f"shown and did not come: {self.shown!r}"
        why = f": {self.moved} stands for another number above" if self.moved else ""
        return f"shown {self.shown!r}, came {self.came!r}{why}"


@dataclass(frozen=True)
class Reading:
    """One way to read the lines so far: where it ends in what came, and what each number is."""

    end: int
    known: tuple[tuple[str, str], ...] = ()

    def with_line(self, numbers: Mapping[str, str]) -> Reading | str:
        """One line further; or the number that is another one than before."""
        known = dict(self.known)
        for name, number in numbers.items():
            if known.setdefault(name, number) != number:
                return name
        return Reading(self.end + 1, tuple(known.items()))


@lru_cache(maxsize=4096)
def _pattern(line: str, literal: bool = False) -> tuple[re.Pattern[str], tuple[str, ...]]:
    """A shown line as an expression, and the name of the number in each of its groups."""
    line = line.rstrip()
    names: list[str] = []
    pattern, at = "", 0
    for place in () if literal else places(line):
        pattern += _literal(line[at : place.start])
        if place.name in names:
            pattern += f"(?:(?P=n{names.index(place.name)}))"
        else:
            pattern += f"(?P<n{len(names)}>{place.pattern})"
            names.append(place.name)
        at = place.end
    return re.compile(pattern + _literal(line[at:]) + r"\s*"), tuple(names)


def _literal(text: str) -> str:
    return ".*".join(re.escape(part) for part in text.split(WILDCARD))


def numbers(shown: str, came: str, literal: bool = False) -> Optional[dict[str, str]]:
    """None if the shown line does not stand for the one that came; else what its numbers are."""
    pattern, names = _pattern(shown, literal)
    found = pattern.fullmatch(came)
    return None if found is None else dict(zip(names, found.groups()))


def matches(shown: str, came: str) -> bool:
    """Whether one shown line stands for one line that came."""
    return numbers(shown, came) is not None


def compare(shown: Sequence[str], came: Sequence[str]) -> Optional[Mismatch]:
    """None if what is shown, each number as it is, stands for what came; else the furthest point."""
    result = read(shown, came, Reading(0), literal=True)
    return result if isinstance(result, Mismatch) else None


def read(
    shown: Sequence[str], came: Sequence[str], before: Reading, literal: bool = False
) -> Reading | Mismatch:
    """How what is shown stands for what came, after lines that were read as `before`; else the
    furthest point that could be reached.
    """
    readings = {Reading(0, before.known)}
    for index, line in enumerate(shown):
        at = max(reading.end for reading in readings)
        if line.strip() == WILDCARD:
            readings = {
                Reading(end, reading.known)
                for reading in readings
                for end in range(reading.end, len(came) + 1)
            }
            continue
        moved: Optional[str] = None
        further: set[Reading] = set()
        for reading in readings:
            there = reading.end < len(came)
            found = numbers(line, came[reading.end], literal) if there else None
            step = reading.with_line(found) if found is not None else None
            if isinstance(step, Reading):
                further.add(step)
            else:
                moved = step or moved
        if not further:
            return Mismatch(index, line, came[at] if at < len(came) else None, at, moved)
        readings = further
    whole = [reading for reading in readings if reading.end == len(came)]
    if whole:
        return min(whole, key=lambda reading: reading.known)
    end = max(reading.end for reading in readings)
    return Mismatch(len(shown), None, came[end], end)


def update(shown: Sequence[str], came: Sequence[str], before: Reading = Reading(0)) -> list[str]:
    """What to show instead: what is shown where it still holds, wildcards and all, else what came.

    Numbers are those that came.  A line with a wildcard that stands for a line that came is kept; a
    lone wildcard is kept where the line below it still comes, and at the end.
    """
    result = read(shown, came, before)
    if isinstance(result, Reading):
        return [_filled(line, dict(result.known)) for line in shown]
    held = [line for line in shown if WILDCARD in line and line.strip() != WILDCARD]
    body = [next(_kept(held, real), real.rstrip()) for real in came]
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


def _kept(held: Sequence[str], came: str) -> Iterator[str]:
    """The lines with a wildcard that stand for a line that came, with its numbers."""
    for line in held:
        if (known := numbers(line, came)) is not None:
            yield _filled(line, known)


def _filled(line: str, known: Mapping[str, str]) -> str:
    """A shown line with the numbers that came."""
    filled, at = "", 0
    for place in places(line):
        filled += line[at : place.start] + known[place.name]
        at = place.end
    return filled + line[at:]
