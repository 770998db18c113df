# SPDX-License-Identifier: BSD-2-Clause
"""Standard input of a pipeline: Ctrl-C ends the machine that writes it, and what it wrote is read.

The terminal sends SIGINT to every process of the pipeline.  A machine that lives never ends by itself.
"""

from __future__ import annotations

import io
import sys
from typing import Any, BinaryIO, cast


class _Pipe(io.RawIOBase):
    """Bytes as they come; the first Ctrl-C is the end."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._ended = False

    def readable(self) -> bool:
        return True

    def fileno(self) -> int:
        return int(self._stream.fileno())

    def readinto(self, buffer: Any) -> int:
        if self._ended:
            return 0
        try:
            data = self._stream.read1(len(buffer))
        except KeyboardInterrupt:
            self._ended = True
            return 0
        buffer[: len(data)] = data
        return len(data)


def standard_input() -> BinaryIO:
    """Where nobody types it, Ctrl-C ends it; a person at a terminal has Ctrl-D for that."""
    if sys.stdin.isatty():
        return sys.stdin.buffer
    return cast(BinaryIO, _Pipe(sys.stdin.buffer))
