# SPDX-License-Identifier: BSD-2-Clause
"""The images that a Bochs configuration names, and the lock files that Bochs puts beside disks.

It leaves those there when it is killed; a Bochs that finds one reports a panic, goes on without the
disk and crashes.  A floppy or a CD whose image is missing it leaves out without a word.
"""

from __future__ import annotations

import os
import re
from typing import Sequence

from debug.sources.errors import StartError

_PATH = re.compile(r"\bpath\s*=\s*(?:\"([^\"]{1,4096})\"|([^,\s]{1,4096}))")
_FLOPPY = re.compile(r"\s*floppy[ab]\s*:", re.IGNORECASE)
_FLOPPY_IMAGE = re.compile(
    r"\b(?:1_2|1_44|1_68|1_72|2_88|720k|360k|320k|180k|160k|image)\s*=\s*"
    r"(?:\"([^\"]{1,4096})\"|([^,\s]{1,4096}))"
)
_DISK = re.compile(r"\s*ata[0-3]-(?:master|slave)\s*:", re.IGNORECASE)


class Locks:
    """Those of the images that the configuration's lines name.

    Raises StartError where an image is locked already, unless Bochs is told to unlock it.
    """

    def __init__(self, lines: Sequence[str], argv: Sequence[str]) -> None:
        self._files = [f"{path}.lock" for path in images(lines)]
        taken = next((file for file in self._files if os.path.exists(file)), None)
        if taken is not None and "-unlock" not in argv:
            raise StartError(
                f"{taken} exists: another Bochs uses this image, or one was killed that did;"
                " remove the file, or give Bochs -unlock"
            )

    def release(self) -> None:
        """Remove what the ended Bochs left."""
        for file in self._files:
            try:
                os.unlink(file)
            except OSError:
                pass


def images(lines: Sequence[str]) -> list[str]:
    """The disk images, each once."""
    found = [_PATH.search(line) for line in lines if _DISK.match(line)]
    return list(dict.fromkeys((one[1] or one[2]) for one in found if one))


def absent_media(lines: Sequence[str]) -> tuple[str, ...]:
    """The images of floppies and disks that are not there, a sentence each."""
    floppies = [_FLOPPY_IMAGE.search(line) for line in lines if _FLOPPY.match(line)]
    named = [one[1] or one[2] for one in floppies if one] + images(lines)
    return tuple(
        f"{path}, which the configuration names, does not exist"
        for path in dict.fromkeys(named)
        if "$" not in path and not os.path.exists(path)
    )
