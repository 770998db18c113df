# SPDX-License-Identifier: BSD-2-Clause
"""Formatting and types: what the tools say must be nothing."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.tree import TREE, tracked

LIMIT = 300  # seconds


def complaints(*argv: str) -> str:
    """What a tool says about the tree, empty if it is content."""
    done = subprocess.run(argv, cwd=TREE, capture_output=True, timeout=LIMIT, check=False)
    text = (done.stdout + done.stderr).decode("utf-8", "replace")
    return text or f"{argv[0]} exited with {done.returncode}" if done.returncode else ""


def test_c_is_formatted() -> None:
    names = [name for name in tracked("*.c", "*.h") if name.startswith(("src/", "tests/host/"))]
    assert complaints("clang-format", "--dry-run", "-Werror", *names, "trampoline/stages.h") == ""


@pytest.mark.parametrize("tool", ["black", "isort"])
def test_python_is_formatted(tool: str) -> None:
    names = [*tracked("*.py"), "debug/lamppost"]
    assert complaints(tool, "--check", "-q", *names) == "", f"run {tool} on these"


def test_python_is_typed() -> None:
    packages = ("-p", "debug", "-p", "docs.website", "-p", "tests")
    assert complaints(sys.executable, "-m", "mypy", "--strict", *packages) == ""
