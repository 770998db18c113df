# SPDX-License-Identifier: BSD-2-Clause
"""`make readme`: the real output of `make demo`, between its marks in README.md.

Other commands record their output there in the same way.
"""

from __future__ import annotations

import contextlib
import io
import sys

from debug.kernel.demo import demo
from debug.kernel.machine import ROOT, Kernel

PATH = ROOT / "README.md"
MADE_BY = {"demo": "make readme", "bench-run": "make bench-run RECORD=1"}


def recorded(readme: str, name: str, output: str) -> str:
    """The README's text with this output between the marks `name`.

    Raises ValueError without the marks.
    """
    begin = f"<!-- {name}: made by `{MADE_BY[name]}` -->\n```text\n"
    end = f"```\n<!-- /{name} -->\n"
    before, _, rest = readme.partition(begin)
    _, found, after = rest.partition(end)
    if not found:
        raise ValueError(f"{PATH.name} has lost its marks: expected {begin!r} and {end!r}")
    return before + begin + output + end + after


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
    new = recorded(old, "demo", shown)
    if new == old:
        return 0
    if check:
        print(f"{PATH.name} does not show what make demo prints: make readme", file=sys.stderr)
        return 1
    PATH.write_text(new, encoding="utf-8")
    return 0
