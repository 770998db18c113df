# SPDX-License-Identifier: BSD-2-Clause
"""A kernel that halts without a word where a test of CPUID leads: it wants what this CPU has not.

Only a conditional jump straight to the halt counts, and one that goes by what CPUID has just
returned.
"""

from __future__ import annotations

from typing import Iterator, Optional

from debug.evidence import Registers
from debug.explain.context import Machine
from debug.explain.findings.waits import CpuRefused
from debug.explain.model import CpuState, CpuView
from debug.x86.decode import decode_many
from debug.x86.instruction import Instruction, Kind
from debug.x86.modes import code_width
from debug.x86.patterns import occurrences

_CPUID, _MOV_EAX, _XOR_EAX = b"\x0f\xa2", 0xB8, b"\x31\xc0"
_BEFORE, _END = 512, 32  # bytes of code before the halt; of it that do nothing but halt
_NEAR = 6  # instructions from CPUID to the jump that goes by it
_HALTS = (Kind.INTERRUPT_FLAG, Kind.HALT, Kind.NEAR_JUMP, Kind.PAUSE)


def findings(machine: Machine, views: tuple[CpuView, ...]) -> tuple[CpuRefused, ...]:
    """Of each CPU that halts for good: the test of CPUID that led it there."""
    found = []
    for view in views:
        cpu = machine.cpu(view.index)
        if cpu is None or view.state is not CpuState.HALTED or machine.traced:
            continue
        for leaf, test, jump in _tests(machine, cpu.registers):
            where = machine.where(jump.address) or f"{jump.address:#x}"
            found.append(CpuRefused(cpu.index, view.where, leaf, where, test.text, jump.text))
            break
    return tuple(found)


def _tests(
    machine: Machine, registers: Registers
) -> Iterator[tuple[int, Instruction, Instruction]]:
    """(leaf of CPUID, comparison, jump to the halt), for each in the code before it."""
    rip, width = registers.rip, code_width(registers)
    if rip is None or width not in (32, 64) or rip < _BEFORE:
        return
    data = machine.linear(registers).read(rip - _BEFORE, _BEFORE) or b""
    for at in occurrences(data, _CPUID):
        leaf = _leaf(data[:at])
        code = decode_many(data[at:], rip - _BEFORE + at, width, _BEFORE)
        if leaf is None or not code or code[-1].next != rip or code[-1].kind is not Kind.HALT:
            continue
        for number, one in enumerate(code[1:_NEAR], 1):
            if one.mnemonic == "cpuid":
                break
            if one.kind is Kind.CONDITIONAL_JUMP and _halts(code, one.target):
                yield leaf, code[number - 1], one


def _leaf(before: bytes) -> Optional[int]:
    """What EAX was given right before CPUID."""
    for length in range(5, 16):
        if len(before) >= length and before[-length] == _MOV_EAX:
            return int.from_bytes(before[-length + 1 :][:4], "little")
    return 0 if _XOR_EAX in before[-4:] else None


def _halts(code: tuple[Instruction, ...], target: Optional[int]) -> bool:
    """Whether a jump leads to the last instructions, which do nothing but halt."""
    last = [one for one in code if target is not None and one.address >= target]
    if not last or last[0].address != target or last[-1].next - last[0].address > _END:
        return False
    return all(one.kind in _HALTS or one.mnemonic == "nop" for one in last)
