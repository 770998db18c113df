# SPDX-License-Identifier: BSD-2-Clause
"""`make demo`: the kernel comes up and is drawn, then a broken one dies and is explained."""

from __future__ import annotations

import sys
from dataclasses import replace

from debug.cli.exit_codes import ExitCode
from debug.cli.observe import Wishes, observe
from debug.kernel.machine import REPEATABLE, Kernel
from debug.kernel.timeline import show_timeline
from debug.labs.diagnose import diagnose
from debug.labs.lab import load
from debug.report import terminal

BROKEN = "ap-stack-unmapped"
TIMEOUT = 60.0


def demo(kernel: Kernel) -> int:
    """Both halves; the exit code is 0 if both went as they should."""
    print(f"The kernel, {kernel.cpus} CPUs, under QEMU: each CPU's way from reset to C code.\n")
    sys.stdout.flush()
    kernel = replace(kernel, extra=(*kernel.extra, *REPEATABLE))
    good = observe(kernel.qemu(), watch(kernel))
    roll = show_timeline(good.evidence.stages, kernel.cpus)

    lab = load(BROKEN)
    print(f"\nThe same kernel with one bug, tests/labs/{lab.id}. What one sees:")
    print(f"{lab.hint}. What lamppost says:\n")
    sys.stdout.flush()
    bad = diagnose(replace(lab, qemu=(*lab.qemu, *REPEATABLE)), "qemu")
    terminal.write(bad, sys.stdout)
    as_expected = roll.online == kernel.cpus and bad.status == lab.expect["qemu"].status
    return ExitCode.HEALTHY if as_expected else ExitCode.UNKNOWN


def watch(kernel: Kernel) -> Wishes:
    """Until every CPU has entered the scheduler and the machine is idle."""
    return Wishes(timeout=TIMEOUT, cpus=kernel.cpus, symbols=kernel.symbols)
