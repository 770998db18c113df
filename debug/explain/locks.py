# SPDX-License-Identifier: BSD-2-Clause
"""Reports of deadlocks and lost wake-ups that the guest printed itself."""

from __future__ import annotations

import re

from debug.explain.context import Machine
from debug.explain.findings import LockReport, LockTrouble
from debug.explain.model import Finding
from debug.explain.panic import clean

_TAIL = 16384  # characters of the console that are searched
_DETAILS = 8  # lines

# This kernel's words, and Linux's.
_REPORTS = tuple(
    (trouble, re.compile(pattern, re.MULTILINE))
    for trouble, pattern in (
        (
            LockTrouble.TWICE,
            r"^.*(?:deadlock: (?:CPU|thread) \d.{0,120} takes .{0,160} holds it|"
            r"BUG: spinlock recursion on CPU|possible recursive locking detected).*$",
        ),
        (
            LockTrouble.CIRCLE,
            r"^.*(?:deadlock: (?:each CPU above holds|threads wait for each other)|"
            r"possible circular locking dependency detected).*$",
        ),
        (
            LockTrouble.KEPT,
            r"^.*(?:a lock is not given back|BUG: spinlock lockup suspected on CPU).*$",
        ),
        (LockTrouble.WAKE_UP_LOST, r"^.*lost wake-?up: .*$"),
        (LockTrouble.BARRIER, r"^.*panic: a barrier does not open.*$"),
    )
)
_DETAIL = re.compile(
    r"^ {4}((?:CPU|thread) \d+ (?:\"[^\"\n]{0,40}\" )?(?:waits|is missing)[^\n]{0,200}|"
    r"lock \"[^\"\n]{0,40}\" [^\n]{0,200})$",
    re.MULTILINE,
)
_ADDRESS = re.compile(r"\b0x[0-9a-f]{8,16}\b")


def said(machine: Machine) -> tuple[Finding, ...]:
    """What the console says about locks and sleepers; at most one of each trouble."""
    tail = machine.evidence.console[-_TAIL:]
    found = []
    for trouble, pattern in _REPORTS:
        if (match := pattern.search(tail)) is not None:
            lines = [m.group(1) for m in _DETAIL.finditer(tail, 0, match.start())][-_DETAILS:]
            details = tuple(_with_symbols(machine, clean(line)) for line in lines)
            found.append(
                LockReport(None, trouble, _with_symbols(machine, clean(match.group(0))), details)
            )
    return tuple(found)


def _with_symbols(machine: Machine, line: str) -> str:
    """Each address followed by its place; one behind `at` or `since` was returned to."""

    def named(match: re.Match[str]) -> str:
        address = int(match.group(0), 16)
        returned = line[: match.start()].endswith(("at ", "since "))
        symbol = machine.symbol(address - 1 if returned else address)
        if symbol is None:
            return match.group(0)
        return str(symbol) if returned else symbol.name

    return _ADDRESS.sub(named, line)
