# SPDX-License-Identifier: BSD-2-Clause
"""Console text made harmless: what a guest printed, without what steers a terminal.

Control characters, escape sequences [ECMA-48 "Control functions"], invalid UTF-8 and invisible
formatting characters (bidirectional overrides among them) do not pass; newlines and tabs do.
"""

from __future__ import annotations

import codecs
import re
import unicodedata
from enum import Enum, auto

_NOT_PLAIN = re.compile(r"[^\x20-\x7e\n\t]")
_MAX_SEQUENCE = 256  # a longer escape sequence is none: what follows is text again


class _State(Enum):
    TEXT = auto()
    ESCAPE = auto()  # after ESC
    CSI = auto()  # after ESC [: until a final byte 0x40-0x7e
    STRING = auto()  # after ESC ] P X ^ _: until BEL or ESC \


class Cleaner:
    """A streaming filter from console bytes to text; how the bytes are cut does not matter."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._state = _State.TEXT
        self._length = 0

    def feed(self, data: bytes, final: bool = False) -> str:
        """The harmless text in the next bytes."""
        text = self._decoder.decode(data, final)
        if self._state is _State.TEXT and not _NOT_PLAIN.search(text):
            return text
        return "".join(c for c in text if self._passes(c))

    def _passes(self, character: str) -> bool:
        if self._state is _State.TEXT:
            if character == "\x1b":
                self._enter(_State.ESCAPE)
                return False
            return _visible(character)
        self._length += 1
        if character == "\n" or self._length > _MAX_SEQUENCE:
            self._state = _State.TEXT  # broken off: a line's end always counts
            return _visible(character)
        if character == "\x1b":
            self._enter(_State.ESCAPE)
        elif self._state is _State.ESCAPE:
            self._after_escape(character)
        elif self._state is _State.CSI:
            if "\x40" <= character <= "\x7e":
                self._state = _State.TEXT
        elif character == "\x07":
            self._state = _State.TEXT
        return False

    def _after_escape(self, character: str) -> None:
        if character == "[":
            self._state = _State.CSI
        elif character in "]PX^_":
            self._state = _State.STRING
        elif not "\x20" <= character <= "\x2f":  # intermediate bytes go on
            self._state = _State.TEXT

    def _enter(self, state: _State) -> None:
        self._state = state
        self._length = 0


def _visible(character: str) -> bool:
    if character in "\n\t":
        return True
    return unicodedata.category(character) not in ("Cc", "Cf", "Cs", "Zl", "Zp")


def clean(data: bytes) -> str:
    """The harmless text of a whole console log."""
    return Cleaner().feed(data, final=True)
