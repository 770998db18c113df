# SPDX-License-Identifier: BSD-2-Clause
"""A handler that faults itself: the last exceptions of such a CPU say little, the first one all.

Each fault pushes its frame below the one before, until the stack ends or has overwritten what the
handler needs.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Optional

from debug.evidence import EventKind, ExceptionEvent
from debug.explain.context import Machine
from debug.explain.findings.tables import HandlerFaults
from debug.x86.exceptions import NMI

_DEEPER = 0x2000  # bytes that a handler uses before it faults, at most
_ENOUGH = 3  # the same fault so often is no coincidence


@dataclass(frozen=True)
class Recursion:
    """`first` began it; `finding` says what was repeated."""

    first: ExceptionEvent
    finding: HandlerFaults


def find(
    machine: Machine, events: list[ExceptionEvent], last: ExceptionEvent
) -> Optional[Recursion]:
    """The nest of exceptions that `last`, one of `events`, is the innermost of."""
    faults = [e for e in events if e.kind is EventKind.EXCEPTION and e.vector != NMI]
    if last not in faults:
        return None
    run = [last]
    for event in reversed(faults[: faults.index(last)]):
        if not _around(event, run[0]):
            break
        run.insert(0, event)
    count = Counter((event.vector, event.registers.rip) for event in run)
    (number, rip), times = count.most_common(1)[0]
    if times < _ENOUGH or rip is None:
        return None
    recorded = (run[0].vector, run[0].registers.rip) != (number, rip)
    at = next(e for e in run if (e.vector, e.registers.rip) == (number, rip))
    where = machine.where(machine.pc(at.registers))
    return Recursion(run[0], HandlerFaults(last.cpu, number, rip, where, times, recorded))


def _around(outer: ExceptionEvent, inner: ExceptionEvent) -> bool:
    """Whether `inner` came while the handler of `outer` ran on the same stack."""
    above, below = outer.registers.get("rsp"), inner.registers.get("rsp")
    if above is None or below is None or outer.cpu != inner.cpu:
        return False
    return 0 < above - below <= _DEEPER
