# SPDX-License-Identifier: BSD-2-Clause
"""docs/boot-options.md, made from src/boot/choices.h.

`python3 -m debug.kernel.options_document [--check]`
"""

from __future__ import annotations

import re
import sys

from debug.kernel.generated import main
from debug.kernel.machine import ROOT

SOURCE = ROOT / "src" / "boot" / "choices.h"
PATH = ROOT / "docs" / "boot-options.md"

_ROW = re.compile(r'^(CHOICE|SINK|VALUE|EXCLUDES)\((".*?")\)$', re.MULTILINE | re.DOTALL)
_STRING = re.compile(r'"([^"]*)"')

_HEAD = """\
<!-- Made by debug/kernel/options_document.py from src/boot/choices.h; do not edit. -->
# Boot options

Words on the kernel's command line, separated by spaces: `make run OPTIONS="smp=serial"`, QEMU's
`-append`, or the `multiboot2` line of GRUB. An unknown word ends the machine with a message, and so do two words that
contradict each other.

| option | what it does |
| --- | --- |
"""
_PAIRS = """
These contradict each other:

"""


def document(source: str) -> str:
    """The document's text for the text of choices.h."""
    rows = []
    pairs = ["two values of one option, such as `trace=none trace=mem`"]
    for kind, arguments in _ROW.findall(source):
        word, *rest = _STRING.findall(arguments)
        if kind == "EXCLUDES":
            other, why = rest
            pairs.append(f"`{word}` and `{other}`: {why}")
            continue
        if kind == "SINK":
            word = f"trace={word}"
            rest[-1] += "; several with commas, as in `trace=e9,mem`"
        elif kind == "VALUE":
            word += rest.pop(0)
        rows.append(f"| `{word}` | {''.join(rest)} |\n")
    return _HEAD + "".join(rows) + _PAIRS + "".join(f"- {pair}\n" for pair in pairs)


if __name__ == "__main__":
    sys.exit(main(__doc__, PATH, lambda: document(SOURCE.read_text(encoding="utf-8"))))
