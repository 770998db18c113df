# SPDX-License-Identifier: BSD-2-Clause
"""A raw dump of physical memory in a file, byte 0 of the file being physical address 0."""

from __future__ import annotations

from types import TracebackType
from typing import Optional, Type


class MemoryDump:
    """debug.evidence.Memory over a file, read where it is asked for; a context manager.

    Raises OSError when the file can't be opened; a read that fails later is unreadable memory.
    """

    def __init__(self, path: str) -> None:
        self._file = open(path, "rb")

    def __enter__(self) -> "MemoryDump":
        return self

    def __exit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        self._file.close()

    def read(self, physical: int, length: int) -> Optional[bytes]:
        """`length` bytes at a physical address; None beyond the file or where it can't be read."""
        try:
            self._file.seek(physical)
            data = self._file.read(length)
        except (OSError, ValueError, OverflowError):
            return None
        return data if len(data) == length else None
