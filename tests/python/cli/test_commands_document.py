# SPDX-License-Identifier: BSD-2-Clause
"""The command reference: nothing that a command takes is missing from it."""

from __future__ import annotations

from debug.cli.described import document
from debug.cli.described.model import Option, Subcommand
from debug.cli.main import available
from debug.gdb.commands import COMMANDS


def test_the_document_has_every_command_target_and_setting() -> None:
    text = document.document()
    for command in available():
        assert f"### lamppost {command.name}\n" in text
    for lamp in COMMANDS:
        assert f"### lamp {lamp.name}\n" in text
    for flag in ("--picture", "--symbols", "--strict", "`make demo`", "`make picture-%`", "LAB=id"):
        assert flag in text
    assert "--help`" not in text.split("## lamppost")[1]


def test_the_document_keeps_its_tables_whole() -> None:
    option = Option(("--what",), "A|B", "one | two\nlines", ())
    command = Subcommand("x", "do it", "x [--what A|B]", (option,), (), "epilog")
    page = document.page([command], [], "go:\n")
    assert "| `--what` *A\\|B* | one \\| two lines |" in page
    assert "Do it." in page and "    epilog" in page
