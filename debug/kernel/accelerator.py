# SPDX-License-Identifier: BSD-2-Clause
"""`ACCEL=kvm`: taken where the host's KVM runs this kernel, which is tried first.

Some hosts have a /dev/kvm that is itself emulated and runs only some guests.  What fails there says
nothing about the guest, so it is told apart before anything is diagnosed.
"""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Optional

from debug.cli.errors import CommandError
from debug.cli.exit_codes import ExitCode
from debug.explain.kernel import EXIT_OK
from debug.kernel.machine import Kernel

CHOICES = ("tcg", "kvm")
DEVICE = Path("/dev/kvm")
PROBE_SECONDS = 10.0  # a boot under KVM takes less than one
_SILENT = ("-display", "none", "-nic", "none", "-serial", "null", "-no-reboot")


def require(accelerator: str, kernel: Kernel) -> None:
    """Raises CommandError unless the host can run the kernel with it."""
    problem = kvm_problem(kernel) if accelerator == "kvm" else None
    if problem:
        raise CommandError(
            f"ACCEL=kvm can't be used on this host: {problem}. That is no fault of the kernel;"
            " leave ACCEL=kvm out to run it under TCG",
            ExitCode.MISSING_TOOL,
        )


def kvm_problem(kernel: Kernel) -> Optional[str]:
    """Why the host's KVM does not serve, None if the kernel's self-test passes on one CPU."""
    if not DEVICE.exists():
        return f"there is no {DEVICE}"
    probe = replace(kernel, cpus=1, options="smp=off selftest")
    try:
        done = subprocess.run(
            [*probe.qemu("kvm"), *_SILENT],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=PROBE_SECONDS,
        )
    except FileNotFoundError as error:
        raise CommandError(
            "qemu-system-x86_64 is not installed: make setup", ExitCode.MISSING_TOOL
        ) from error
    except subprocess.TimeoutExpired:
        return f"the same kernel, on one CPU, did not end within {PROBE_SECONDS:.0f} s"
    if done.returncode == EXIT_OK << 1 | 1:
        return None
    return explanation(done.returncode, done.stderr)


def explanation(code: int, said: str) -> str:
    """QEMU's end as a clause: its own first words, printable and not long."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    words = "".join(c for c in lines[0] if c.isprintable())[:120] if lines else ""
    ended = f"a probe with one CPU ended with QEMU's exit code {code}"
    return f'{ended}; it said "{words}"' if words else ended
