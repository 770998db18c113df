# SPDX-License-Identifier: BSD-2-Clause
"""What one CPU writes and another one does not see."""

from __future__ import annotations

from typing import Optional

from debug.evidence import Evidence
from debug.explain.findings import WaitsFor
from debug.explain.findings.waits import OtherPage
from debug.explain.model import Explanation, Status
from debug.failures import chapters
from debug.failures.row import Match, Place, Row, likely


def _other_page(evidence: Evidence, explanation: Explanation) -> Optional[Match]:
    found = explanation.first(OtherPage)
    if found is None or explanation.status not in (Status.HANG, Status.MISSING_CPU):
        return None
    return likely(found, explanation.first(WaitsFor, found.cpu))


ROWS = (
    Row(
        "shared-word-in-two-pages",
        "a CPU waits for a word that another CPU's page tables have in another page",
        Place.RUNNING,
        (
            "flag is set and the AP does not see it",
            "variable has two values",
            "per-CPU page shared",
        ),
        "the CPU reads the word in a loop, and the address leads to another physical page in another CPU's"
        " tables, where the word has another value",
        "both CPUs' tables lead to one page",
        "map what CPUs share to the same physical page in all tables: share the kernel's half of the PML4,"
        " and copy no page of data for an AP",
        "Paging",
        chapters.TOGETHER,
        ("AP4-11",),
        _other_page,
        over=(
            *("cpus-wait-for-each-other", "endless-loop", "cpu-there-not-seen", "flag-never-set"),
            *("barrier-never-opens", "waits-in-a-circle", "barrier-lacks-a-cpu"),
        ),
    ),
)
