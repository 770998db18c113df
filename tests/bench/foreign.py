# SPDX-License-Identifier: BSD-2-Clause
"""`make bench-run`: what `lamppost run` costs a machine that nobody here built.

A healthy boot of Debian's Linux, with and without it in turn, until init speaks; and a triple fault
of tests/foreign, from its notice to the printed verdict.  A busy host only adds: the best of each is
taken, and processor time is printed beside the clock.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Sequence

from debug.cli.errors import CommandError
from debug.kernel.machine import ROOT
from debug.kernel.readme import PATH as README
from debug.kernel.readme import recorded
from debug.report.diagnosis import diagnose
from debug.report.text import render
from debug.sources.qemu_live import Options, QemuMachine
from tests.bench.counts import median
from tests.foreign.images import assembled
from tests.machines.packages import MachineError
from tests.sweep.guests import INIT_SAYS, guests

LIMIT = 1.15  # times the boot without it
SOON = 1.0  # seconds from a death to the verdict
PATIENCE = 300.0  # seconds for one boot
POLL = 0.005


@dataclass(frozen=True)
class Boot:
    """Seconds of one boot: by the clock, and of all processors."""

    wall: float
    cpu: float


def _timed(action: Callable[[], None]) -> Boot:
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    action()
    took, after = time.monotonic() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Boot(took, used)


def plain(argv: Sequence[str]) -> Boot:
    """The boot alone, until init speaks on the serial port.  Raises CommandError."""
    with tempfile.TemporaryDirectory(prefix="lamppost-bench-") as directory:
        serial = Path(directory) / "serial"
        extra = ("-display", "none", "-nic", "none", "-serial", f"file:{serial}")

        def boot() -> None:
            child = subprocess.Popen([*argv, *extra], stdin=subprocess.DEVNULL)
            deadline = time.monotonic() + PATIENCE
            try:
                while not serial.exists() or INIT_SAYS.encode() not in serial.read_bytes():
                    if child.poll() is not None or time.monotonic() > deadline:
                        raise CommandError("expected Linux to boot, and its init never spoke")
                    time.sleep(POLL)
            finally:
                child.kill()
                child.wait()

        return _timed(boot)


def watched(argv: Sequence[str], *options: str) -> Boot:
    """The same boot under `lamppost run`, from its start to its end.  Raises CommandError."""
    words = ("--quiet", "--timeout", str(PATIENCE), "--until", INIT_SAYS, *options)
    command = [sys.executable, str(ROOT / "debug/lamppost"), "run", *words, "--", *argv]

    def boot() -> None:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)
        if done.returncode:
            raise CommandError("expected healthy, got: " + done.stdout.decode("utf-8", "replace"))

    return _timed(boot)


def death(rounds: int) -> float:
    """Seconds from the notice of a foreign triple fault to the text of its report, the median."""
    times = []
    with tempfile.TemporaryDirectory(prefix="lamppost-bench-") as directory:
        image = assembled("guest", Path(directory), "BUG_death")
        argv = ["qemu-system-x86_64", "-smp", "2", "-drive", f"format=raw,if=floppy,file={image}"]
        for _ in range(rounds):
            with QemuMachine(argv, Options(timeout=PATIENCE, log=False)) as machine:
                evidence = machine.observe()
                seen = time.monotonic()
                diagnosis = diagnose(evidence)
                render(diagnosis)
                times.append(time.monotonic() - seen + (machine.collect_seconds or 0.0))
            if diagnosis.status != "triple-fault":
                raise CommandError(f"expected a triple fault, got {diagnosis.status}")
    return median(times)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="make bench-run", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="of each boot (3)")
    parser.add_argument("--record", action="store_true", help="write the result into README.md")
    parser.add_argument("--cpus", type=int, default=2, help="of the Linux machine (2)")
    options = parser.parse_args(argv)
    try:
        seconds = death(options.rounds)
        linux = next(guest for guest in guests() if guest.name == "linux").command(options.cpus)
        alone, under, logged = [], [], []
        for number in range(options.rounds):
            print(f"[{number + 1}/{options.rounds}] Linux, three ways", file=sys.stderr)
            alone.append(plain(linux))
            under.append(watched(linux))
            logged.append(watched(linux, "--log"))
    except (CommandError, MachineError) as error:
        print(f"bench-run: {error}", file=sys.stderr)
        return 1
    text = table(seconds, alone, under, logged)
    print(text, end="")
    if min(b.wall for b in under) > LIMIT * min(b.wall for b in alone) or seconds > SOON:
        print(f"expected at most {LIMIT} times the boot alone, and {SOON} s", file=sys.stderr)
        return 1
    if options.record:
        README.write_text(recorded(README.read_text(), "bench-run", text))
    return 0


def table(seconds: float, *ways: list[Boot]) -> str:
    """What was measured, as it is printed: the boots alone, under `run`, and with --log."""
    walls = [min(boot.wall for boot in boots) for boots in ways]
    cpus = [min(boot.cpu for boot in boots) for boots in ways]
    lines = [
        "A healthy boot of Linux, seconds of the best one, and how many times the boot alone",
        "",
        "                        clock        processors",
    ]
    for name, wall, cpu in zip(("alone", "lamppost run", "lamppost run --log"), walls, cpus):
        times = f"{wall:6.1f} {wall / walls[0]:5.2f}   {cpu:8.1f} {cpu / cpus[0]:5.2f}"
        lines.append(f"  {name:20}{times}")
    told = f"A foreign triple fault: {seconds * 1000:.0f} ms from its notice to the report."
    return "\n".join((*lines, "", told)) + "\n"


if __name__ == "__main__":
    sys.exit(main())
