# SPDX-License-Identifier: BSD-2-Clause
"""The sum at the end of a frame, and how a frame is written.

The sum starts with 0; for each character between `@` and `*` it is rotated left by one bit and
XORed with the character.  Each step is a bijection of the sum so far, so any substitution of a
single character changes it.  What it can't see: changes in two or more characters whose rotated
differences cancel, 1 in 256 of random ones; always, for instance, the same bit flipped in two
characters eight apart.
"""

from __future__ import annotations

from typing import Optional


def checksum(characters: bytes) -> int:
    """The 8-bit sum over the characters between `@` and `*`, both excluded."""
    total = 0
    for character in characters:
        total = ((total << 1 | total >> 7) & 0xFF) ^ character
    return total


def encode(apic_id: int, code: int, argument: Optional[int], sequence: int) -> bytes:
    """The frame's text with its newline; `sequence` is taken modulo 16.

    APIC IDs below 0x100 have two digits, others eight; arguments have no leading zeros.
    """
    identity = f"{apic_id:02x}" if apic_id < 0x100 else f"{apic_id:08x}"
    value = "" if argument is None else f"={argument:x}"
    body = f"{identity}:{code:02x}{value}.{sequence & 15:x}".encode("ascii")
    return b"@" + body + b"*%02x\n" % checksum(body)
