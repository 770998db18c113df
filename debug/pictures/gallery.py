# SPDX-License-Identifier: BSD-2-Clause
"""Every kind of picture, drawn from one diagnosis."""

from __future__ import annotations

from typing import Optional

from debug.pictures import chain, memory_map, timeline, walk
from debug.pictures.drawing import NoPicture
from debug.report.diagnosis import Diagnosis
from debug.stages.elf import table_for
from debug.stages.lanes import lanes, ticks_per_us


def draw(diagnosis: Diagnosis, kind: str, subject: Optional[str] = None) -> str:
    """The SVG.  The machine's memory must still be readable.  Raises NoPicture."""
    if kind == "chain":
        return chain.draw(diagnosis)
    if kind == "memory":
        return memory_map.draw(diagnosis)
    if kind == "walk":
        return walk.draw(walk.subject(diagnosis, subject))
    if not diagnosis.evidence.stages:
        raise NoPicture("this guest lit no stage: docs/drop-in-kit.md teaches it to")
    table = diagnosis.evidence.stage_table or table_for(None)
    ways = lanes(diagnosis.evidence.stages, table)
    return timeline.render(ways, table, ticks_per_us(ways, table))
