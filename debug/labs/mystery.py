# SPDX-License-Identifier: BSD-2-Clause
"""The mystery: a lab whose name is kept until it is asked for."""

from __future__ import annotations

import random

from debug.kernel.machine import ROOT
from debug.labs.lab import Lab, LabError, ids, load

NAME = "mystery"
ANSWER = ROOT / "build" / NAME / "answer"


def choose() -> Lab:
    """Another lab than last time, remembered."""
    last = ANSWER.read_text().strip() if ANSWER.exists() else ""
    lab = load(random.choice([lab_id for lab_id in ids() if lab_id != last]))
    ANSWER.parent.mkdir(parents=True, exist_ok=True)
    ANSWER.write_text(lab.id + "\n")
    return lab


def chosen() -> Lab:
    """The lab of the mystery that is open.  Raises LabError without one."""
    if not ANSWER.exists():
        raise LabError("there is no mystery: expected one from make lab LAB=random")
    return load(ANSWER.read_text().strip())
