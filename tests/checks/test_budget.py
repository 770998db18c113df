# SPDX-License-Identifier: BSD-2-Clause
"""The kernel keeps to its line budget."""

from __future__ import annotations

from tests.checks.budget import BUDGET, LONGEST, code_lines, measure, report
from tests.tree import TREE


def test_the_kernel_keeps_to_its_budget() -> None:
    print(report())
    assert sum(code for code, _ in measure().values()) < BUDGET


def test_no_file_is_too_long() -> None:
    long = {str(path.relative_to(TREE)): lines for path, (_, lines) in measure().items()}
    assert {path: lines for path, lines in long.items() if lines > LONGEST} == {}


def test_comments_and_blank_lines_do_not_count() -> None:
    text = '/* a\n b */\n\nint a; // b\nchar *s = "/* no\\" comment */";\n  /* c */ int d;\n'
    assert code_lines(text, ".c") == 3
    assert code_lines("; a\n  mov al, ';' ; b\n\n db \"a;b\"\n", ".asm") == 2
