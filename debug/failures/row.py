# SPDX-License-Identifier: BSD-2-Clause
"""One row of the failure table: a root cause as data, and the test for it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Callable, Optional

from debug.evidence import Evidence
from debug.explain.model import Explanation, Finding, Status

# What has not come is only known to be missing where the machine went on without it.
WAITED = (Status.MISSING_CPU, Status.HANG, Status.UNKNOWN)
NOT_UP = (*WAITED, Status.TRIPLE_FAULT, Status.PANIC)


class Certainty(Enum):
    """How far the evidence goes."""

    CERTAIN = "certain"  # the architecture leaves nothing else
    LIKELY = "likely"  # everything seen fits, something else is conceivable
    POSSIBLE = "possible"  # one of several explanations

    @property
    def rank(self) -> int:
        """0 for the strongest."""
        return list(Certainty).index(self)


@dataclass(frozen=True)
class Match:
    """A row that fits: on which CPU, how surely, and the lines that show it."""

    certainty: Certainty
    evidence: tuple[str, ...]
    cpu: Optional[int] = None
    order: int = 0  # when in time: lower is earlier, among causes of one machine


Matcher = Callable[[Evidence, Explanation], Optional[Match]]


class Place(Enum):
    """Where in the life of a CPU a root cause belongs; the groups of the document."""

    START = "an AP is started"
    REAL16 = "16-bit code"
    PROTECTED = "protected mode"
    PAGING = "paging and the switch to long mode"
    LONG64 = "64-bit code"
    DELIVERY = "exceptions and interrupts"
    RUNNING = "after bring-up"
    END = "ends on purpose"
    GENERIC = "what can be proven without a named cause"


@dataclass(frozen=True)
class Row:
    """A root cause.

    `symptom`: what a person would type into a search box.  `proves` and `disproves`: what to see
    for the cause to stand, and what rules it out.  `manual`: titles of sections, as in
    docs/references.md.  `catalogue`: ids of the catalogue of root causes.
    `generic` rows only speak where no other row fits.  `over`: rows that say the same less exactly,
    or name a consequence; they are silent where this one fits with at least likely certainty.
    """

    id: str
    title: str
    place: Place
    symptom: tuple[str, ...]
    proves: str
    disproves: str
    fix: str
    manual: str
    chapter: str
    catalogue: tuple[str, ...]
    match: Matcher
    labs: tuple[str, ...] = ()
    generic: bool = False
    over: tuple[str, ...] = ()


@dataclass(frozen=True)
class Cause:
    """A row of the table that fits a machine."""

    row: Row
    match: Match

    @property
    def certainty(self) -> Certainty:
        return self.match.certainty


def words(*findings: Optional[Finding]) -> tuple[str, ...]:
    """The sentences of findings, in order, without repetition; None is skipped."""
    lines: list[str] = []
    for finding in findings:
        if finding is not None:
            lines += [line for line in finding.sentences() if line not in lines]
    return tuple(lines)


def certain(
    *findings: Optional[Finding], cpu: Optional[int] = None, extra: tuple[str, ...] = ()
) -> Match:
    """A certain match on the CPU of the first finding."""
    return _match(Certainty.CERTAIN, findings, cpu, extra)


def likely(
    *findings: Optional[Finding], cpu: Optional[int] = None, extra: tuple[str, ...] = ()
) -> Match:
    """A likely match on the CPU of the first finding."""
    return _match(Certainty.LIKELY, findings, cpu, extra)


def possible(
    *findings: Optional[Finding], cpu: Optional[int] = None, extra: tuple[str, ...] = ()
) -> Match:
    """A possible match on the CPU of the first finding."""
    return _match(Certainty.POSSIBLE, findings, cpu, extra)


def told_by(
    kind: type[Finding],
    beside: Optional[type[Finding]] = None,
    certainty: Certainty = Certainty.CERTAIN,
) -> Matcher:
    """A matcher: the first finding of this kind, told with one of another kind on its CPU."""

    def match(evidence: Evidence, explanation: Explanation) -> Optional[Match]:
        found = explanation.first(kind)
        if found is None:
            return None
        other = explanation.first(beside, found.cpu) if beside is not None else None
        return _match(certainty, (found, other), None, ())

    return match


def _match(
    certainty: Certainty,
    findings: tuple[Optional[Finding], ...],
    cpu: Optional[int],
    extra: tuple[str, ...],
) -> Match:
    if cpu is None:
        cpu = next((f.cpu for f in findings if f is not None and f.cpu is not None), None)
    return Match(certainty, words(*findings) + extra, cpu)
