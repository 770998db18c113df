# SPDX-License-Identifier: BSD-2-Clause
"""A string instruction that can never come to its end: its count is larger than what is left of the
address space, as a length is that was counted below 0.

SCAS and CMPS end at what they find, and are started with such counts on purpose.
"""

from __future__ import annotations

from typing import Iterable, Optional

from debug.evidence import Registers
from debug.explain.code import instruction_at
from debug.explain.context import Machine
from debug.explain.findings.state import StringRunsAway
from debug.explain.model import CpuState, CpuView, Step
from debug.x86.modes import Mode, mode_of
from debug.x86.registers import Rflags

_SIZES = {"b": 1, "w": 2, "d": 4, "q": 8}
_TO_RDI, _FROM_RSI = ("stos", "movs", "ins"), ("lods", "outs")
_HALF = 1 << 47  # bytes of each half of the addresses with four levels of tables


def running(machine: Machine, views: Iterable[CpuView]) -> tuple[StringRunsAway, ...]:
    """Those in the middle of which a CPU was stopped."""
    states = {view.index: view.state for view in views}
    found = (
        _runs_away(machine, cpu.index, cpu.registers)
        for cpu in machine.cpus
        if states.get(cpu.index) in (CpuState.RUNNING, CpuState.SPINNING)
    )
    return tuple(one for one in found if one is not None)


def ended(machine: Machine, steps: tuple[Step, ...]) -> tuple[StringRunsAway, ...]:
    """The one that raised the first exception of the end."""
    first = steps[0] if steps else None
    if first is None or first.registers is None:
        return ()
    found = _runs_away(machine, first.cpu, first.registers)
    return (found,) if found is not None else ()


def _runs_away(
    machine: Machine, cpu: Optional[int], registers: Registers
) -> Optional[StringRunsAway]:
    if mode_of(registers) is not Mode.LONG64 or (registers.rflags or 0) & Rflags.DF:
        return None
    one, count = instruction_at(machine, registers), registers.get("rcx")
    if one is None or count is None or not one.text.startswith("rep "):
        return None
    name = one.text.split()[1]
    size, kind = _SIZES.get(name[-1:], 0), name[:-1]
    pointer = "rdi" if kind in _TO_RDI else "rsi" if kind in _FROM_RSI else ""
    address = registers.get(pointer) if pointer and size else None
    if address is None:
        return None
    left = _HALF - address % _HALF
    if count * size <= left:
        return None
    where = machine.where(machine.pc(registers))
    return StringRunsAway(cpu, where, one.text, pointer.upper(), address, count)
