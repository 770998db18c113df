# SPDX-License-Identifier: BSD-2-Clause
"""Reading a file while somebody else appends to it, and giving its disk space back.

A machine that faults in a loop writes megabytes of log a second.  What has been read of a private
file is punched out of it, so that it takes no space however long it grows.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import os
from typing import Optional

_KEEP_SIZE, _PUNCH_HOLE = 1, 2
_PUNCH_EVERY = 1 << 20  # bytes
_CHUNK = 1 << 20


class FollowedFile:
    """The bytes that appear in `path`, which need not exist yet.

    `private` files are ours to punch.  `limit` bounds one read() in bytes, so that a flood can't
    keep the reader from its deadlines.  No method raises for a file that is missing or went away.
    """

    def __init__(self, path: str, private: bool, limit: int = 16 << 20) -> None:
        self.path = path
        self._private = private
        self._limit = limit
        self._fd: Optional[int] = None
        self._position = 0
        self._punched = 0

    def read(self) -> bytes:
        """What was appended since the last call; empty if nothing was."""
        if self._fd is None and not self._open():
            return b""
        assert self._fd is not None
        parts: list[bytes] = []
        left = self._limit
        while left > 0:
            try:
                data = os.pread(self._fd, min(_CHUNK, left), self._position)
            except OSError:
                break
            if not data:
                break
            parts.append(data)
            self._position += len(data)
            left -= len(data)
        if self._private and self._position - self._punched >= _PUNCH_EVERY:
            _punch(self._fd, self._punched, self._position - self._punched)
            self._punched = self._position
        return b"".join(parts)

    def _open(self) -> bool:
        flags = os.O_RDWR if self._private else os.O_RDONLY
        try:
            self._fd = os.open(self.path, flags | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError:
            return False
        return True

    def close(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


def _punch(fd: int, start: int, length: int) -> None:
    """Free the blocks of a range; where the file system can't, they stay."""
    try:
        libc = ctypes.CDLL(ctypes.util.find_library("c") or "libc.so.6", use_errno=True)
        libc.fallocate(
            ctypes.c_int(fd),
            ctypes.c_int(_KEEP_SIZE | _PUNCH_HOLE),
            ctypes.c_int64(start),
            ctypes.c_int64(length),
        )
    except (OSError, AttributeError):
        pass
