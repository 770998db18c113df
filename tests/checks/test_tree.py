# SPDX-License-Identifier: BSD-2-Clause
"""The tree: its top level, its licence lines, its generated files."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from tests.tree import TREE, tracked

TOP = {
    # what a reader opens
    "README.md",
    "LICENSE",
    "Makefile",
    "bochsrc",
    "docs",
    # what it is made of
    "trampoline",
    "src",
    "debug",
    "tests",
    # settings of tools, which look for them here
    "pyproject.toml",
    ".ci",
    ".clang-format",
    ".editorconfig",
    ".gitignore",
}

LICENSED = (".py", ".c", ".h", ".asm", ".inc", ".ld", ".mk", ".sh", ".gdb", ".tsv", ".bochs")
LICENSED_NAMES = {"Makefile", "bochsrc", "debug/lamppost"}
SPDX = re.compile(r"SPDX-License-Identifier: (BSD-2-Clause|0BSD)\b")

GENERATORS = (
    "debug.stages.generate",
    "debug.failures.document",
    "debug.kernel.options_document",
    "debug.cli.described.man",
    "debug.cli.described.document",
)


def test_the_top_level_holds_what_the_layout_names() -> None:
    assert {name.split("/")[0] for name in tracked()} - TOP == set()


def test_sources_begin_with_their_licence() -> None:
    without = []
    for name in tracked():
        if not (name.endswith(LICENSED) or name in LICENSED_NAMES):
            continue
        if name.startswith("tests/recorded/"):
            continue
        head = (TREE / name).read_text(encoding="utf-8").splitlines()[:3]
        if head and not SPDX.search("\n".join(head)):
            without.append(name)
    assert without == []


@pytest.mark.parametrize("module", GENERATORS)
def test_generated_files_are_current(module: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", module, "--check"],
        cwd=TREE,
        capture_output=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, (done.stdout + done.stderr).decode() + "run make generate"
