# SPDX-License-Identifier: BSD-2-Clause
"""The far jump that is not there."""

from __future__ import annotations

from typing import Optional

from debug.evidence import Evidence
from debug.explain.findings import FatalException, ModeTrap, ModeTrapKind
from debug.explain.model import Explanation, Status
from debug.failures import chapters
from debug.failures.row import Match, Place, Row, likely


def _missing(evidence: Evidence, explanation: Explanation) -> Optional[Match]:
    if explanation.status is Status.HEALTHY:
        return None
    for trap in explanation.all(ModeTrap):
        if explanation.culprit is not None and trap.cpu != explanation.culprit:
            continue  # it was stopped on its way
        if trap.kind is ModeTrapKind.NO_FAR_JUMP:
            return likely(trap, explanation.first(FatalException, trap.cpu))
    return None


ROWS = (
    Row(
        "far-jump-missing",
        "CR0.PE was set and no far jump follows: 32-bit code runs in real mode's code segment",
        Place.REAL16,
        ("triple fault right after PE", "#UD after mov cr0", "jmp instead of ljmp"),
        "PE is 1, CS is still real mode's, and a near jump follows on the MOV to CR0",
        "a far jump loaded CS",
        "jump far to the 32-bit code segment right after PE is set: jmp dword 0x08:start32",
        "Switching to Protected Mode",
        chapters.PROTECTED_MODE,
        ("B16-09", "BLD-05"),
        _missing,
        over=("no-code-at-rip", "executing-zeros", "code-for-another-mode"),
    ),
)
