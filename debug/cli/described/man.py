# SPDX-License-Identifier: BSD-2-Clause
"""The manual page, made from the parsers: `python3 -m debug.cli.described.man [--check]`."""

from __future__ import annotations

import sys
from typing import Sequence

from debug.cli.described.model import Option, Subcommand
from debug.cli.exit_codes import MEANING, ExitCode

_NAME = "lamppost \\- says why an x86 CPU died on its way from reset to C code"
_WHAT = """\
lamppost starts a machine on QEMU or Bochs, or attaches to one, or reads what one left behind. When
a CPU triple\\-faults, hangs or never arrives, it names the root cause with its evidence and its fix.
A verdict is certain only when the architecture leaves nothing else. The guest needs no preparation.
"""
_EXAMPLES = (
    (
        "Watch a kernel boot, four CPUs of which must come up",
        "lamppost run --symbols my.elf --cpus 4 -- qemu-system-x86_64 -kernel my.elf -smp 4",
    ),
    ("The same on Bochs", "lamppost run --cpus 4 -- bochs -q -f bochsrc"),
    ("A machine that runs already (qemu -s)", "lamppost attach :1234"),
    ("A log and a core of another machine", "lamppost explain qemu.log machine.core"),
    ("In a CI job on GitHub", "lamppost run --annotations github -- qemu-system-x86_64 ..."),
)


def page(commands: Sequence[Subcommand]) -> str:
    """The page in man(7) macros."""
    lines = [
        '.\\" Made by debug/cli/described/man.py from the parsers; do not edit.',
        '.\\" SPDX-License-Identifier: BSD-2-Clause',
        '.TH LAMPPOST 1 "" lamppost "User Commands"',
        ".SH NAME",
        _NAME,
        ".SH SYNOPSIS",
    ]
    for command in commands:
        lines += [".PP" if command is not commands[0] else ".nh", _line(command.usage)]
    lines += [".SH DESCRIPTION", *_sentences(_WHAT)]
    lines.append(".SH COMMANDS")
    for command in commands:
        lines += _command(command)
    lines.append('.SH "EXIT STATUS"')
    for code in ExitCode:
        lines += [".TP", f".B {code.value}", _line(MEANING[code])]
    lines += [".SH ENVIRONMENT", ".TP", ".B NO_COLOR", "No colours in the report."]
    lines.append(".SH EXAMPLES")
    for title, example in _EXAMPLES:
        lines += [".PP", _line(title) + ":", ".PP", ".RS 4", ".nf", _line(example), ".fi", ".RE"]
    lines.append('.SH "SEE ALSO"')
    lines.append(".BR qemu\\-system\\-x86_64 (1),\n.BR bochs (1),\n.BR gdb (1)")
    return "\n".join(lines) + "\n"


def _command(command: Subcommand) -> list[str]:
    summary = command.summary[0].upper() + command.summary[1:] + "."
    lines = [f'.SS "{_escaped(command.name)}"', _line(summary)]
    for option in (*command.positionals, *command.options):
        lines += [".TP", _tag(option), _line(option.help)]
    for paragraph in command.epilog.split("\n\n"):
        if paragraph:
            lines += [".PP", *_sentences(_escaped(paragraph))]
    return lines


def _tag(option: Option) -> str:
    metavar = f"\\fI{_escaped(option.metavar)}\\fR" if option.metavar else ""
    flags = ", ".join(f"\\fB{_escaped(flag)}\\fR" for flag in option.flags)
    return " ".join(filter(None, (flags, metavar)))


def _sentences(text: str) -> list[str]:
    """Text that is escaped already, without lines that a formatter would take as requests."""
    return [_guarded(line.strip()) for line in text.strip().splitlines()]


def _line(text: str) -> str:
    return _guarded(_escaped(text))


def _escaped(text: str) -> str:
    return text.replace("\\", "\\e").replace("-", "\\-")


def _guarded(line: str) -> str:
    return "\\&" + line if line.startswith((".", "'")) else line


if __name__ == "__main__":
    from debug.cli.main import described
    from debug.kernel.generated import main
    from debug.kernel.machine import ROOT

    sys.exit(main(__doc__, ROOT / "docs" / "lamppost.1", lambda: page(described())))
