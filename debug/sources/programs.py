# SPDX-License-Identifier: BSD-2-Clause
"""Where the programs are that lamppost starts."""

from __future__ import annotations

import os
import shutil

from debug.sources.errors import MissingProgram, StartError


def find_program(name: str, packages: str) -> str:
    """The absolute path of a program.  Raises StartError, with Debian's packages that have it."""
    path = shutil.which(name)
    if path is not None:
        return os.path.abspath(path)
    if os.path.isfile(name) and "/" in name:
        raise StartError(f"{name} can't be executed: expected a program")
    if "/" in name:
        raise MissingProgram(f"{name} is not there: expected a program")
    raise MissingProgram(f"{name} is not installed; on Debian: apt-get install {packages}")
