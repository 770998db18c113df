# SPDX-License-Identifier: BSD-2-Clause
"""docs/commands.md, from the parsers and the Makefile: `python3 -m debug.cli.described.document`."""

from __future__ import annotations

import argparse
import importlib
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Sequence

from debug.cli.described.model import Option, Subcommand, subcommands
from debug.cli.exit_codes import MEANING, ExitCode

ROOT = Path(__file__).resolve().parents[3]
PATH = ROOT / "docs" / "commands.md"
_TARGET = re.compile(r"^([a-z%-]+):.*## (.+)$", re.M)
_SETTING = re.compile(r"^\t@echo '  ([A-Z0-9]+=\S*)\s+(.+)'$", re.M)

_HEAD = """<!-- Made by debug/cli/described/document.py from the parsers and the Makefile; do not edit. -->
# Commands

`debug/lamppost` works on anybody's kernel; `make` works on the one here; `lamp` is what GDB gets.
Each describes itself: `debug/lamppost COMMAND --help`, `make help`, `help lamp` in GDB.
"""


def page(commands: Sequence[Subcommand], lamps: Sequence[Subcommand], makefile: str) -> str:
    """The document."""
    parts = [_HEAD, "## lamppost\n", *(_command("lamppost ", command) for command in commands)]
    parts += ["### Exit codes\n", _codes(), "## In GDB\n", *(_command("", lamp) for lamp in lamps)]
    parts += ["## make\n", _table(("target", "what it does"), _targets(makefile))]
    parts += ["### Settings\n", _table(("setting", "what it means"), _settings(makefile))]
    return "\n".join(parts)


def _command(prefix: str, command: Subcommand) -> str:
    lines = [f"### {prefix}{command.name}\n", f"{_sentence(command.summary)}\n"]
    lines.append(f"    {command.usage}\n")
    rows = [(_shown(option), option.help) for option in (*command.positionals, *command.options)]
    rows = [row for row in rows if row[1] and row[0] != "`-h`, `--help`"]
    if rows:
        lines.append(_table(("argument", "what it means"), rows))
    if command.epilog:
        lines.append("\n".join(f"    {line}".rstrip() for line in command.epilog.splitlines()))
        lines.append("")
    return "\n".join(lines)


def _shown(option: Option) -> str:
    flags = [f"`{flag}`" for flag in option.flags]
    value = f"*{_escaped(option.metavar)}*" if option.metavar else ""
    return " ".join(filter(None, (", ".join(flags), value)))


def _codes() -> str:
    rows = [(str(int(code)), MEANING[code]) for code in ExitCode]
    return _table(("code", "meaning"), rows)


def _targets(makefile: str) -> list[tuple[str, str]]:
    return [(f"`make {name}`", what) for name, what in _TARGET.findall(makefile)]


def _settings(makefile: str) -> list[tuple[str, str]]:
    return [(f"`{name}`", what) for name, what in _SETTING.findall(makefile)]


def _table(head: tuple[str, str], rows: Sequence[tuple[str, str]]) -> str:
    lines = [f"| {head[0]} | {head[1]} |", "| --- | --- |"]
    lines += [f"| {_cell(one)} | {_cell(two)} |" for one, two in rows]
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _escaped(text: str) -> str:
    return re.sub(r"([*_\[\]<>])", r"\\\1", text)


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:] + ("" if text.endswith(".") else ".")


def document() -> str:
    """docs/commands.md as the tree says it."""
    from debug.cli.main import available
    from debug.gdb.commands import COMMANDS

    own = _parser()
    for command in available():
        configure = importlib.import_module(f"debug.cli.{command.module}").configure
        configure(
            own.add_parser(command.name, help=command.summary, prog=f"lamppost {command.name}")
        )
    lamps = _parser()
    for lamp in COMMANDS:
        name = f"lamp {lamp.name}"
        lamp.configure(lamps.add_parser(name, help=lamp.summary, prog=name, add_help=False))
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    return page(_all(own), _all(lamps), makefile)


@dataclass(frozen=True)
class _Commands:
    """A parser that has nothing but commands."""

    whole: argparse.ArgumentParser
    add_parser: Callable[..., argparse.ArgumentParser]


def _parser() -> _Commands:
    whole = argparse.ArgumentParser()
    return _Commands(whole, whole.add_subparsers().add_parser)


def _all(commands: _Commands) -> tuple[Subcommand, ...]:
    return subcommands(commands.whole, {})


def main() -> int:
    """Write it, or with --check say whether it is stale (1)."""
    from debug.kernel.generated import main as generate

    return generate(__doc__, PATH, document)


if __name__ == "__main__":
    sys.exit(main())
