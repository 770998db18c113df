# SPDX-License-Identifier: BSD-2-Clause
"""The stages of one machine, from all that it left: its consoles and its memory."""

from __future__ import annotations

from typing import Mapping

from debug.evidence import Memory, StageEvent
from debug.stages.memory import read_memory
from debug.stages.repair import repair
from debug.stages.trace import decode


def stages_of(streams: Mapping[str, bytes], memory: Memory) -> tuple[StageEvent, ...]:
    """The stages, from the port that shows most of them, mended from the record in memory."""
    traces = {name: decode(streams.get(name, b"")) for name in ("e9", "com1", "stdout")}
    name, best = max(traces.items(), key=lambda item: item[1].frame_count)
    records = read_memory(memory).cpus
    if not best.frame_count:
        return tuple(event for record in records for event in record.events)
    if not records:
        return best.events(name)
    return repair(best.events(name), records).events
