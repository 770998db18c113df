# SPDX-License-Identifier: BSD-2-Clause
"""debug/explain/kernel.py, made from the kernel's own headers.

`python3 -m debug.kernel.facts [--check]`: layouts through the compiler, exit codes from
src/lib/exit.h.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from pathlib import Path

from debug.kernel.generated import main
from debug.kernel.machine import ROOT

EXIT_HEADER = ROOT / "src" / "lib" / "exit.h"
PATH = ROOT / "debug" / "explain" / "kernel.py"

_DEFINE = re.compile(r"^%define (LCPU_(?!TABLE)\w+) (\d+)$", re.MULTILINE)
_EXIT = re.compile(r"^    (EXIT_\w+) = (0x[0-9a-f]+),", re.MULTILINE)

_HEAD = '''\
# SPDX-License-Identifier: BSD-2-Clause
# Made by debug/kernel/facts.py from src/smp/lcpu.h and src/lib/exit.h; do not edit.
"""What the diagnoser knows of this project's own kernel: layouts in bytes, exit codes."""

'''


def module(constants: str, exit_header: str) -> str:
    """The module's text, from constants.inc (src/kernel.mk) and exit.h."""
    lines = [f"{name} = {value}" for name, value in sorted(_DEFINE.findall(constants))]
    lines += [f"{name} = 0x{value[2:].upper()}" for name, value in _EXIT.findall(exit_header)]
    return _HEAD + "\n".join(lines) + "\n"


def constants() -> str:
    """constants.inc, made anew.  Raises CalledProcessError."""
    with tempfile.TemporaryDirectory(prefix="lamppost-") as directory:
        target = Path(directory) / "constants.inc"
        subprocess.run(
            ["make", "-s", "-f", "src/kernel.mk", f"BUILD={directory}", str(target)],
            cwd=ROOT,
            check=True,
            stdout=subprocess.DEVNULL,
        )
        return target.read_text(encoding="ascii")


if __name__ == "__main__":
    sys.exit(
        main(__doc__, PATH, lambda: module(constants(), EXIT_HEADER.read_text(encoding="utf-8")))
    )
