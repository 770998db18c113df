# SPDX-License-Identifier: BSD-2-Clause
"""The failure table and its use: which rows fit a machine, best first."""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules
from typing import Optional

from debug.evidence import Evidence
from debug.explain.model import Explanation
from debug.failures import evident
from debug.failures import rows as row_package
from debug.failures.row import Cause, Certainty, Row


def _collect() -> tuple[Row, ...]:
    found: list[Row] = []
    for module in sorted(info.name for info in iter_modules(row_package.__path__)):
        found += import_module(f"{row_package.__name__}.{module}").ROWS
    return tuple(found)


ROWS: tuple[Row, ...] = _collect()
"""Every row; the modules of debug/failures/rows in the order of their names."""


def find(row_id: str) -> Optional[Row]:
    """The row with this id, or the first that covers this id of the catalogue."""
    wanted = row_id.strip()
    exact = next((row for row in ROWS if row.id == wanted.lower()), None)
    return exact or next((row for row in ROWS if wanted.upper() in row.catalogue), None)


def rank(evidence: Evidence, explanation: Explanation) -> tuple[Cause, ...]:
    """The causes that fit, best first.

    Generic rows last; certain before likely before possible; within that, on the culprit first,
    then earlier in time, then in the order of the table.  Generic rows are left out where another
    row fits with at least likely certainty.
    """
    causes = []
    for row in ROWS:
        found = row.match(evidence, explanation)
        match = evident.judged(row.id, found, evidence, explanation)
        if match is not None:
            causes.append(Cause(row, match))
    firm = [cause for cause in causes if cause.certainty is not Certainty.POSSIBLE]
    covered = {row_id for cause in firm for row_id in cause.row.over}
    causes = [cause for cause in causes if cause.row.id not in covered]
    if any(not c.row.generic and c.certainty is not Certainty.POSSIBLE for c in causes):
        causes = [cause for cause in causes if not cause.row.generic]
    culprit = explanation.culprit

    def key(item: tuple[int, Cause]) -> tuple[bool, int, int, bool, int, int]:
        place, cause = item
        elsewhere = culprit is not None and cause.match.cpu not in (culprit, None)
        return (
            cause.row.generic,
            cause.certainty.rank,
            min(cause.match.order, 0),  # what came before everything else
            elsewhere,
            cause.match.order,
            place,
        )

    return tuple(cause for _, cause in sorted(enumerate(causes), key=key))
