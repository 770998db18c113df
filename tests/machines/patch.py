# SPDX-License-Identifier: BSD-2-Clause
"""One bug put into an image: bytes that are found by what they are, never by where they lie."""

from __future__ import annotations

import re


class PatchError(ValueError):
    """The pattern is not in the image exactly once, or the patch is written wrongly."""


def patched(image: bytes, pattern: str, changed: str) -> bytes:
    """The image with the bytes of `pattern` changed; both are hexadecimal bytes.

    `??` in the pattern is any byte, `..` in `changed` leaves the byte as it is.
    """
    find, put = pattern.split(), changed.split()
    if len(find) != len(put):
        raise PatchError(f"{len(find)} bytes are looked for, {len(put)} are put: {pattern}")
    if all(new in ("..", old) for old, new in zip(find, put)):
        raise PatchError(f"nothing is changed: {pattern}")
    places = [match.start() for match in re.finditer(_expression(find), image, re.DOTALL)]
    if len(places) != 1:
        raise PatchError(f"found {len(places)} times, must be once: {pattern}")
    result = bytearray(image)
    for offset, new in enumerate(put, places[0]):
        if new != "..":
            result[offset] = int(new, 16)
    return bytes(result)


def _expression(find: list[str]) -> bytes:
    """Overlapping matches count: each is looked for at every byte."""
    body = b"".join(b"." if one == "??" else re.escape(bytes([int(one, 16)])) for one in find)
    return b"(?=" + body + b")"
