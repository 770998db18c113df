# SPDX-License-Identifier: BSD-2-Clause
"""`python3 -m debug.bochs --kernel ELF -- bochs -qf bochsrc`: a kernel under Bochs's debugger."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from debug.bochs.console import Console, Settings
from debug.bochs.script import TRAMPOLINE, breakpoints, entry_of
from debug.evidence import Ending
from debug.sources.elf_symbols import ElfSymbols, SymbolError
from debug.sources.errors import CommandLineError, StartError

USAGE = 2


def main() -> int:
    """0: the guest ended by itself or the person ended it; 1: it did not; 2: it could not start."""
    parser = argparse.ArgumentParser(prog="python3 -m debug.bochs", description=__doc__)
    parser.add_argument("--kernel", type=Path, help="the kernel's ELF: symbols and entry")
    parser.add_argument("--trampoline-elf", type=Path, help="the trampoline's ELF, linked at 0")
    parser.add_argument(
        "--trampoline", type=lambda text: int(text, 0), default=TRAMPOLINE, metavar="ADDRESS"
    )
    parser.add_argument("--headless", action="store_true", help="print the stops, ask nothing")
    parser.add_argument("--timeout", type=float, default=60.0, help="seconds, when headless")
    parser.add_argument("--until", help="a regular expression that ends a headless run")
    parser.add_argument("command_line", nargs="+", help="after --: bochs and its arguments")
    options = parser.parse_args()
    files = [] if options.kernel is None else [(options.kernel, 0)]
    if options.trampoline_elf is not None:
        files.append((options.trampoline_elf, options.trampoline))
    try:
        symbols = ElfSymbols(files)
        entry = entry_of(options.kernel) if options.kernel is not None else None
        settings = Settings(
            points=breakpoints(symbols, options.trampoline, entry),
            symbols=symbols,
            headless=options.headless,
            timeout=options.timeout,
            until=options.until,
        )
        evidence = Console(options.command_line, settings).run()
    except (SymbolError, OSError, CommandLineError, StartError) as error:
        print(f"lamppost: {error}", file=sys.stderr)
        return USAGE
    fine = (Ending.EXITED, Ending.UNTIL)
    return 0 if evidence.ending in fine or not options.headless else 1


if __name__ == "__main__":
    sys.exit(main())
