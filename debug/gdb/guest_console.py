# SPDX-License-Identifier: BSD-2-Clause
"""The guest's console between stops: shown while GDB waits, so that it disturbs nobody."""

from __future__ import annotations

from typing import Optional

from debug.sources.follow import FollowedFile
from debug.stages.frames import FrameDecoder, Text

LINES = 12  # shown at one stop


class GuestConsole:
    """Console text, without the stage frames in it, from the file that a port is written to."""

    def __init__(self, path: Optional[str]) -> None:
        self._file = FollowedFile(path, private=False) if path else None
        self._decoder = FrameDecoder()
        self._rest = ""

    def since_last(self) -> str:
        """The whole lines that came since the last call, safe to print; "" if there are none."""
        if self._file is None:
            return ""
        items = self._decoder.feed(self._file.read())
        text = self._rest + "".join(item.text for item in items if isinstance(item, Text))
        *lines, self._rest = text.split("\n")
        lines = [line for line in lines if line.strip()]
        if not lines:
            return ""
        skipped = len(lines) - LINES
        head = [f"  ({skipped} lines before)"] if skipped > 0 else []
        shown = head + [f"  | {line[:200]}" for line in lines[-LINES:]]
        return "\nguest console\n" + "\n".join(shown) + "\n"
