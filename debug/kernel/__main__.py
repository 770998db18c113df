# SPDX-License-Identifier: BSD-2-Clause
"""What the Makefile calls: the kernel run, stepped, drawn and shown."""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

from debug.cli.exit_codes import ExitCode
from debug.cli.guard import guarded
from debug.cli.observe import observe
from debug.kernel.accelerator import CHOICES, require
from debug.kernel.machine import REPEATABLE, ROOT, Kernel


def _run(kernel: Kernel, options: argparse.Namespace) -> int:
    from debug.kernel.run import run

    require(options.accel, kernel)
    return run(kernel, options.headless, options.accel)


def _demo(kernel: Kernel, options: argparse.Namespace) -> int:
    from debug.kernel.demo import demo

    return demo(kernel)


def _stages(kernel: Kernel, options: argparse.Namespace) -> int:
    from debug.kernel.arrival import Arrival, all_arrived
    from debug.kernel.demo import watch
    from debug.kernel.timeline import show_timeline

    require(options.accel, kernel)
    if options.accel == "tcg":
        kernel = replace(kernel, extra=(*kernel.extra, *REPEATABLE))
    arrival = Arrival(all_arrived(kernel.cpus))
    wishes = replace(watch(kernel), on_output=arrival.take, stop_when=arrival.is_over)
    seen = observe(kernel.qemu(options.accel), wishes)
    roll = show_timeline(seen.evidence.stages, kernel.cpus)
    return ExitCode.HEALTHY if roll.online == kernel.cpus else ExitCode.MISSING_CPU


def _bochs(kernel: Kernel, options: argparse.Namespace) -> int:
    from debug.kernel.bochs import run

    return run(kernel, options.headless)


def _readme(kernel: Kernel, options: argparse.Namespace) -> int:
    from debug.kernel.readme import main

    return main(kernel, options.check)


COMMANDS = {
    "run": _run,
    "bochs": _bochs,
    "demo": _demo,
    "stages": _stages,
    "readme": _readme,
}


def main() -> int:
    """Entry point: the exit code."""
    parser = argparse.ArgumentParser(prog="python3 -m debug.kernel", description=__doc__)
    parser.add_argument("command", choices=COMMANDS)
    parser.add_argument("--build", type=Path, default=ROOT / "build", help="where the kernel is")
    parser.add_argument("--cpus", type=int, default=4, help="how many CPUs (4)")
    parser.add_argument("--options", default="", help="the kernel command line")
    parser.add_argument("--accel", choices=CHOICES, default="tcg", help="run, stages: QEMU's (tcg)")
    parser.add_argument("--headless", action="store_true", help="no terminal, an exit code")
    parser.add_argument("--check", action="store_true", help="readme: write nothing, compare")
    options = parser.parse_args()
    if options.cpus < 1:
        parser.error(f"--cpus {options.cpus}: expected at least 1")
    kernel = Kernel(options.build.resolve(), options.cpus, options.options)
    return guarded(lambda: COMMANDS[options.command](kernel, options))


if __name__ == "__main__":
    sys.exit(main())
