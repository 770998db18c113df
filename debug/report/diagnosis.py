# SPDX-License-Identifier: BSD-2-Clause
"""Evidence to diagnosis: the one call that the command line and the GDB commands make."""

from __future__ import annotations

from dataclasses import dataclass

from debug.evidence import Evidence
from debug.explain import Explanation, explain
from debug.failures.row import Cause
from debug.failures.table import rank


@dataclass(frozen=True)
class Diagnosis:
    """Everything that a report prints."""

    evidence: Evidence
    explanation: Explanation
    causes: tuple[Cause, ...]

    @property
    def status(self) -> str:
        """The `status` of the JSON report."""
        return self.explanation.status.value


def diagnose(evidence: Evidence) -> Diagnosis:
    """Explain a machine and rank the causes.  Never raises on any evidence."""
    explanation = explain(evidence)
    return Diagnosis(evidence, explanation, rank(evidence, explanation))
