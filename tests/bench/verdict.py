# SPDX-License-Identifier: BSD-2-Clause
"""From the death of a guest to the printed verdict, in real time."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

from debug.cli.observe import symbols_of
from debug.labs.lab import LabError, load
from debug.labs.workshop import build
from debug.report.diagnosis import diagnose
from debug.report.text import render
from debug.sources.qemu_live import Options, QemuMachine
from debug.stages.gather import stages_of
from tests.bench.counts import median
from tests.bench.machine import BenchError

LAB = "ap-stack-unmapped"
ROUNDS = 3


@dataclass(frozen=True)
class Verdict:
    """Medians, in seconds.

    boot: from the start of QEMU to the notice of the death; collect: to the evidence; explain:
    from there to the text of the report.
    """

    lab: str
    cause: str
    boot: float
    collect: float
    explain: float

    @property
    def total(self) -> float:
        """From the notice of the death to the text."""
        return self.collect + self.explain


def measure(lab_id: str = LAB, rounds: int = ROUNDS) -> Verdict:
    """Break the kernel, boot it `rounds` times and explain each death.  Raises BenchError."""
    try:
        lab = load(lab_id)
        kernel = replace(build(lab), extra=lab.qemu)
    except LabError as error:
        raise BenchError(str(error)) from error
    symbols = symbols_of(kernel.symbols)
    boots, collects, explains, cause = [], [], [], ""
    for _ in range(rounds):
        started = time.monotonic()
        wish = Options(timeout=lab.timeout, cpus=lab.cpus, symbols=symbols)
        with QemuMachine(kernel.qemu(), wish) as machine:
            evidence = machine.observe()
            seen = time.monotonic()
            evidence = replace(
                evidence,
                stages=stages_of(machine.streams, evidence.memory),
                symbols=symbols,
                expected_cpus=lab.cpus,
            )
            diagnosis = diagnose(evidence)
            render(diagnosis)
            explains.append(time.monotonic() - seen)
            collect = machine.collect_seconds or 0.0
        collects.append(collect)
        boots.append(seen - started - collect)
        cause = diagnosis.causes[0].row.id if diagnosis.causes else diagnosis.status
    return Verdict(lab_id, cause, median(boots), median(collects), median(explains))
