# SPDX-License-Identifier: BSD-2-Clause
"""What a guest printed, as text that is safe to print again."""

from __future__ import annotations

import re
import time
import unicodedata
from typing import Optional

_ESCAPES = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]"  # CSI
    r"|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)?"  # OSC
    r"|\x1b[PX^_][^\x1b]*(?:\x1b\\)?"  # DCS, SOS, PM, APC
    r"|\x1b[ -/]*[0-~]"
    r"|\x9b[0-?]*[ -/]*[@-~]"
)
_UNSAFE = frozenset(("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"))


class Printed:
    """How much a guest printed, and how long ago the last of it came."""

    def __init__(self) -> None:
        self.bytes = 0
        self._last: Optional[float] = None

    def add(self, data: bytes) -> None:
        """Some bytes, now."""
        self.bytes += len(data)
        self._last = time.monotonic()

    @property
    def quiet(self) -> Optional[float]:
        """Seconds since the last byte; None if none has come."""
        return None if self._last is None else time.monotonic() - self._last


def plain(data: bytes, limit: int = 64 << 10) -> str:
    """The last `limit` bytes as text: UTF-8 where it is, no escape sequence, no control character
    but line feed and tab, no character that changes the direction of text."""
    text = data[-limit:].decode("utf-8", "replace").replace("\r\n", "\n")
    text = _ESCAPES.sub("", text)
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        character
        for character in text
        if character in "\n\t" or unicodedata.category(character) not in _UNSAFE
    )
