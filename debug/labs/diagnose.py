# SPDX-License-Identifier: BSD-2-Clause
"""Running a lab and judging what was said of it."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, replace
from typing import Callable, Optional

from debug.cli.observe import Wishes, observe
from debug.labs.lab import CERTAINTIES, SETTLES, Expectation, Lab
from debug.labs.workshop import build
from debug.report.diagnosis import Diagnosis

# Bochs interprets: on a busy host a guest's two seconds take it half a minute.
BOCHS_PATIENCE = 4
# A part of the timeout, of 30 s: more than the kernel waits without a word before it has counted
# its CPUs (GOING_ON_DEADLINE_US).
SILENT = 0.4
_COUNTED = re.compile(rb"[0-9]+ of [0-9]+ CPUs online")  # src/kmain.c


@dataclass
class Settled:
    """Sees that nothing was written for a while: that our kernel has counted its CPUs and is done,
    or that it stands before that.

    What most labs' CPUs do then, they do for ever: nobody need wait for the timeout.  Where the
    kernel itself waits for something after the count, the lab says for how long.
    """

    settles: float  # seconds after the CPUs were counted
    silence: float  # seconds before that
    on_output: Optional[Callable[[bytes], None]] = None
    _tail: bytes = b""
    _counted: bool = False
    _last: Optional[float] = None

    def take(self, data: bytes) -> None:
        """Console output, as it comes."""
        self._tail = (self._tail + data)[-256:]
        self._counted = self._counted or _COUNTED.search(self._tail) is not None
        self._last = time.monotonic()
        if self.on_output is not None:
            self.on_output(data)

    def is_over(self) -> bool:
        if self._last is None:
            return False
        return time.monotonic() - self._last > (self.settles if self._counted else self.silence)


def settled(
    lab: Lab, patience: float = 1, on_output: Optional[Callable[[bytes], None]] = None
) -> Settled:
    """Sees when a boot of the lab is over; `patience` is how many times slower it may be."""
    settles = lab.settles * (patience if lab.settles > SETTLES else 1)
    return Settled(settles, SILENT * lab.timeout * patience, on_output)


def diagnose(
    lab: Lab,
    emulator: str,
    on_output: Optional[Callable[[bytes], None]] = None,
    name: str = "",
) -> Diagnosis:
    """Build the lab, boot it on "qemu" or "bochs" and explain what becomes of it.

    `name` hides the lab's own in every path.  Raises LabError and CommandError.
    """
    kernel = build(lab, "lamppost.elf" if emulator == "qemu" else "lamppost.iso", name)
    if emulator == "qemu":
        argv = replace(kernel, extra=lab.qemu).qemu()
    else:
        argv = replace(kernel, extra=lab.bochs).bochs()
    patience = BOCHS_PATIENCE if emulator == "bochs" else 1
    over = settled(lab, patience, on_output)
    wishes = Wishes(
        timeout=lab.timeout * patience,
        cpus=lab.cpus,
        symbols=kernel.symbols,
        on_output=over.take,
        stop_when=over.is_over,
    )
    return observe(argv, wishes)


def objection(diagnosis: Diagnosis, expected: Expectation) -> Optional[str]:
    """What is wrong with the verdict; None if it is right."""
    return _objection(diagnosis, fitting(diagnosis, expected))


def fitting(diagnosis: Diagnosis, expected: Expectation) -> Expectation:
    """What is expected of the emulator, or of a newer one if the diagnosis is just that."""
    newer = expected.newer
    if newer is None or _objection(diagnosis, expected) is None:
        return expected
    return newer if _objection(diagnosis, newer) is None else expected


def _objection(diagnosis: Diagnosis, expected: Expectation) -> Optional[str]:
    if diagnosis.status not in (expected.status, *expected.others):
        return f"status {diagnosis.status}, expected {expected.status}"
    if not expected.causes:
        return None
    if not diagnosis.causes:
        return f"no cause, expected {' or '.join(expected.causes)}"
    first = diagnosis.causes[0]
    if first.row.id not in expected.causes:
        return f"first cause {first.row.id}, expected {' or '.join(expected.causes)}"
    if CERTAINTIES.index(first.certainty.value) > CERTAINTIES.index(expected.certainty):
        return f"{first.row.id} is only {first.certainty.value}, expected {expected.certainty}"
    return None
