# SPDX-License-Identifier: BSD-2-Clause
"""The timeline in Chrome's trace event format, which Perfetto and chrome://tracing open.

One track per CPU; a slice lasts from one stage to the next, the last stage is an instant.  Times
are microseconds where the TSC and its rate are known; else one "microsecond" is one TSC cycle or
one event, as `otherData.unit` says.
"""

from __future__ import annotations

import json
from typing import Any, Optional, Sequence

from debug.evidence import StageEvent
from debug.stages.lanes import Lane
from debug.stages.model import StageTable
from debug.stages.scale import scale

_PROCESS = 1


def render(lanes: Sequence[Lane], table: StageTable, ticks_per_us: Optional[float]) -> str:
    """The trace as JSON text with a newline; the same lanes give the same text."""
    placed = scale(lanes, ticks_per_us)
    events: list[dict[str, Any]] = [_metadata("process_name", 0, name="lamppost")]
    for track, (lane, times) in enumerate(zip(lanes, placed.rows), 1):
        name = lane.label + (" (BSP)" if lane.is_bsp else "")
        events.append(_metadata("thread_name", track, name=name))
        events.append(_metadata("thread_sort_index", track, sort_index=track))
        for index, (event, time) in enumerate(zip(lane.events, times)):
            entry = _slice(event, track, time, table)
            if index + 1 < len(times):
                entry.update(ph="X", dur=round(times[index + 1] - time, 3))
            else:
                entry.update(ph="i", s="t")
            events.append(entry)
    trace = {
        "displayTimeUnit": "ns",
        "otherData": {"unit": placed.unit},
        "traceEvents": events,
    }
    return json.dumps(trace, indent=1, sort_keys=True) + "\n"


def _metadata(kind: str, track: int, **arguments: object) -> dict[str, Any]:
    return {"ph": "M", "pid": _PROCESS, "tid": track, "name": kind, "args": arguments}


def _slice(event: StageEvent, track: int, time: float, table: StageTable) -> dict[str, Any]:
    arguments: dict[str, object] = {"apic_id": event.apic_id}
    stage = table.get(event.code)
    if stage is not None:
        arguments.update(became=stage.became, needs=stage.needs, mode=stage.mode)
    if event.argument is not None:
        arguments["argument"] = f"{event.argument:#x}"
    if event.damaged:
        arguments["restored"] = True
    return {
        "name": f"{event.code:02x} {table.name(event.code)}",
        "cat": "stage",
        "pid": _PROCESS,
        "tid": track,
        "ts": round(time, 3),
        "args": arguments,
    }
