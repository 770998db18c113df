# SPDX-License-Identifier: BSD-2-Clause
"""`lamppost run [options] -- qemu-system-x86_64 ...` (or `-- bochs ...`)."""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
from pathlib import Path
from typing import Sequence

from debug.cli.annotate import guest_output
from debug.cli.echo import Echo, echo_raw
from debug.cli.errors import CommandError
from debug.cli.exit_codes import ExitCode
from debug.cli.observe import Logging, Wishes, observe
from debug.cli.show import add_report_options, show
from debug.pictures.easel import Easel
from debug.report.safe import safe
from debug.sources.command_line import scan
from debug.sources.errors import CommandLineError
from debug.sources.watch import INTERRUPTED

TIMEOUT, FOREVER = 60.0, 1e7  # seconds


def symbol_file(text: str) -> tuple[Path, int]:
    """FILE or FILE@OFFSET, the offset in hexadecimal with 0x or in decimal."""
    path, at, offset = text.rpartition("@")
    if not at:
        return Path(text), 0
    try:
        value = int(offset, 0)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r}: expected FILE or FILE@OFFSET, such as trampoline.elf@0x8000"
        ) from None
    if abs(value) >> 64:
        raise argparse.ArgumentTypeError(f"{text!r}: the offset has more than 64 bits")
    return Path(path), value


def cpu_count(text: str) -> int:
    """A number of CPUs."""
    if not text.isascii() or not text.isdigit() or not 0 < int(text[:9]) < 100_000:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a number of CPUs, 1 to 99999")
    return int(text)


def seconds(text: str) -> float:
    """A time that passes."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= FOREVER:
        raise argparse.ArgumentTypeError(
            f"{text!r}: expected seconds, more than 0 and at most {FOREVER:.0f}"
        )
    return value


def pattern(text: str) -> str:
    """A regular expression."""
    try:
        if re.compile(text.encode()).match(b""):
            raise argparse.ArgumentTypeError(f"{text!r} fits an empty console: nothing is awaited")
    except re.error as error:
        raise argparse.ArgumentTypeError(f"{text!r}: no regular expression: {error}") from None
    return text


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
    parser.add_argument("--cpus", type=cpu_count, metavar="N", help="how many CPUs must come up")
    parser.add_argument(
        "--timeout",
        type=seconds,
        metavar="SECONDS",
        help="stop a machine that runs (60; none where you sit at its console)",
    )
    parser.add_argument(
        "--until",
        type=pattern,
        metavar="REGEX",
        help="healthy when this appears on port 0xE9 or COM1, and only then",
    )
    parser.add_argument(
        "--core", type=Path, metavar="FILE", help="write an ELF core unless it is healthy (QEMU)"
    )
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep log and consoles there")
    parser.add_argument("--quiet", action="store_true", help="do not show the guest's console")
    parser.add_argument(
        "--raw",
        action="store_true",
        help="pass the console on as it is, with what steers a terminal: an interactive guest",
    )
    logs = parser.add_mutually_exclusive_group()
    logs.add_argument(
        "--log", action="store_true", help="log exceptions and IPIs from the start (slower)"
    )
    logs.add_argument(
        "--once", action="store_true", help="never run it a second time to log what it does"
    )
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
    _writable(options)
    shown = echo_raw if options.raw else Echo().take
    yours = _interactive(argv)
    if options.core is not None and Path(argv[0]).name.startswith("bochs"):
        print("lamppost: --core: Bochs writes no core of a machine; QEMU does", file=sys.stderr)
    if "-S" in argv:
        print("lamppost: -S: your debugger starts the machine; it is awaited", file=sys.stderr)
    easel = Easel(options.picture)
    with guest_output(options):
        diagnosis = observe(
            argv,
            Wishes(
                timeout=options.timeout or (FOREVER if yours else TIMEOUT),
                idle=None if yours else Wishes.idle,
                until=options.until,
                cpus=options.cpus,
                symbols=tuple(options.symbols),
                keep_dir=options.keep,
                on_output=None if options.quiet or options.json else shown,
                logging=_logging(options),
                core=options.core,
                on_again=_say_again,
                look=easel.look,
            ),
        )
    easel.write(diagnosis)
    code = show(diagnosis, options)
    return ExitCode.INTERRUPTED if INTERRUPTED in diagnosis.evidence.messages else code


def _writable(options: argparse.Namespace) -> None:
    """Said before a machine runs for its timeout, and not after it."""
    core, keep = options.core, options.keep
    if core is not None and not core.resolve().parent.is_dir():
        raise CommandError(f"--core {core}: there is no such directory", ExitCode.USAGE)
    if core is not None and core.is_dir():
        raise CommandError(f"--core {core}: this is a directory; expected a file", ExitCode.USAGE)
    if keep is None:
        return
    try:
        keep.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=keep).close()
    except OSError as error:
        is_file = keep.exists() and not keep.is_dir()
        why = "this is a file; expected a directory" if is_file else f"{error.strerror}"
        raise CommandError(f"--keep {keep}: {why}", ExitCode.USAGE) from None


def _logging(options: argparse.Namespace) -> Logging:
    if options.log:
        return Logging.ALWAYS
    return Logging.NEVER if options.once else Logging.NEEDED


def _say_again(why: str) -> None:
    """The first verdict is told at once: a second run takes as long as the first one."""
    lines = [safe(line) for line in f"{why}: running it again, with a log".splitlines()]
    print("\n".join(f"lamppost: {line}" for line in lines), file=sys.stderr, flush=True)


def _interactive(argv: Sequence[str]) -> bool:
    """A person sits at the machine: it is theirs to end, not a clock's."""
    try:
        found = scan(argv)
    except CommandLineError:
        return False
    return found.windows or found.stdio and sys.stdin.isatty()
