# SPDX-License-Identifier: BSD-2-Clause
"""Showing a trace: the timeline of one boot, as `lamppost stages` draws it."""

from __future__ import annotations

import sys
from typing import Sequence

from debug.evidence import StageEvent
from debug.stages import timeline
from debug.stages.elf import table_for
from debug.stages.lanes import Roll, lanes, roll_call


def show_timeline(events: Sequence[StageEvent], cpus: int) -> Roll:
    """Print each CPU's way through the stages and who is online."""
    table = table_for(None)
    all_lanes = lanes(events, table)
    console = timeline.console_for(sys.stdout)
    marks = timeline.marks_for(sys.stdout)
    for line in timeline.render(all_lanes, table, console.width, marks):
        console.print(line)
    roll = roll_call(all_lanes, table, cpus)
    console.print(timeline.summary(roll))
    return roll
