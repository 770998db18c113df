# SPDX-License-Identifier: BSD-2-Clause
"""A kernel in real mode that rests in HLT, and is met in the BIOS's handler of an interrupt.

It has the BIOS count its timer's ticks.  Under Bochs, where the time that a CPU rests takes none,
such a machine is hardly ever met anywhere else.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Optional

from debug.evidence import Cpu, Ending, Evidence, Registers, Segment
from debug.explain.context import LOW_MEMORY, Machine
from debug.explain.firmware import in_rom
from debug.x86.modes import Mode, mode_of
from debug.x86.registers import Rflags

_DEPTH = 256  # bytes of stack that a BIOS's handler, and one that it calls, have in use
_WORD, _FRAME = 2, 6  # bytes: a word; IP, CS and FLAGS
_LIMIT, _CODE = 0xFFFF, 0x9B00
_ALWAYS_1, _ALWAYS_0 = 1 << 1, 1 << 3 | 1 << 5 | 1 << 15
_HLT = b"\xf4"


def seen_through(evidence: Evidence) -> Evidence:
    """The evidence with each such CPU where it rests."""
    if evidence.ending not in (Ending.STOPPED, Ending.UNTIL):
        return evidence
    machine = Machine(evidence)
    cpus = tuple(_resting(machine, cpu) or cpu for cpu in evidence.cpus)
    return replace(evidence, cpus=cpus) if cpus != evidence.cpus else evidence


def _resting(machine: Machine, cpu: Cpu) -> Optional[Cpu]:
    registers = cpu.registers
    if cpu.halted or mode_of(registers) is not Mode.REAL or not in_rom(machine.pc(registers)):
        return None
    rested = _interrupted(machine, registers)
    return replace(cpu, registers=rested, halted=True) if rested is not None else None


def _interrupted(machine: Machine, registers: Registers) -> Optional[Registers]:
    """The registers behind the HLT in RAM that the innermost handler will return to."""
    stack, rsp = registers.segments.get("ss"), registers.get("rsp")
    if stack is None or rsp is None:
        return None
    data = machine.physical(stack.base + (rsp & _LIMIT), _DEPTH) or b""
    for at in range(0, len(data) - _FRAME, _WORD):
        ip, cs, flags = (
            int.from_bytes(data[place : place + _WORD], "little")
            for place in range(at, at + _FRAME, _WORD)
        )
        if not flags & _ALWAYS_1 or flags & _ALWAYS_0 or not flags & Rflags.IF:
            continue
        behind = (cs << 4) + ip
        if behind >= LOW_MEMORY or not ip or machine.physical(behind - 1, 1) != _HLT:
            continue
        sp = rsp & ~_LIMIT | rsp + at + _FRAME & _LIMIT
        return replace(
            registers,
            rip=ip,
            rflags=flags,
            general={**registers.general, "rsp": sp},
            segments={**registers.segments, "cs": Segment(cs, cs << 4, _LIMIT, _CODE)},
        )
    return None
