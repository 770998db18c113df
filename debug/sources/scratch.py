# SPDX-License-Identifier: BSD-2-Clause
"""A directory for the files of one run, and the end of those that a killed observer left behind.

Whoever uses a directory holds a lock on it (flock(2)), which the kernel drops however he ends: one
that can be locked is nobody's.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import time

PREFIX = "lamppost-run-"
_YOUNG = 60.0  # seconds: it may have been made and not been locked yet


class Scratch:
    """A new directory, private to its owner, until `remove`.  Raises OSError."""

    def __init__(self) -> None:
        sweep()
        self.path: str = tempfile.mkdtemp(prefix=PREFIX)
        self._lock = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
        fcntl.flock(self._lock, fcntl.LOCK_EX)

    def remove(self) -> None:
        """Remove it with what is in it."""
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._lock)


def sweep() -> None:
    """Remove what runs of this user left that were killed before they could."""
    try:
        with os.scandir(tempfile.gettempdir()) as entries:
            found = [entry.path for entry in entries if entry.name.startswith(PREFIX)]
    except OSError:
        return
    for path in found:
        try:
            opened = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        except OSError:
            continue
        try:
            is_ = os.fstat(opened)
            if is_.st_uid == os.geteuid() and time.time() - is_.st_mtime > _YOUNG:
                fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(path, ignore_errors=True)
        except OSError:
            pass  # it is in use
        finally:
            os.close(opened)
