# SPDX-License-Identifier: BSD-2-Clause
"""`lamppost`: finds the subcommand, runs it and turns errors into messages and exit codes.

A subcommand is a module of this package with two functions:

    configure(parser)   adds its arguments to an argparse.ArgumentParser
    run(options)        does the work and returns the exit code (debug/cli/exit_codes.py)

and one row in COMMANDS.  It is imported only when it is asked for; a row without a module is
not listed.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import sys
from typing import (
    TYPE_CHECKING,
    Collection,
    NamedTuple,
    NoReturn,
    Optional,
    Protocol,
    Sequence,
    cast,
)

from debug.cli.errors import CommandError
from debug.cli.exit_codes import MEANING, ExitCode
from debug.cli.guard import guarded, open_streams

if TYPE_CHECKING:
    from debug.cli.described.model import Subcommand


class Command(NamedTuple):
    name: str
    module: str  # in debug.cli
    summary: str


COMMANDS = (
    Command(
        "run", "run", "start a machine, watch it, diagnose it when it dies, hangs or lacks CPUs"
    ),
    Command("explain", "explain", "diagnose from a log, a register dump or a core"),
    Command("attach", "attach", "diagnose a machine behind a running GDB stub"),
    Command("stages", "stages", "decode a stage trace: table, timeline, SVG, Perfetto, JSON"),
    Command("failures", "failures", "the failure table: causes, symptoms and fixes"),
    Command(
        "doctor", "doctor", "check the installed tools: what works, what each missing one costs"
    ),
    Command("completion", "completion", "print the completion script of a shell"),
)


_REPORTING = frozenset(("run", "explain", "attach"))


class CommandModule(Protocol):
    """What a subcommand's module offers."""

    def configure(self, parser: argparse.ArgumentParser) -> None:
        ...

    def run(self, options: argparse.Namespace) -> int:
        ...


class _Parser(argparse.ArgumentParser):
    """Its errors are those of every command."""

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        raise CommandError(message, ExitCode.USAGE)


def available() -> tuple[Command, ...]:
    """The commands whose module exists."""
    return tuple(c for c in COMMANDS if importlib.util.find_spec(f"debug.cli.{c.module}"))


def _parser(commands: Sequence[Command], chosen: Collection[str]) -> argparse.ArgumentParser:
    """The whole command line; only the chosen commands' modules are imported."""
    codes = "\n".join(f"  {code.value:>3}  {MEANING[code]}" for code in ExitCode)
    parser = _Parser(
        prog="lamppost",
        description="Why did this CPU die? Watches x86 machines boot and names the cause.",
        epilog=f"exit codes:\n{codes}\n\n`lamppost COMMAND --help` describes a command.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command in commands:
        subparser = subparsers.add_parser(
            command.name,
            help=command.summary,
            description=command.summary[0].upper() + command.summary[1:] + ".",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        if command.name in chosen:
            module = _load(command)
            module.configure(subparser)
            subparser.set_defaults(command=module)
    return parser


def _load(command: Command) -> CommandModule:
    return cast(CommandModule, importlib.import_module(f"debug.cli.{command.module}"))


def _chosen(arguments: Sequence[str]) -> tuple[str, ...]:
    """What may be a command on the command line: its first word that is not an option."""
    return tuple(word for word in arguments if not word.startswith("-"))[:1]


def described() -> tuple[Subcommand, ...]:
    """Every command with all of its arguments, for the manual and the shells."""
    from debug.cli.described.model import subcommands
    from debug.doctor.checks import PARTS
    from debug.failures.table import ROWS

    commands = available()
    parser = _parser(commands, [command.name for command in commands])
    rows = tuple(row.id for row in ROWS)
    taken = {("failures", "ID"): rows, ("doctor", "PART"): tuple(PARTS)}
    taken.update({(command.name, "ROW"): rows for command in commands})
    return subcommands(parser, taken)


def _dispatch(arguments: Sequence[str]) -> int:
    commands = available()
    options = _parser(commands, _chosen(arguments)).parse_args(arguments)
    command: CommandModule = options.command
    code = command.run(options)
    sys.stdout.flush()
    return int(code)


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """Entry point: the exit code.  Argparse exits by itself on --help."""
    open_streams()
    words = sys.argv[1:] if arguments is None else arguments
    return guarded(lambda: _dispatch(words), _as_report if _wants_report(words) else None)


def _wants_report(words: Sequence[str]) -> bool:
    """Whether a program reads what is printed, and expects the object that reports are."""
    own = words[: words.index("--")] if "--" in words else words
    return "--json" in own and not _REPORTING.isdisjoint(_chosen(own))


def _as_report(message: str) -> None:
    from debug.report.machine import bad_input

    print(json.dumps(bad_input("; ".join(map(str.strip, message.splitlines()))), indent=2))
