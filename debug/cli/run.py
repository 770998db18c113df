# SPDX-License-Identifier: BSD-2-Clause
"""`lamppost run [options] -- qemu-system-x86_64 ...` (or `-- bochs ...`)."""

from __future__ import annotations

import argparse
from pathlib import Path

from debug.cli.annotate import guest_output
from debug.cli.errors import CommandError
from debug.cli.exit_codes import ExitCode
from debug.cli.observe import Wishes, echo, observe
from debug.cli.show import add_report_options, show


def symbol_file(text: str) -> tuple[Path, int]:
    """FILE or FILE@OFFSET, the offset in hexadecimal with 0x or in decimal."""
    path, at, offset = text.rpartition("@")
    if not at:
        return Path(text), 0
    try:
        return Path(path), int(offset, 0)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r}: expected FILE or FILE@OFFSET, such as trampoline.elf@0x8000"
        ) from None


def configure(parser: argparse.ArgumentParser) -> None:
    """The command's own options; what follows -- is the emulator's."""
    parser.usage = "lamppost run [options] -- EMULATOR ARGUMENTS..."
    parser.add_argument(
        "--symbols",
        metavar="ELF[@OFFSET]",
        type=symbol_file,
        action="append",
        default=[],
        help="symbols of the guest, at a load offset; may be repeated",
    )
    parser.add_argument("--cpus", type=int, metavar="N", help="how many CPUs must come up")
    parser.add_argument(
        "--timeout", type=float, default=60.0, metavar="SECONDS", help="stop a machine that runs"
    )
    parser.add_argument(
        "--until", metavar="REGEX", help="healthy when this appears on port 0xE9 or COM1"
    )
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep log and consoles there")
    parser.add_argument("--quiet", action="store_true", help="do not show the guest's console")
    add_report_options(parser)
    parser.add_argument("command_line", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)


def run(options: argparse.Namespace) -> int:
    """Exit code: the verdict's."""
    argv = options.command_line
    if argv and argv[0] == "--":
        argv = argv[1:]
    if not argv:
        raise CommandError(
            "no emulator to run: expected its command line after --, as in: lamppost run --"
            " qemu-system-x86_64 -kernel FILE",
            ExitCode.USAGE,
        )
    with guest_output(options):
        diagnosis = observe(
            argv,
            Wishes(
                timeout=options.timeout,
                until=options.until,
                cpus=options.cpus,
                symbols=tuple(options.symbols),
                keep_dir=options.keep,
                on_output=None if options.quiet or options.json else echo,
            ),
        )
    return show(diagnosis, options)
