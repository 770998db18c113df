# SPDX-License-Identifier: BSD-2-Clause
"""Locks that are not given back, sleepers that are not woken: the kernel's own checks say so."""

from __future__ import annotations

from dataclasses import replace
from typing import Optional

from debug.evidence import Evidence
from debug.explain.findings import LockReport, LockTrouble, WaitsFor
from debug.explain.findings.handlers import InHandler
from debug.explain.findings.waits import CpuLacks
from debug.explain.model import ABSENT, CpuState, Explanation, Status
from debug.failures import chapters
from debug.failures.row import Match, Matcher, Place, Row, certain, likely, possible

_LESS_EXACT = ("kernel-panic", "cpus-wait-for-each-other", "barrier-never-opens", "endless-loop")


def _reported(trouble: LockTrouble) -> Matcher:
    """A matcher: the guest reports this; it ended with that, or went on after a warning."""

    def match(evidence: Evidence, explanation: Explanation) -> Optional[Match]:
        for report in explanation.all(LockReport):
            if report.trouble is trouble and explanation.status is not Status.HEALTHY:
                return (certain if explanation.status is Status.PANIC else likely)(report)
        return None

    return match


def _lock_waits(explanation: Explanation) -> tuple[WaitsFor, ...]:
    """CPUs that wait for locks, in a machine in which nobody but them executes anything."""
    waits = tuple(f for f in explanation.all(WaitsFor) if f.held)
    waiting = {wait.cpu for wait in waits}
    still = (CpuState.IDLE, *ABSENT)
    others = (view for view in explanation.cpus if view.index not in waiting)
    if explanation.status is not Status.HANG or not all(view.state in still for view in others):
        return ()
    return waits


_NOBODY = (
    "no other CPU executes anything: each lock is held by a CPU that waits, or by nobody any more"
)


def _circle(evidence: Evidence, explanation: Explanation) -> Optional[Match]:
    """Two CPUs wait for two locks, and there is nobody else who could hold one."""
    told = _reported(LockTrouble.CIRCLE)(evidence, explanation)
    waits = _lock_waits(explanation)
    if told is not None or len({wait.address for wait in waits}) < 2:
        return told
    return likely(*waits[:3], extra=(_NOBODY,))


def _twice(evidence: Evidence, explanation: Explanation) -> Optional[Match]:
    """A handler waits for a lock, and nobody can hold it but what it interrupted."""
    told = _reported(LockTrouble.TWICE)(evidence, explanation)
    waits = _lock_waits(explanation)
    if told is not None or len({wait.address for wait in waits}) != 1:
        return told
    for wait in waits:
        handler = explanation.first(InHandler, wait.cpu)
        if handler is not None:
            return likely(wait, handler, extra=(_HOLDER,))
    return None


def _barrier(evidence: Evidence, explanation: Explanation) -> Optional[Match]:
    told = _reported(LockTrouble.BARRIER)(evidence, explanation)
    lacks = explanation.first(CpuLacks)
    if told is not None or lacks is None or explanation.status is not Status.HANG:
        return told
    return replace(possible(lacks), order=-1) if lacks.works else likely(lacks)


_HOLDER = "no other CPU executes anything: what was interrupted there holds the lock, as it seems"


ROWS = (
    Row(
        "deadlock",
        "CPUs or threads wait in a circle: each holds what another one waits for",
        Place.RUNNING,
        ("deadlock", "two locks in opposite orders", "circular locking dependency"),
        "following who holds what each waits for leads back to where one began",
        "one on the way waits for nobody: it can go on and give back what it holds",
        "take locks in one order everywhere; where that can't be, take the second with a try and"
        " give the first back if it fails",
        "PAUSE-Spin Loop Hint",
        chapters.WORKING,
        ("AP4-08",),
        _circle,
        ("spinlocks-in-two-orders", "mutexes-in-two-orders"),
        over=(*_LESS_EXACT, "lock-not-released"),
    ),
    Row(
        "lock-taken-twice",
        "a CPU or thread takes a lock that it holds already, and waits for itself",
        Place.RUNNING,
        ("recursive locking", "spinlock recursion", "deadlock on one CPU"),
        "the holder of the lock is the one that waits for it",
        "another one holds it",
        "split the function: an outer one that takes the lock, and an inner one for callers that"
        " hold it; with interrupts off where a handler takes it too",
        "PAUSE-Spin Loop Hint",
        chapters.WORKING,
        ("AP4-08",),
        _twice,
        ("spinlock-taken-twice",),
        over=(*_LESS_EXACT, "lock-not-released", "cpu-there-not-seen", "waits-with-interrupts-off"),
    ),
    Row(
        "lock-not-given-back",
        "the holder of a lock does not give it back",
        Place.RUNNING,
        ("spinlock lockup", "lock never released"),
        "one CPU holds the lock for longer than any work takes, and others wait",
        "the lock changes its holder",
        "release the lock on every path out of the function; look at what its holder does now",
        "PAUSE-Spin Loop Hint",
        chapters.TOGETHER,
        ("AP4-08",),
        _reported(LockTrouble.KEPT),
        over=_LESS_EXACT,
    ),
    Row(
        "lost-wake-up",
        "a thread went to sleep after the wake-up that it waits for",
        Place.RUNNING,
        ("lost wakeup", "thread never wakes up", "all threads asleep"),
        "a thread waits for what is there, and nobody is left who would wake it",
        "somebody who runs will wake it",
        "hold one lock from the look at the condition until the thread is in the queue, and take it"
        " to change the condition; on a CPU that halts: cli, look, sti; hlt",
        "HLT-Halt",
        chapters.WORKING,
        ("IRQ-07",),
        _reported(LockTrouble.WAKE_UP_LOST),
        ("wake-up-lost",),
        over=_LESS_EXACT,
    ),
    Row(
        "barrier-lacks-a-cpu",
        "a barrier waits for a CPU that does not come",
        Place.RUNNING,
        ("barrier never opens", "CPUs are missing at the barrier"),
        "the barrier names who has arrived, and fewer than it counts",
        "all that it counts have arrived",
        "count those that come, each once; look at what the missing ones do",
        "PAUSE-Spin Loop Hint",
        chapters.TOGETHER,
        ("AP4-09",),
        _barrier,
        over=(*_LESS_EXACT, "flag-never-set", "waits-in-a-circle"),
    ),
)
