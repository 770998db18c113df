# SPDX-License-Identifier: BSD-2-Clause
"""`make run`: the kernel under QEMU, its stages and its text in this terminal."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

from debug.cli.errors import CommandError
from debug.cli.exit_codes import ExitCode
from debug.explain.kernel import EXIT_OK
from debug.kernel.machine import Kernel

HEADLESS_TIMEOUT = 60.0
CONSOLE = ("-display", "none", "-nic", "none", "-serial", "null", "-debugcon", "stdio")


def run(kernel: Kernel, headless: bool, accelerator: str = "tcg") -> int:
    """For a person: until Ctrl-C.  Headless: the self-test, 0 if it passed."""
    if headless:
        kernel = replace(kernel, options=f"{kernel.options} selftest".strip())
    argv = [*kernel.qemu(accelerator), *CONSOLE, "-no-reboot"]
    if not headless:
        print("Ctrl-C ends the machine; docs/stage-codes.md explains the lines with @.\n")
        sys.stdout.flush()
    try:
        done = subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            timeout=HEADLESS_TIMEOUT if headless else None,
        )
    except FileNotFoundError as error:
        raise CommandError(
            "qemu-system-x86_64 is not installed: make setup", ExitCode.MISSING_TOOL
        ) from error
    except subprocess.TimeoutExpired as error:
        raise CommandError(
            f"the kernel did not end within {HEADLESS_TIMEOUT:.0f} s: make diagnose, or lamppost"
            " run, says why",
            ExitCode.HANG,
        ) from error
    except KeyboardInterrupt:
        return ExitCode.HEALTHY
    return verdict(done.returncode) if headless else done.returncode


def verdict(code: int) -> int:
    """QEMU's exit code, (value << 1) | 1 from isa-debug-exit, as ours."""
    if code == EXIT_OK * 2 + 1:
        return ExitCode.HEALTHY
    print(f"the kernel ended with exit code {code} (src/lib/exit.h: {code >> 1:#x})")
    return ExitCode.PANIC if code & 1 else ExitCode.UNKNOWN
