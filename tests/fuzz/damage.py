# SPDX-License-Identifier: BSD-2-Clause
"""Ways in which a log is damaged.  Pure: bytes and a random source in, bytes out."""

from __future__ import annotations

import random
import re
from typing import Callable, Collection

_DIGITS = b"0123456789abcdef"
_NUMBER = re.compile(rb"(?<![0-9A-Za-z_])(?:0x)?([0-9a-f]{2,16})(?![0-9A-Za-z_])")
_CLOCK = re.compile(rb"[0-9]{11}[a-f]")  # Bochs's ticks, with the level of the line

Damage = Callable[[random.Random, bytes], bytes]


def other_bytes(chance: random.Random, data: bytes) -> bytes:
    """One to eight bytes become any others."""
    changed = bytearray(data)
    for _ in range(chance.randint(1, 8)):
        changed[chance.randrange(len(changed))] = chance.randrange(256)
    return bytes(changed)


def other_digits(chance: random.Random, data: bytes) -> bytes:
    """One to three hexadecimal digits become others: what a slip of a hand does."""
    changed = bytearray(data)
    places = [match.span(1) for match in _NUMBER.finditer(data)]
    for _ in range(chance.randint(1, 3)):
        if places:
            changed[chance.randrange(*chance.choice(places))] = chance.choice(_DIGITS)
    return bytes(changed)


def lost_lines(chance: random.Random, data: bytes) -> bytes:
    """A few lines are missing, doubled or in another place."""
    lines = data.split(b"\n")
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(lines))
        kept = lines[at : at + chance.randint(1, 5)]
        if chance.random() < 0.6:
            del lines[at : at + len(kept)]
        if chance.random() < 0.6:
            to = chance.randint(0, len(lines))
            lines[to:to] = kept
        lines = lines or [b""]
    return b"\n".join(lines)


def cut(chance: random.Random, data: bytes) -> bytes:
    """Only a part is left."""
    start = chance.randrange(len(data)) if chance.random() < 0.5 else 0
    return data[start : chance.randint(start, len(data))] or data[:1]


def pasted_over(chance: random.Random, data: bytes) -> bytes:
    """A piece stands in another's place."""
    start, to = chance.randrange(len(data)), chance.randrange(len(data))
    piece = data[start : start + chance.randint(1, 400)]
    return data[:to] + piece + data[to + chance.randint(0, 400) :]


ALL: tuple[Damage, ...] = (other_bytes, other_digits, lost_lines, cut, pasted_over)


def uncited(data: bytes, cited: Collection[int]) -> list[tuple[int, int]]:
    """The spans of numbers that no line of a report cites, by value."""
    numbers = (found for found in _NUMBER.finditer(data) if not _CLOCK.fullmatch(found[1]))
    return [found.span(1) for found in numbers if int(found[1], 16) not in cited]


def one_digit(chance: random.Random, data: bytes, spans: list[tuple[int, int]]) -> bytes:
    """One digit of one of these numbers becomes another."""
    changed = bytearray(data)
    at = chance.randrange(*chance.choice(spans))
    changed[at] = chance.choice([digit for digit in _DIGITS if digit != changed[at]])
    return bytes(changed)
