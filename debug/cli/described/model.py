# SPDX-License-Identifier: BSD-2-Clause
"""The parsers of `lamppost` as data."""

from __future__ import annotations

import argparse
import re
from dataclasses import dataclass
from typing import Mapping

FILES, DIRECTORIES, COMMANDS, NOTHING = "files", "directories", "commands", "nothing"
_OF_METAVAR = {
    "FILE": FILES,
    "ELF": FILES,
    "ELF[@OFFSET]": FILES,
    "DUMP": FILES,
    "OUT": FILES,
    "DIR": DIRECTORIES,
}


@dataclass(frozen=True)
class Option:
    """One option, or one positional argument (no flags)."""

    flags: tuple[str, ...]
    metavar: str  # "" for a switch
    help: str
    values: tuple[str, ...] = ()  # all that it takes, where they are known
    completes: str = NOTHING  # what a shell offers for it


@dataclass(frozen=True)
class Subcommand:
    """One command with its options and what it takes besides."""

    name: str
    summary: str
    usage: str  # one line
    options: tuple[Option, ...]
    positionals: tuple[Option, ...]
    epilog: str
    runs_command: bool = False  # what follows -- is another program's command line


def subcommands(
    parser: argparse.ArgumentParser, values: Mapping[tuple[str, str], tuple[str, ...]]
) -> tuple[Subcommand, ...]:
    """All commands of a parser; `values` adds what a (command, metavar) takes."""
    choices = next(a for a in parser._actions if isinstance(a, argparse._SubParsersAction))
    summaries = {action.dest: action.help or "" for action in choices._choices_actions}
    return tuple(
        _subcommand(name, summaries[name], found, values) for name, found in choices.choices.items()
    )


def _subcommand(
    name: str,
    summary: str,
    parser: argparse.ArgumentParser,
    values: Mapping[tuple[str, str], tuple[str, ...]],
) -> Subcommand:
    actions = [(action, _option(action, name, values)) for action in parser._actions]
    shown = [option for action, option in actions if action.help != argparse.SUPPRESS]
    usage = parser.format_usage().removeprefix("usage:")
    return Subcommand(
        name,
        summary,
        re.sub(r"\s+", " ", usage).strip(),
        tuple(option for option in shown if option.flags),
        tuple(option for option in shown if not option.flags),
        parser.epilog or "",
        any(action.nargs == argparse.REMAINDER for action, _ in actions),
    )


def _option(
    action: argparse.Action, command: str, values: Mapping[tuple[str, str], tuple[str, ...]]
) -> Option:
    takes = action.nargs != 0
    metavar = str(action.metavar or "") if takes else ""
    choices = tuple(str(choice) for choice in action.choices or ())
    if takes and not metavar:
        metavar = "{" + ",".join(choices) + "}" if choices else action.dest.upper()
    known = choices or values.get((command, metavar), ())
    help_text = (action.help or "") % {**vars(action), "prog": command}
    return Option(
        tuple(action.option_strings),
        metavar,
        re.sub(r"\s+", " ", help_text),
        known,
        NOTHING if known else _OF_METAVAR.get(metavar, NOTHING),
    )
