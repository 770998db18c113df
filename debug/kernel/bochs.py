# SPDX-License-Identifier: BSD-2-Clause
"""`make bochs`: the kernel under Bochs's debugger."""

from __future__ import annotations

from debug.bochs.console import Console, Settings
from debug.bochs.script import breakpoints, entry_of
from debug.cli.errors import CommandError
from debug.cli.exit_codes import ExitCode
from debug.cli.observe import symbols_of
from debug.evidence import Ending
from debug.kernel.machine import Kernel
from debug.sources.errors import CommandLineError, StartError

HEADLESS_TIMEOUT = 120.0
ONLINE = r"of \d+ CPUs online"


def run(kernel: Kernel, headless: bool) -> int:
    """For a person: a prompt at each stop.  Headless: every stop, until all CPUs are online.

    With a self-test, which ends the machine, until it does.
    """
    ends_itself = "selftest" in kernel.options.split()
    symbols = symbols_of(kernel.symbols)
    settings = Settings(
        points=breakpoints(symbols, kernel.trampoline, entry_of(kernel.elf)),
        symbols=symbols,
        headless=headless,
        timeout=HEADLESS_TIMEOUT,
        until=ONLINE if headless and not ends_itself else None,
        cpus=kernel.cpus,
    )
    try:
        evidence = Console(kernel.bochs(), settings).run()
    except (CommandLineError, StartError) as error:
        raise CommandError(str(error), ExitCode.MISSING_TOOL) from error
    fine = not headless or evidence.ending in (Ending.EXITED, Ending.UNTIL)
    return ExitCode.HEALTHY if fine else ExitCode.UNKNOWN
