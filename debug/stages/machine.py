# SPDX-License-Identifier: BSD-2-Clause
"""A decoded trace as one JSON object."""

from __future__ import annotations

from typing import Any, Sequence

from debug.evidence import StageEvent
from debug.stages.lanes import Lane, Roll
from debug.stages.model import StageTable
from debug.stages.trace import Trace

SCHEMA = "lamppost-stages-1"


def to_object(
    trace: Trace,
    lanes: Sequence[Lane],
    roll: Roll,
    table: StageTable,
    notes: Sequence[str],
) -> dict[str, Any]:
    """The object that `lamppost stages --json` prints.

    schema, table (where it was read), expected, online, silent; cpus: apic_id, run, bsp, arrived,
    stages (place, code, name, argument, sequence, tsc, source, restored); damage: kind, offset,
    text, apic_id, lost; damage_count; notes; console (the tail).
    """
    return {
        "schema": SCHEMA,
        "table": table.origin,
        "expected": roll.expected,
        "online": roll.online,
        "silent": list(roll.silent),
        "cpus": [
            {
                "apic_id": lane.apic_id,
                "run": lane.run,
                "bsp": lane.is_bsp,
                "arrived": lane.arrived,
                "stages": [
                    _stage(place, event, table) for place, event in zip(lane.places, lane.events)
                ],
            }
            for lane in lanes
        ],
        "damage": [
            {
                "kind": damage.kind.value,
                "offset": damage.offset,
                "text": damage.text,
                "apic_id": damage.apic_id,
                "lost": damage.lost,
            }
            for damage in trace.damage
        ],
        "damage_count": trace.damage_count,
        "notes": list(notes),
        "console": trace.console,
    }


def _stage(place: int, event: StageEvent, table: StageTable) -> dict[str, Any]:
    return {
        "place": place,
        "code": event.code,
        "name": table.name(event.code),
        "argument": event.argument,
        "sequence": event.sequence,
        "tsc": event.tsc,
        "source": event.source,
        "restored": event.damaged and event.source == "memory",
    }
