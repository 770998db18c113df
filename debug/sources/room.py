# SPDX-License-Identifier: BSD-2-Clause
"""Room for what an emulator writes: a log that its disk cut short tells of a death no more."""

from __future__ import annotations

import os
import tempfile

from debug.sources.errors import StartError

AT_START = 4 << 20  # bytes: a log is read as it grows, a mebibyte at a time, and given back
AT_END = 256 << 10  # a few blocks of memory, as they are read

FULL = (
    "the file system of {} is full: log and memory of this machine are not whole; set TMPDIR, or"
    " --keep, to a directory with more room"
)


def has_room(directory: str, size: int) -> bool:
    """Whether so many bytes can be written there now."""
    try:
        with tempfile.TemporaryFile(dir=directory) as file:
            os.posix_fallocate(file.fileno(), 0, size)
    except OSError:
        return False
    return True


def require_room(directory: str) -> None:
    """Raises StartError where a machine's files would not fit."""
    if not has_room(directory, AT_START):
        raise StartError(
            f"{directory}: less than {AT_START >> 20} MiB can be written there, and the emulator's log"
            " and memory pass through it: set TMPDIR, or --keep, to a directory with more room"
        )
