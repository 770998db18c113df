# SPDX-License-Identifier: BSD-2-Clause
"""The `lamp` commands: each an argument parser and a function from arguments to text."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from typing import Callable, NoReturn, Optional, Sequence

from debug.gdb.commands import breaks, state, tables, why
from debug.gdb.context import Lamp
from debug.gdb.debugger import DebuggerError

HELP = """Lamppost: where each CPU is, how it got there, and why it died.

These commands look at every CPU in the mode that it is in, and leave the
selected thread alone. `help lamp COMMAND` describes one."""


class _Parser(argparse.ArgumentParser):
    """An argparse that raises instead of leaving GDB."""

    def error(self, message: str) -> NoReturn:
        raise DebuggerError(f"{self.prog}: {message}\n{self.format_usage().rstrip()}")

    def exit(self, status: int = 0, message: Optional[str] = None) -> NoReturn:
        raise DebuggerError(message or "")


@dataclass(frozen=True)
class Command:
    """`run` returns what to print; it raises DebuggerError with what to say instead."""

    name: str
    summary: str
    configure: Callable[[argparse.ArgumentParser], None]
    run: Callable[[Lamp, argparse.Namespace], str]
    complete: Callable[[Lamp, str], Sequence[str]] = lambda lamp, word: ()

    def parser(self) -> argparse.ArgumentParser:
        parser = _Parser(
            prog=f"lamp {self.name}",
            add_help=False,
        )
        self.configure(parser)
        return parser

    def help(self) -> str:
        """What `help lamp NAME` prints: its first line is the summary."""
        summary = self.summary[0].upper() + self.summary[1:]
        return f"{summary}.\n\n{self.parser().format_help().strip()}"


COMMANDS: tuple[Command, ...] = (
    Command("break", "stop at a stage", breaks.configure, breaks.run, breaks.complete),
    Command("cpus", "show what every CPU does", state.configure_cpus, state.cpus),
    Command("gdt", "show the global descriptor table", tables.configure_gdt, tables.gdt),
    Command("idt", "show the interrupt table", tables.configure_idt, tables.idt),
    Command("mode", "show the mode of a CPU and what proves it", state.configure_one, state.mode),
    Command("stages", "show the stages that were lit", state.configure_stages, state.stages),
    Command("walk", "walk the page tables", tables.configure_walk, tables.walk),
    Command("why", "say why the machine is where it is", why.configure, why.run),
)


def execute(lamp: Lamp, name: str, words: Sequence[str]) -> str:
    """Run one command; DebuggerError with a message for the user."""
    command = next(one for one in COMMANDS if one.name == name)
    if "-h" in words or "--help" in words:
        return command.help() + "\n"
    return command.run(lamp, command.parser().parse_args(list(words)))


def completions(lamp: Lamp, name: str, word: str) -> Sequence[str]:
    """What may follow in the command line of `name`."""
    command = next(one for one in COMMANDS if one.name == name)
    return command.complete(lamp, word)
