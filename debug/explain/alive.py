# SPDX-License-Identifier: BSD-2-Clause
"""A machine that was at work when the observer stopped it: it ran, and it printed.

That is no proof that it does what it should: only the user knows what a healthy one prints.
"""

from __future__ import annotations

from debug.evidence import Ending
from debug.explain.arrival import nothing_sent
from debug.explain.context import Machine
from debug.explain.model import UNBEGUN, CpuState, CpuView, Status
from debug.explain.panic import clean
from debug.explain.trampoline_search import search

_DORMANT = (*UNBEGUN, CpuState.PARKED)
_WORKS = (CpuState.RUNNING, CpuState.IDLE)
_QUIET = 2.0  # seconds without a word that a guest which goes on printing may pass
_LINE = 60  # characters of the last line that are shown


def awake(views: tuple[CpuView, ...]) -> list[CpuView]:
    """The CPUs that neither wait to be started nor were sent to rest."""
    return [view for view in views if view.state not in _DORMANT]


def printing(machine: Machine, views: tuple[CpuView, ...]) -> bool:
    """Whether the guest printed up to the end, and each CPU that is awake is at work."""
    evidence = machine.evidence
    if evidence.ending is not Ending.STOPPED or evidence.quiet is None or evidence.quiet > _QUIET:
        return False
    up = awake(views)
    moved = any(cpu.moved for cpu in machine.cpus)
    return bool(up) and moved and all(view.state in _WORKS for view in up)


def alone(machine: Machine, views: tuple[CpuView, ...]) -> bool:
    """Whether it is no matter that the other CPUs sleep: this kernel does not start any."""
    up = awake(views)
    only = len(up) == 1 and up[0].index == machine.bsp_index
    return only and nothing_sent(machine) and search(machine) is None


def notes(machine: Machine, views: tuple[CpuView, ...], status: Status) -> tuple[str, ...]:
    """What is known of a guest that would have gone on."""
    if status not in (Status.HEALTHY, Status.UNKNOWN) or not printing(machine, views):
        return ()
    text = machine.evidence.console
    whole = [line for line in text[: text.rfind("\n") + 1].splitlines() if line.strip()]
    last = clean(whole[-1] if whole else text)[:_LINE]
    said = f', at last "{last}"' if last else ""
    line = f"the guest was still running and printing when it was stopped{said}"
    if machine.evidence.unseen:
        return (line,)
    return (
        f"{line}: nothing wrong was seen in that time; run --until REGEX tells by what it prints that"
        " it is well",
    )
