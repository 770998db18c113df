# SPDX-License-Identifier: BSD-2-Clause
"""`make bench-explain`: what `lamppost explain` costs on a long log, beside grep on the same file."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from tests.tree import TREE

RECORDED = TREE / "tests/recorded/qemu/ap-long-mode.log"
MIB = 1 << 20


@dataclass(frozen=True)
class Cost:
    seconds: float
    peak: int  # bytes, of resident memory


def run(argv: list[str]) -> Cost:
    """What a command costs.  Into a file: grep stops at the first match for /dev/null."""
    with tempfile.TemporaryFile() as output:
        began = time.monotonic()
        process = subprocess.Popen(argv, stdout=output)
        _, _, usage = os.wait4(process.pid, 0)
        return Cost(time.monotonic() - began, usage.ru_maxrss * 1024)


def make_log(path: Path, size: int) -> None:
    """A log of this size: exceptions that are handled, again and again, then the recorded death."""
    death = RECORDED.read_bytes()
    start = death.rindex(b"check_exception old: 0xffffffff")
    record = death[start : death.index(b"check_exception old: 0xe")]
    with path.open("wb") as stream:
        stream.write(death[:start])
        many = record * (16 * MIB // len(record))
        left = size - len(death)
        while left > 0:
            stream.write(many[: left // len(record) * len(record) + len(record)])
            left -= len(many)
        stream.write(death[start:])


def main() -> int:
    parser = argparse.ArgumentParser(prog="make bench-explain", description=__doc__)
    parser.add_argument("--mib", type=int, default=1024, help="how long the log is (1024)")
    parser.add_argument("--runs", type=int, default=3, help="of each, the fastest counts (3)")
    options = parser.parse_args()
    (TREE / "build").mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=TREE / "build") as directory:
        path = Path(directory) / "qemu.log"
        make_log(path, options.mib * MIB)
        size = path.stat().st_size / MIB
        commands = {
            "grep": ["grep", "-c", " v=", str(path)],
            "explain": [str(TREE / "debug/lamppost"), "explain", str(path)],
        }
        costs: dict[str, list[Cost]] = {name: [] for name in commands}
        for _ in range(options.runs):
            for name, argv in commands.items():
                costs[name].append(run(argv))
    best = {name: min(cost.seconds for cost in all_) for name, all_ in costs.items()}
    peak = max(cost.peak for cost in costs["explain"]) / MIB
    print(f"a QEMU log of {size:.0f} MiB")
    print(f"  grep -c ' v='      {best['grep']:6.2f} s")
    print(f"  lamppost explain   {best['explain']:6.2f} s   {peak:.0f} MiB at most")
    print(f"  explain / grep     {best['explain'] / best['grep']:6.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
