# SPDX-License-Identifier: BSD-2-Clause
"""The command line of a session, and those of the two programs that it starts.  Pure."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Sequence

from debug.gdb.places import page_address

_EPILOG = """\
Stops come by themselves: at the trampoline (a hardware breakpoint, set before the kernel copies
it there), at lcpu_start64 and at ap_entry. `continue` goes on; `help lamp` lists what shows the
CPUs. When the guest dies, the diagnosis is printed and the CPU that died is selected.

exit code: GDB's; 2 usage, 3 missing program, 12 batch over its time, 16 no such kernel"""


def _page(text: str) -> int:
    try:
        return page_address(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _count(text: str) -> int:
    value = int(text)
    if not 1 <= value <= 4096:
        raise argparse.ArgumentTypeError(f"{text}: expected a number of CPUs, 1 or more")
    return value


def command_line() -> argparse.ArgumentParser:
    """The parser of `make gdb`'s command."""
    parser = argparse.ArgumentParser(
        prog="python3 -m debug.gdb.session",
        usage="%(prog)s [options] [-- QEMU ARGUMENTS...]",
        description="Debug a kernel on a stopped QEMU with GDB, every CPU in its own mode.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--cpus", type=_count, default=4, metavar="N", help="CPUs (default: 4)")
    parser.add_argument("--kernel", metavar="ELF", help="default: build/lamppost.elf")
    parser.add_argument("--options", default="", metavar="TEXT", help="the kernel's command line")
    parser.add_argument(
        "--trampoline",
        type=_page,
        metavar="PAGE",
        help="where APs start (default: what --options says, else 0x8000)",
    )
    parser.add_argument(
        "--trampoline-elf",
        metavar="ELF",
        help="symbols of the trampoline, linked at 0 (default: trampoline.elf beside the kernel)",
    )
    parser.add_argument(
        "--console", metavar="FILE", help="write the guest's port 0xE9 there and keep it"
    )
    parser.add_argument(
        "--batch",
        "--headless",
        metavar="SCRIPT",
        help="no terminal: run this GDB script and end",
    )
    parser.add_argument(
        "--timeout",
        type=float,
        default=120.0,
        metavar="SECONDS",
        help="end a batch that takes longer (default: 120)",
    )
    parser.add_argument("--qemu", default="qemu-system-x86_64", help=argparse.SUPPRESS)
    return parser


def parse(parser: argparse.ArgumentParser, words: Sequence[str]) -> argparse.Namespace:
    """The options; what stands behind `--` is in `qemu_arguments`."""
    words = list(words)
    cut = words.index("--") if "--" in words else len(words)
    options = parser.parse_args(words[:cut])
    options.qemu_arguments = words[cut + 1 :]
    return options


def qemu_arguments(emulator: str, options: argparse.Namespace, kernel: str, stub: str) -> list[str]:
    """The machine with a gdbstub on the unix socket `stub`; the observer's part is added later."""
    extra: list[str] = options.qemu_arguments
    arguments = [emulator, "-kernel", kernel, "-smp", str(options.cpus)]
    if options.options:
        arguments += ["-append", options.options]
    if not any("isa-debug-exit" in word for word in extra):
        arguments += ["-device", "isa-debug-exit,iobase=0xf4,iosize=0x04"]
    if options.console:
        arguments += ["-debugcon", f"file:{options.console}"]
    # A comma in a value is written twice.
    path = stub.replace(",", ",,")
    return [
        *arguments,
        *("-chardev", f"socket,id=lamppost-gdb,path={path},server=on,wait=off"),
        *("-gdb", "chardev:lamppost-gdb"),
        *extra,
    ]


def gdb_arguments(
    gdb: str, root: Path, config: Path, script: str | None, sources: Path | None = None
) -> list[str]:
    """GDB without anybody's settings, with the session begun in it; a script makes it a batch.

    sources: where the kernel's sources are, if it was not built from those in the directory.
    """
    begin = (
        f"import sys; sys.path.insert(0, {str(root)!r});"
        f" from debug.gdb.entry import start; start({str(config)!r})"
    )
    arguments = [gdb, "-nx", "-q", "-iex", "set auto-load no", "-ex", f"python {begin}"]
    if sources is not None:
        arguments[3:3] = ["-directory", str(sources)]
    if script is not None:
        arguments[3:3] = ["-batch"]
        arguments += ["-x", script]
    return arguments
