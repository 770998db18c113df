# SPDX-License-Identifier: BSD-2-Clause
"""`make endurance`: many boots, each with the self-test, and not one may fail.

QEMU gives each of 8 CPUs a host thread, so that no two boots interleave alike; Bochs gets a tenth
as many boots with 4 CPUs.  A few boots have 64 CPUs, many more than the host: there a CPU stands
still at any place for as long as all the others take.  What a failed boot wrote is kept below
build/endurance.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Callable, Optional, Sequence

from debug.explain.kernel import EXIT_OK
from tests.boot import machine
from tests.tree import TREE

QEMU_CPUS, BOCHS_CPUS, MANY_CPUS = 8, 4, 64
MANY_LIMIT = 600.0  # seconds for a boot of so many, on two cores that do other things too
KEPT = TREE / "build" / "endurance"
REPORT_EVERY = 10.0  # seconds
_PASSED = re.compile(rb"^# \d+ passed, 0 failed$", re.MULTILINE)

Start = Callable[[Path], machine.Machine]


def failure(boot: machine.Boot, cpus: int, exit_code: Optional[int]) -> str:
    """What is wrong with a boot; nothing if it is as it should be."""
    online = f"{cpus} of {cpus} CPUs online".encode()
    if boot.exit_code is None:
        return "it hangs"
    if exit_code is not None and boot.exit_code != exit_code:
        return f"exit code {boot.exit_code}, expected {exit_code}"
    if online not in boot.e9:
        return f"it does not say {online.decode()!r}"
    return "" if _PASSED.search(boot.e9) else "its self-test did not pass"


def series(
    name: str,
    runs: int,
    start: Start,
    cpus: int,
    exit_code: Optional[int],
    limit: float = machine.DEADLINE,
) -> int:
    """Boot `runs` times, each within `limit` seconds; how many failed."""
    failed, told = 0, time.monotonic()
    for number in range(1, runs + 1):
        with tempfile.TemporaryDirectory(prefix="lamppost-endurance-") as directory:
            with start(Path(directory)) as guest:
                boot = guest.run(limit)
        wrong = failure(boot, cpus, exit_code)
        if wrong:
            failed += 1
            KEPT.mkdir(parents=True, exist_ok=True)
            log = KEPT / f"{name}-{number}.log"
            log.write_bytes(boot.e9)
            print(f"{name} boot {number}: {wrong}; its output: {log}", flush=True)
        if time.monotonic() - told > REPORT_EVERY:
            told = time.monotonic()
            print(f"{name}: {number} of {runs} boots, {failed} failed", file=sys.stderr, flush=True)
    print(f"{name}: {runs} boots of {cpus} CPUs, {failed} failed", flush=True)
    return failed


def _iso(directory: Path) -> Path:
    """Our ISO with the self-test on the kernel's command line."""
    subprocess.run(
        ["make", "-s", "kernel", f"BUILD={directory}", "GRUB_OPTIONS=selftest"],
        cwd=TREE,
        check=True,
    )
    return directory / "lamppost.iso"


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Entry point: 0 without a failure, else 1."""
    parser = argparse.ArgumentParser(prog="make endurance", description=__doc__)
    parser.add_argument("--runs", type=int, default=1000, help="boots on QEMU (1000)")
    parser.add_argument("--bochs-runs", type=int, help="boots on Bochs (a tenth of that)")
    parser.add_argument("--many-runs", type=int, help="boots of 64 CPUs (a hundredth)")
    options = parser.parse_args(argv)
    if options.runs < 0:
        parser.error(f"--runs {options.runs}: expected a number from 0 on")
    bochs_runs = options.runs // 10 if options.bochs_runs is None else options.bochs_runs
    many_runs = options.runs // 100 if options.many_runs is None else options.many_runs
    with tempfile.TemporaryDirectory(prefix="lamppost-endurance-") as directory:
        build = Path(directory)
        iso = _iso(build)
        image = machine.kernel_image(build, "selftest")

        def qemu(cpus: int) -> Start:
            return lambda _: machine.qemu(image, str(cpus), ["-accel", "tcg,thread=multi"])

        def bochs(place: Path) -> machine.Machine:
            shutil.copy(iso, place / "lamppost.iso")
            return machine.bochs(place / "lamppost.iso", BOCHS_CPUS, place)

        code = EXIT_OK << 1 | 1
        failed = series("qemu", options.runs, qemu(QEMU_CPUS), QEMU_CPUS, code)
        failed += series("qemu-64", many_runs, qemu(MANY_CPUS), MANY_CPUS, code, MANY_LIMIT)
        failed += series("bochs", bochs_runs, bochs, BOCHS_CPUS, None)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
