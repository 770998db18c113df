# SPDX-License-Identifier: BSD-2-Clause
"""The configuration file that a Bochs command line means, and its text."""

from __future__ import annotations

import os
from typing import Optional, Sequence

from debug.sources.errors import CommandLineError

MAX_CONFIG = 1 << 20  # bytes of it that are read


def config_file(argv: Sequence[str]) -> Optional[str]:
    """The configuration file that the command line names; None if it names none."""
    if argv[-1:] and argv[-1] in ("-f", "-qf", "-rc") and len(argv) > 1:
        raise CommandLineError(f"{argv[-1]}, at the end of Bochs's command line, names no file")
    for flag, value in zip(argv[1:], argv[2:]):
        if flag in ("-f", "-qf"):
            return value
    return None


def default_files(home: Optional[str]) -> tuple[str, ...]:
    """Where Bochs looks for a configuration file of which it is told nothing [bochs(1)]."""
    at_home = (f"{home}/.bochsrc",) if home else ()
    return (".bochsrc", "bochsrc", "bochsrc.txt", *at_home, "/etc/bochsrc")


def read_config(argv: Sequence[str]) -> str:
    """The text of the configuration file; empty if there is none.  Raises CommandLineError."""
    name = config_file(argv)
    if name is None and "-n" in argv:
        return ""
    if name is None:
        places = default_files(os.environ.get("HOME"))
        name = next((place for place in places if os.path.isfile(place)), None)
        if name is None:  # Bochs would ask what to do, and wait
            raise CommandLineError(
                "bochs finds no configuration file: expected -f FILE, or bochsrc in this directory"
            )
    try:
        with open(name, "rb") as file:
            return file.read(MAX_CONFIG).decode("utf-8", "replace")
    except OSError as error:
        raise CommandLineError(f"{name}: {error.strerror or error}") from None
