# SPDX-License-Identifier: BSD-2-Clause
"""`make readme`: the real output of `make demo`, between its marks in README.md."""

from __future__ import annotations

import contextlib
import io
import sys

from debug.kernel.demo import demo
from debug.kernel.machine import ROOT, Kernel

PATH = ROOT / "README.md"
BEGIN = "<!-- demo: made by `make readme` -->\n```text\n"
END = "```\n<!-- /demo -->\n"


def with_demo(readme: str, output: str) -> str:
    """The README's text with this output in it.  Raises ValueError without the marks."""
    before, _, rest = readme.partition(BEGIN)
    _, found, after = rest.partition(END)
    if not found:
        raise ValueError(f"{PATH.name} has lost its marks: expected {BEGIN!r} and {END!r}")
    return before + BEGIN + output + END + after


def main(kernel: Kernel, check: bool) -> int:
    """Run the demo and write its output into the README; with `check`, only compare."""
    output = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True)
    with contextlib.redirect_stdout(output):
        code = demo(kernel)
    output.seek(0)
    shown = output.read()
    if code:
        sys.stderr.write(shown)
        return code
    old = PATH.read_text(encoding="utf-8")
    new = with_demo(old, shown)
    if new == old:
        return 0
    if check:
        print(f"{PATH.name} does not show what make demo prints: make readme", file=sys.stderr)
        return 1
    PATH.write_text(new, encoding="utf-8")
    return 0
