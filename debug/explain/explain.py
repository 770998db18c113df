# SPDX-License-Identifier: BSD-2-Clause
"""The whole explanation: evidence in, `Explanation` out.  Pure; never raises on any evidence."""

from __future__ import annotations

from typing import Optional

from debug.evidence import Evidence
from debug.explain import bios_handler, inquiry, notes, trampoline_search, uefi_report
from debug.explain.context import Machine
from debug.explain.death import Death, death_of
from debug.explain.end import End, end_of
from debug.explain.findings import (
    ExceptionReported,
    ExecutingFiller,
    HaltedForever,
    KernelGaveUp,
    LineHeld,
    OutsideMemory,
    PanicMessage,
    Spinning,
)
from debug.explain.findings.handlers import NoInterruptComes, RetriedInRealMode
from debug.explain.findings.state import StringRunsAway
from debug.explain.headline import headline
from debug.explain.model import CpuView, Explanation, Finding, Status
from debug.explain.status import judge


def explain(evidence: Evidence) -> Explanation:
    """What happened to this machine."""
    evidence = bios_handler.seen_through(uefi_report.recorded(evidence))
    machine = Machine(evidence)
    death = death_of(machine)
    views, found = inquiry.of_each_cpu(machine, death)
    found = inquiry.of_the_machine(machine, views, found)
    status = judge(machine, views, found, death.happened)
    end = end_of(machine, death.cpu, status, found)
    found = end.findings + found + inquiry.of_the_aps(machine, death, end)
    if status is not Status.HEALTHY:
        found += inquiry.of_the_end(machine, views, death, end)
    index = _to_look_at(death, end, status, views, found)
    return Explanation(
        status,
        headline(status, machine, index, end.steps, views),
        index,
        views,
        end.steps,
        tuple(dict.fromkeys(found)),
        notes.of(machine, views, death, status, end, found),
        trampoline_search.worth_telling(machine, status, index),
    )


def _to_look_at(
    death: Death,
    end: End,
    status: Status,
    views: tuple[CpuView, ...],
    findings: tuple[Finding, ...],
) -> Optional[int]:
    """The CPU that the report is about: the one that died, or whose end it was."""
    if death.cpu is not None:
        return death.cpu.index
    return end.cpu if end.cpu is not None else _suspect(status, views, findings)


def _suspect(
    status: Status, views: tuple[CpuView, ...], findings: tuple[Finding, ...]
) -> Optional[int]:
    """Where none died: the missing, the stuck, the reporting one."""
    if status is Status.MISSING_CPU:
        gave_up = next((f for f in findings if isinstance(f, KernelGaveUp)), None)
        if gave_up is not None and gave_up.cpu is not None:
            return gave_up.cpu
        return next((view.index for view in views if view.arrived is False), None)
    if status is Status.PANIC:
        speakers = [f.cpu for f in findings if isinstance(f, (ExceptionReported, PanicMessage))]
        return next((cpu for cpu in speakers if cpu is not None), None)
    if status is Status.HANG:
        astray = [
            f.cpu
            for f in findings
            if isinstance(f, (ExecutingFiller, OutsideMemory, StringRunsAway))
        ]
        if astray and astray[0] is not None:
            return astray[0]
        kinds = (LineHeld, HaltedForever, Spinning, NoInterruptComes, RetriedInRealMode)
        stuck = [f.cpu for f in findings if isinstance(f, kinds)]
        return stuck[0] if stuck else None
    return None
