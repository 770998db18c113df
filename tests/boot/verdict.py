# SPDX-License-Identifier: BSD-2-Clause
"""What a boot's two streams must say."""

from __future__ import annotations

import re
from typing import Mapping, Optional, Sequence

from debug.stages.frames import Frame
from debug.stages.table import BUILT_IN
from debug.stages.trace import Trace, decode
from tests.tree import TREE

# Stages of APs that something went wrong with.
_ASTRAY = {"AP_UNKNOWN", "AP_ABANDONED"}

AP_WAY = tuple(
    stage.code
    for stage in BUILT_IN.stages
    if stage.name.startswith("AP_") and stage.name not in _ASTRAY
)
AT_WORK = frozenset(range(0x80, 0xA0))  # what a CPU lights later, in a self-test
AP_LAST = BUILT_IN.by_name["AP_INTERRUPTS"].code
BSP_LAST = BUILT_IN.by_name["BSP_INTERRUPTS"].code
# The last frame of any CPU that boots and then idles.
LAST_FRAME = re.compile(rb":(?:%02x|%02x)\.[0-9a-f]\*..\n" % (AP_LAST, BSP_LAST))
EXIT_STAGE = BUILT_IN.by_name["BSP_EXIT"].code


def exit_codes() -> Mapping[str, int]:
    """EXIT_OK is "OK", and so on, from src/lib/exit.h."""
    text = (TREE / "src/lib/exit.h").read_text(encoding="utf-8")
    return {name: int(value, 16) for name, value in re.findall(r"EXIT_(\w+) = (0x[0-9a-f]+)", text)}


def sequences(trace: Trace) -> dict[int, list[Frame]]:
    """Each CPU's frames, in its order."""
    cpus: dict[int, list[Frame]] = {}
    for frame in trace.frames:
        cpus.setdefault(frame.apic_id, []).append(frame)
    return cpus


def decode_whole(stream: bytes, name: str) -> Trace:
    """The trace in a stream, of which nothing may be torn or lost."""
    trace = decode(stream)
    assert not trace.damage, f"{name}: {'; '.join(map(str, trace.damage[:5]))}"
    return trace


def check_aps(trace: Trace, aps: Sequence[int], name: str) -> None:
    """Every AP went its whole way once, and nobody else did."""
    cpus = sequences(trace)
    for apic_id in aps:
        way = tuple(f.code for f in cpus.get(apic_id, []) if f.code not in AT_WORK)
        assert way == AP_WAY, f"{name}: CPU {apic_id}: {' '.join(f'{c:02x}' for c in way)}"
    strangers = {apic_id for apic_id in cpus if apic_id and apic_id not in aps}
    assert not strangers, f"{name}: frames of CPUs that should light no lamp: {strangers}"


def exit_argument(trace: Trace) -> Optional[int]:
    """What the kernel says that it ends the machine with."""
    return next((f.argument for f in trace.frames if f.code == EXIT_STAGE), None)
