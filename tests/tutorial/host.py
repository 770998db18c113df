# SPDX-License-Identifier: BSD-2-Clause
"""What about this machine, or this checkout, can make a chapter's output differ: one sentence each.

A reader with another emulator, or with an earlier chapter's change still in the sources, is told
that, and not every line that differs because of it.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass
from functools import lru_cache
from typing import Iterable, Optional

from debug.kernel.checkout import changed_sources


@dataclass(frozen=True)
class Program:
    """A program whose own output the chapters show, and the version that printed it."""

    title: str
    command: tuple[str, ...]
    version: re.Pattern[str]
    shown: str
    package: str


PROGRAMS = {
    "console": Program(
        "QEMU",
        ("qemu-system-x86_64", "--version"),
        re.compile(r"version (\d+\.\d+)"),
        "7.2",
        "qemu-system-x86",
    ),
    "gdb": Program("GDB", ("gdb", "--version"), re.compile(r" (\d+\.\d+)"), "13.1", "gdb"),
    "bochs": Program(
        "Bochs", ("bochs", "--help"), re.compile(r"Emulator (\d+\.\d+)"), "2.7", "bochs bochs-sdl"
    ),
}


@lru_cache(maxsize=None)
def version(program: Program) -> Optional[str]:
    """The version that is installed; None without the program, "" where it does not tell."""
    if shutil.which(program.command[0]) is None:
        return None
    done = subprocess.run(
        program.command, capture_output=True, text=True, errors="replace", timeout=30
    )
    found = program.version.search(done.stdout + done.stderr)
    return found.group(1) if found else ""


def sentence(program: Program, installed: Optional[str]) -> Optional[str]:
    """What to say of the version that is installed; None if it is the one in the chapters."""
    if installed is None:
        return (
            f"{program.title} is not installed: what needs it can't run here"
            f" (apt-get install {program.package})"
        )
    if installed != program.shown:
        return (
            f"this machine has {program.title} {installed or 'of an unknown version'}, the chapters"
            f" show {program.shown}: what {program.title} itself prints may differ, the stages and"
            " the diagnosis should not"
        )
    return None


def missing(languages: Iterable[str]) -> Optional[str]:
    """The first program that these kinds of session need and that is not installed."""
    for language in languages:
        program = PROGRAMS[language]
        if version(program) is None:
            return sentence(program, None)
    return None


def others(names: Iterable[str] = tuple(PROGRAMS)) -> list[str]:
    """A sentence for each of these programs that is missing or of another version."""
    said = (sentence(PROGRAMS[name], version(PROGRAMS[name])) for name in sorted(names))
    return [line for line in said if line is not None]


def named(lines: Iterable[str]) -> list[str]:
    """The programs that a chapter's sessions use: QEMU, with which `make` boots, and what they name."""
    text = "\n".join(lines).lower()
    return [n for n, program in PROGRAMS.items() if n == "console" or program.title.lower() in text]


def reasons(names: Iterable[str] = tuple(PROGRAMS)) -> list[str]:
    """All that can make many lines of a chapter, which uses these programs, differ at once."""
    changed = changed_sources()
    return others(names) + ([changed] if changed else [])
