# SPDX-License-Identifier: BSD-2-Clause
"""The mystery: a lab whose name is kept until it is asked for."""

from __future__ import annotations

import random

from debug.kernel.machine import ROOT
from debug.labs.lab import Lab, LabError, ids, load

NAME = "mystery"
ANSWER = ROOT / "build" / NAME / "answer"


def choose(emulator: str) -> Lab:
    """Another lab than last time, remembered: one whose bug this emulator shows."""
    last = ANSWER.read_text().strip() if ANSWER.exists() else ""
    labs = [load(lab_id) for lab_id in ids() if lab_id != last]
    lab = random.choice(
        [lab for lab in labs if emulator in lab.expect and lab.expect[emulator].causes]
    )
    ANSWER.parent.mkdir(parents=True, exist_ok=True)
    ANSWER.write_text(lab.id + "\n")
    return lab


def chosen() -> Lab:
    """The lab of the mystery that is open.  Raises LabError without one."""
    if not ANSWER.exists():
        raise LabError("there is no mystery: expected one from make lab LAB=random")
    return load(ANSWER.read_text().strip())
