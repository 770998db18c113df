# SPDX-License-Identifier: BSD-2-Clause
"""Evidence to diagnosis: the one call that the command line and the GDB commands make."""

from __future__ import annotations

from dataclasses import dataclass, replace

from debug.evidence import Evidence
from debug.explain import Explanation, explain
from debug.explain.stages import MEMORY
from debug.failures.row import Cause, Certainty
from debug.failures.table import rank
from debug.stages.memory import read_memory


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
    causes = rank(evidence, explanation)
    if not any(cause.certainty is Certainty.CERTAIN for cause in causes) or _backed(evidence):
        return Diagnosis(evidence, explanation, causes)
    tempered = _tempered(evidence, causes)
    if tempered != causes:
        explanation = replace(explanation, notes=(*explanation.notes, _HEARSAY))
    return Diagnosis(evidence, explanation, tempered)


_HEARSAY = (
    "the stages are the guest's word alone: no record in memory and no stage table in an ELF file"
    " backs them, so that nothing which needs them is certain"
)


def _backed(evidence: Evidence) -> bool:
    """Whether more than frames on a port says what the stages say.  Anything can print a frame."""
    if not any(event.source != MEMORY for event in evidence.stages):
        return True
    return evidence.stage_table is not None or bool(read_memory(evidence.memory).cpus)


def _tempered(evidence: Evidence, causes: tuple[Cause, ...]) -> tuple[Cause, ...]:
    """Certain is only what would be so without the stages."""
    silent = replace(evidence, stages=())
    proven = {
        (cause.row.id, cause.match.cpu)
        for cause in rank(silent, explain(silent))
        if cause.certainty is Certainty.CERTAIN
    }
    lowered = [
        replace(cause, match=replace(cause.match, certainty=Certainty.LIKELY))
        if cause.certainty is Certainty.CERTAIN and (cause.row.id, cause.match.cpu) not in proven
        else cause
        for cause in causes
    ]
    return tuple(sorted(lowered, key=lambda cause: (cause.row.generic, cause.certainty.rank)))
