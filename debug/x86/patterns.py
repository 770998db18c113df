# SPDX-License-Identifier: BSD-2-Clause
"""What bytes that are no code look like: fillers, poison and text at an instruction pointer."""

from __future__ import annotations

from typing import Iterator, Optional

_FILLERS = {
    0x00: "zeros: memory that was never written",
    0x90: "NOP padding",
    0xCC: "0xCC: INT3 padding or poison",
    0xF4: "HLT bytes",
    0xFF: "0xFF: memory that does not exist, or erased flash",
}


def uniform(data: bytes) -> Optional[int]:
    """The value that all of `data` (two bytes or more) has; None if there are several."""
    return data[0] if len(data) > 1 and data.count(data[0]) == len(data) else None


def occurrences(data: bytes, pattern: bytes) -> Iterator[int]:
    """Each offset of `pattern` in `data`; they may overlap."""
    at = data.find(pattern)
    while at >= 0:
        yield at
        at = data.find(pattern, at + 1)


def describe_bytes(data: bytes) -> str:
    """What `data` is if it is a filler or text; empty if it may well be code."""
    value = uniform(data)
    if value is not None:
        return _FILLERS.get(value, f"the byte {value:#04x} over and over")
    if len(data) >= 8 and all(32 <= byte < 127 or byte in b"\t\r\n\0" for byte in data):
        letters = sum(chr(byte).isalnum() or byte == 32 for byte in data)
        if letters * 4 >= len(data) * 3:
            return "text: " + repr(data.rstrip(b"\0").decode("ascii"))
    for size in (2, 4, 8):
        if len(data) >= 4 * size and data == (data[:size] * (len(data) // size + 1))[: len(data)]:
            return f"the bytes {data[:size].hex(' ')} over and over"
    return ""
