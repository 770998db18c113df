# SPDX-License-Identifier: BSD-2-Clause
"""What several rows ask about the arrival of an AP."""

from __future__ import annotations

from typing import Optional

from debug.evidence import Evidence
from debug.explain import stages as stage
from debug.explain.findings import Laxness
from debug.explain.model import Explanation


def apic_is_off(explanation: Explanation) -> Optional[Laxness]:
    return next((f for f in explanation.all(Laxness) if "IA32_APIC_BASE.EN" in f.sentence), None)


def online_late(evidence: Evidence, apic_id: Optional[int]) -> bool:
    """Whether the stream says that the CPU came online only after the BSP had given it up."""
    stream = [event for event in evidence.stages if event.source != stage.MEMORY]
    missed = [
        at
        for at, event in enumerate(stream)
        if event.code == stage.BSP_AP_MISSING and event.argument == apic_id
    ]
    online = [
        at
        for at, event in enumerate(stream)
        if event.code == stage.AP_ONLINE and event.apic_id == apic_id
    ]
    return bool(missed and online) and missed[0] < online[0]
