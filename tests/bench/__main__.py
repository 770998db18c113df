# SPDX-License-Identifier: BSD-2-Clause
"""`make bench`: measure, and print the tables or one JSON object."""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import dataclass, field
from typing import Optional, Sequence

from debug.cli.errors import CommandError
from tests.bench import machine, report, verdict, workload

SINK_CPUS = 8
SINKS = (
    ("TRACE=0", "untraced", ""),
    ("trace=none", "traced", "trace=none"),
    ("trace=mem", "traced", "trace=mem"),
    ("trace=e9", "traced", "trace=e9"),
    ("trace=com1", "traced", "trace=com1"),
    ("trace=all", "traced", "trace=all"),
)
SIZES = (2, 8, 32, 64, 255)
QUIET = 2.0  # seconds without a word


@dataclass
class Progress:
    """Says on stderr what is being done, once it has taken longer than QUIET."""

    steps: int
    done: int = 0
    started: float = field(default_factory=time.monotonic)

    def step(self, what: str) -> None:
        self.done += 1
        if time.monotonic() - self.started < QUIET:
            return
        line = f"[{self.done}/{self.steps}] {what}"
        if sys.stderr.isatty():
            sys.stderr.write(f"\r\x1b[K{line}")
        else:
            sys.stderr.write(line + "\n")
        sys.stderr.flush()

    def end(self) -> None:
        if sys.stderr.isatty():
            sys.stderr.write("\r\x1b[K")


def measure(sizes: Sequence[int] = SIZES, sink_cpus: int = SINK_CPUS) -> report.Results:
    """Everything.  Raises CommandError."""
    progress = Progress(4 + len(SINKS) + 3 * len(sizes))
    try:
        progress.step("building two kernels and the counter")
        bench = machine.prepare()
        alone = bench.boot("traced", 1, "smp=off", shift=0)
        sinks = []
        for name, build, options in SINKS:
            progress.step(f"{sink_cpus} CPUs, {name}")
            boot = bench.boot(build, sink_cpus, options)
            sinks.append(report.Sink(name, boot.bring_up, boot.ap_bytes))
        measured = []
        for cpus in sizes:
            counted = []
            for build, mode in (
                ("traced", "parallel"),
                ("traced", "serial"),
                ("untraced", "parallel"),
            ):
                progress.step(f"{cpus} CPUs, {build}, smp={mode}")
                counted.append(bench.boot(build, cpus, f"smp={mode}").bring_up)
            measured.append(report.Size(cpus, *counted))
        progress.step(f"{sink_cpus} CPUs, by the clock")
        jump = bench.boot("traced", sink_cpus, "", shift=0)
        progress.step(f"{workload.CPUS} CPUs share work on Bochs")
        shared = workload.measure()
        progress.step("a broken kernel, and its verdict")
        judged = verdict.measure()
    finally:
        progress.end()
    return report.Results(
        sink_cpus,
        tuple(sinks),
        tuple(measured),
        (alone.cycles, alone.bring_up.total),
        (jump.cycles, jump.bring_up.total),
        judged,
        shared,
    )


def main(argv: Optional[Sequence[str]] = None) -> int:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(argv)
    try:
        results = measure()
    except CommandError as error:
        print(f"bench: {error}", file=sys.stderr)
        return int(error.code)
    except KeyboardInterrupt:
        return 130
    if options.json:
        print(json.dumps(report.document(results), indent=2))
    else:
        print(report.text(results), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
