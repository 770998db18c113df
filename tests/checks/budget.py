# SPDX-License-Identifier: BSD-2-Clause
"""The line budget: the kernel stays small enough to be held in the head.

    python3 -m tests.checks.budget      prints what each part takes

A line of code is one of C or NASM that holds more than blanks and comments.  The stage table does
not count, which is sentences, nor do the rules that build and link, nor the drop-in kit, which is
for other kernels.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Mapping

from tests.tree import TREE

BUDGET = 8000  # lines of code in all parts together, fewer than this
LONGEST = 400  # lines of one file, comments and all
PARTS = ("src", "trampoline")
NO_CODE = {TREE / "trampoline/stages.h"}
NOT_OURS = TREE / "trampoline/kit"
NO_CODE_KINDS = {".mk", ".ld", ".cfg"}

# Comments, and the strings that may hold what only looks like one.
_C = re.compile(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"', re.DOTALL)
_NASM = re.compile(r""";[^\n]*|"[^"\n]*"|'[^'\n]*'""")
_COMMENTS = {
    ".c": _C,
    ".h": _C,
    ".asm": _NASM,
    ".inc": _NASM,
}


def files() -> list[Path]:
    """Every file of the parts that counts."""
    found = (p for part in PARTS for p in (TREE / part).rglob("*") if p.is_file())
    return sorted(p for p in found if NOT_OURS not in p.parents)


def code_lines(text: str, suffix: str) -> int:
    """How many lines of `text` are code.  Raises KeyError for a kind of file not known here."""

    def without(match: re.Match[str]) -> str:
        found = match.group()
        return found if found[0] in "\"'" else "\n" * found.count("\n")

    return sum(1 for line in _COMMENTS[suffix].sub(without, text).splitlines() if line.strip())


def measure() -> Mapping[Path, tuple[int, int]]:
    """Lines of code and lines in all of each file."""
    sizes = {}
    for path in files():
        text = path.read_text(encoding="utf-8")
        counts = path not in NO_CODE and path.suffix not in NO_CODE_KINDS
        code = code_lines(text, path.suffix) if counts else 0
        sizes[path] = (code, len(text.splitlines()))
    return sizes


def report() -> str:
    """The budget as text, part by part."""
    sizes = measure()
    parts: dict[str, int] = {}
    for path, (code, _) in sizes.items():
        part = str(path.parent.relative_to(TREE))
        parts[part] = parts.get(part, 0) + code
    longest = max(sizes, key=lambda path: sizes[path][1])
    lines = [f"{count:6} {part}" for part, count in sorted(parts.items())]
    lines.append(f"{sum(parts.values()):6} of fewer than {BUDGET} lines of code")
    lines.append(f"{sizes[longest][1]:6} lines in the longest file, {longest.relative_to(TREE)}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.stdout.write(report() + "\n")
