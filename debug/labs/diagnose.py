# SPDX-License-Identifier: BSD-2-Clause
"""Running a lab and judging what was said of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Callable, Optional

from debug.cli.observe import Wishes, observe
from debug.labs.lab import CERTAINTIES, Expectation, Lab
from debug.labs.workshop import build
from debug.report.diagnosis import Diagnosis

# Bochs interprets: on a busy host a guest's two seconds take it half a minute.
BOCHS_PATIENCE = 4


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
    wishes = Wishes(
        timeout=lab.timeout * (BOCHS_PATIENCE if emulator == "bochs" else 1),
        cpus=lab.cpus,
        symbols=kernel.symbols,
        on_output=on_output,
    )
    return observe(argv, wishes)


def objection(diagnosis: Diagnosis, expected: Expectation) -> Optional[str]:
    """What is wrong with the verdict; None if it is right."""
    if diagnosis.status != expected.status:
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
