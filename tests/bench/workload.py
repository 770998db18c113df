# SPDX-License-Identifier: BSD-2-Clause
"""What more CPUs gain: the option `workload`, on Bochs.

Bochs gives its CPUs turns of a few instructions each and counts them in one clock, so that a row's
time is that of a machine whose CPUs run side by side, on any host, and the same in every run.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Optional, Sequence

from tests.bench.machine import PLACE, BenchError
from tests.boot import machine
from tests.tree import TREE

CPUS = 8
LIMIT = 300.0  # seconds
_ROW = re.compile(r"^ *(\d+) +(\d+) +(\d+) +\d+\.\d\d +(\d+) +(\d+) +(\d+)(.*)$", re.M)


@dataclass(frozen=True)
class Row:
    """One line of the kernel's table: `items` of work done, `busiest` of them by one CPU."""

    cpus: int
    items: int
    busiest: int
    steals: int
    switches: int
    microseconds: int

    @property
    def shared(self) -> float:
        """The speed-up if only the work took time."""
        return self.items / self.busiest


def read(console: str) -> list[Row]:
    """The kernel's table.  Raises BenchError where a result is wrong."""
    rows = []
    for *numbers, complaint in _ROW.findall(console):
        if complaint.strip():
            raise BenchError(f"expected the right number of solutions, found:{complaint}")
        rows.append(Row(*map(int, numbers)))
    return rows


def gains(rows: Sequence[Row]) -> tuple[float, ...]:
    """How many times faster than the first row each is, by the clock."""
    return tuple(rows[0].microseconds / max(1, row.microseconds) for row in rows)


def measure(cpus: int = CPUS) -> Optional[tuple[Row, ...]]:
    """The table of one boot on Bochs; None where there is no Bochs.  Raises BenchError."""
    if not shutil.which("bochs"):
        return None
    build = PLACE / "workload"
    done = subprocess.run(
        ["make", "-s", "kernel", f"BUILD={build}", "GRUB_OPTIONS=workload trace=mem"],
        cwd=TREE,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise BenchError(f"make kernel failed:\n{done.stdout}{done.stderr}")
    with tempfile.TemporaryDirectory(prefix="lamppost-bench-") as directory:
        with machine.bochs(build / "lamppost.iso", cpus, Path(directory)) as guest:

            def rows() -> list[Row]:
                whole = guest.e9[: guest.e9.rfind(b"\n") + 1]
                return read(whole.decode("latin-1"))

            guest.wait_until(lambda: cpus in [row.cpus for row in rows()], "its table", LIMIT)
            return tuple(rows())
