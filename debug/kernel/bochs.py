# SPDX-License-Identifier: BSD-2-Clause
"""`make bochs`: the kernel under Bochs's debugger."""

from __future__ import annotations

from dataclasses import replace

from debug.bochs.console import Console, Settings
from debug.bochs.script import Breakpoint, breakpoints, entry_of
from debug.cli.errors import CommandError
from debug.cli.exit_codes import ExitCode
from debug.cli.observe import symbols_of
from debug.evidence import Ending
from debug.kernel.machine import Kernel
from debug.sources.elf_symbols import ElfSymbols
from debug.sources.errors import CommandLineError, StartError
from debug.stages.elf import read_sites
from debug.stages.table import BUILT_IN

HEADLESS_TIMEOUT = 120.0
ONLINE = r"of \d+ CPUs online"


def run(kernel: Kernel, headless: bool) -> int:
    """For a person: a prompt at each stop.  Headless: every stop, until all CPUs are online.

    With a self-test, which ends the machine, until it does.
    """
    ends_itself = "selftest" in kernel.options.split()
    symbols = symbols_of(kernel.symbols)
    settings = Settings(
        points=_points(kernel, symbols, kernel.trampoline),
        symbols=symbols,
        headless=headless,
        timeout=HEADLESS_TIMEOUT,
        until=ONLINE if headless and not ends_itself else None,
        cpus=kernel.cpus,
        trampoline=kernel.trampoline,
    )

    def moved(page: int) -> Settings:
        found = symbols_of(((kernel.elf, kernel.offset), (kernel.trampoline_elf, page)))
        points = _points(kernel, found, page)
        return replace(settings, points=points, symbols=found, trampoline=page)

    try:
        evidence = Console(kernel.bochs(), replace(settings, moved=moved)).run()
    except (CommandLineError, StartError) as error:
        raise CommandError(str(error), ExitCode.MISSING_TOOL) from error
    fine = not headless or evidence.ending in (Ending.EXITED, Ending.UNTIL)
    return ExitCode.HEALTHY if fine else ExitCode.UNKNOWN


def _points(kernel: Kernel, symbols: ElfSymbols, page: int) -> tuple[Breakpoint, ...]:
    """The stops with the trampoline in `page`, and where the kernel says that it is elsewhere."""
    entry = entry_of(kernel.elf)
    code = BUILT_IN.by_name["BSP_RELOCATED"].code
    sites = [site.moved(kernel.offset) for site in read_sites(str(kernel.elf)) if site.code == code]
    return breakpoints(
        symbols,
        page,
        entry=None if entry is None else entry + kernel.offset,
        relocated=sites[0].address if sites else None,
    )
