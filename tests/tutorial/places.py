# SPDX-License-Identifier: BSD-2-Clause
"""The numbers in a chapter's output that move whenever the kernel is built from other sources.

An address of the kernel, an offset behind a symbol, the line of a source file: a chapter shows them
as they came, and each stands for another one of its kind, if only it does so in the whole block.
So a change of the kernel makes no chapter stale, and what a chapter proves by showing one address
twice is proved again each time it is executed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Iterator


@dataclass(frozen=True)
class Kind:
    """A number that moves, the text before it that does not, and what must follow."""

    fixed: str
    moves: str
    after: str = ""

    @property
    def pattern(self) -> str:
        return f"({self.fixed})({self.moves}){self.after}"


_END = r"(?![0-9a-fA-F])"
_BEGIN = r"(?<![0-9a-zA-Z])"

KINDS = (
    # the kernel's window, in memory and in GDB's or nm's words
    Kind(_BEGIN + "(?:0x)?", r"ffffffff8(?!0000000)[0-9a-f]{7}", _END),
    # the trampoline's page at its default address; its beginning does not move
    Kind(_BEGIN + "(?:0x(?:0{12})?|0{4}|0{12}|0800:0{12})", r"8(?!000)[0-9a-f]{3}", _END),
    # the kernel's image where it was loaded; its beginning does not move
    Kind(_BEGIN + "(?:0x(?:0{10})?|0{2}|0{10})", r"1(?!00000)[0-9a-f]{5}", _END),
    # what lies at the end of a machine of 128 MiB: page tables, the firmware's tables
    Kind(_BEGIN + "0x0?", r"7f[0-9a-f]{5}", _END),
    # behind a symbol: the diagnoser's way to say it, and GDB's
    Kind(r"\b[A-Za-z_][\w.]*\+", r"0x[0-9a-f]+", _END),
    Kind(r"<[\w.]+\+", r"\d+", "(?=>)"),
    # lines of source files: the diagnoser's way to say it, GDB's, and before a line that it prints
    Kind(r"\b(?:[\w/]+\.(?:asm|inc|c|h)|Makefile):", r"\d+", r"\b"),
    Kind(r"\bfile [\w/]+\.(?:asm|inc|c|h), line ", r"\d+", r"\b"),
    Kind("^", r"\d+", r"(?=\t)"),
    # offsets in the trampoline's page: nm's, objdump's, QEMU's IP, and its relocations in pairs
    Kind("^0{13}", r"[0-9a-f]{3}", "(?= [Tt] )"),
    Kind("^ ", r"[0-9a-f]{3}", r"(?=:\t)"),
    Kind(r"\bIP=0800:0{13}", r"[0-9a-f]{3}", _END),
    Kind("^ ", r"0{5}[0-9a-f]{3} 0{5}[0-9a-f]{3}", "$"),
)
_ANY = re.compile("|".join(kind.pattern for kind in KINDS))


@dataclass(frozen=True)
class Place:
    """One such number in a line: where it is, what it is called, and what may stand for it."""

    start: int
    end: int
    name: str  # with the text before it that does not move
    pattern: str


def places(line: str) -> Iterator[Place]:
    """Those in a line, from left to right."""
    for found in _ANY.finditer(line):
        at = next(i for i in range(len(KINDS)) if found.group(2 * i + 1) is not None)
        start, end = found.span(2 * at + 2)
        yield Place(start, end, found.group(0), KINDS[at].moves + KINDS[at].after)
