# SPDX-License-Identifier: BSD-2-Clause
"""A CPU that waits for a word which another CPU sees in another page: their tables differ.

[SDM 3A "Paging"]
"""

from __future__ import annotations

from typing import Optional

from debug.evidence import Cpu
from debug.explain.context import Machine
from debug.explain.findings import WaitsFor
from debug.explain.findings.waits import OtherPage
from debug.explain.model import CpuState, CpuView, Finding

_AT_WORK = (CpuState.IDLE, CpuState.RUNNING, CpuState.SPINNING, CpuState.HALTED)


def findings(
    machine: Machine, views: tuple[CpuView, ...], found: tuple[Finding, ...]
) -> tuple[OtherPage, ...]:
    """For each wait of a kernel's: a CPU whose tables lead to another page, with another value."""
    result = []
    for wait in found:
        cpu = machine.cpu(wait.cpu) if isinstance(wait, WaitsFor) else None
        if not isinstance(wait, WaitsFor) or cpu is None or cpu.registers.cpl not in (0, None):
            continue
        for view in views:
            other = machine.cpu(view.index)
            if other is None or view.state not in _AT_WORK or other.index == cpu.index:
                continue
            one = _compared(machine, wait, cpu, other)
            if one is not None:
                result.append(one)
                break
    return tuple(result)


def _compared(machine: Machine, wait: WaitsFor, cpu: Cpu, other: Cpu) -> Optional[OtherPage]:
    if other.registers.cpl not in (0, None) or other.registers.get("cr3") == cpu.registers.get(
        "cr3"
    ):
        return None
    mine = machine.identity(cpu.registers, wait.address)
    theirs = machine.identity(other.registers, wait.address)
    if mine[0] is not None or theirs[0] is not None or mine == theirs:
        return None  # not mapped in one of them, or the same word
    data = machine.linear(other.registers).read(wait.address, wait.size)
    value = int.from_bytes(data, "little") if data is not None else wait.value
    if value == wait.value:
        return None
    return OtherPage(
        *(cpu.index, wait.address, wait.name, mine[1], wait.value),
        *(other.index, theirs[1], value),
    )
