# SPDX-License-Identifier: BSD-2-Clause
"""Real mode's exceptions: a BIOS handler that is nothing but IRET returns to what raised it.

Each gate of a PC's vector table that nobody has claimed leads to such a handler.
[SDM 1 "Interrupt and Exception Handling in Real-Address Mode"]
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Optional

from debug.evidence import Cpu, Ending, Registers, Segment
from debug.explain import fault
from debug.explain.code import instruction_at
from debug.explain.context import Machine
from debug.explain.findings.handlers import RetriedInRealMode
from debug.x86.decode import MAX_LENGTH, decode
from debug.x86.delivery import deliver
from debug.x86.instruction import Kind
from debug.x86.modes import Mode, linear_pc, mode_of

_LIMIT, _CODE = 0xFFFF, 0x9B00
_FRAME = 6  # bytes: IP, CS, FLAGS


@dataclass(frozen=True)
class Retry:
    """An exception whose handler returns to what raised it: the registers there, and the handler."""

    then: Registers
    vector: int
    handler: int


def findings(machine: Machine) -> tuple[RetriedInRealMode, ...]:
    """Of each CPU in real mode of a machine that was stopped: the exception it can't get past."""
    if machine.evidence.ending is not Ending.STOPPED or not machine.has_memory:
        return ()
    return tuple(
        _finding(machine, cpu, retry)
        for cpu in machine.cpus
        if (retry := retried(machine, cpu)) is not None
    )


def retried(machine: Machine, cpu: Cpu) -> Optional[Retry]:
    """The exception that a CPU in real mode can't get past, if there is one."""
    if cpu.halted or mode_of(cpu.registers) is not Mode.REAL:
        return None
    here = instruction_at(machine, cpu.registers)
    if here is None:
        return None
    inside = here.kind is Kind.IRET
    then = _behind_return(machine, cpu.registers) if inside else cpu.registers
    refusal = fault.predict(machine, then) if then is not None else None
    if then is None or refusal is None:
        return None
    handler = deliver(machine.linear(then), refusal.vector).handler
    code = machine.physical(handler, MAX_LENGTH) if handler is not None else None
    first = decode(code, 0, 16) if code is not None else None
    if handler is None or first is None or first.kind is not Kind.IRET:
        return None
    if inside and handler != machine.pc(cpu.registers):
        return None
    return Retry(then, refusal.vector, handler)


def _finding(machine: Machine, cpu: Cpu, retry: Retry) -> RetriedInRealMode:
    at = machine.pc(retry.then) or 0
    return RetriedInRealMode(cpu.index, retry.vector, at, machine.where(at), retry.handler)


def _behind_return(machine: Machine, registers: Registers) -> Optional[Registers]:
    """The registers after a 16-bit IRET."""
    stack, rsp = registers.segments.get("ss"), registers.get("rsp")
    if stack is None or rsp is None:
        return None
    data = machine.physical(stack.base + (rsp & _LIMIT), _FRAME)
    if data is None:
        return None
    ip, cs, flags = (int.from_bytes(data[at : at + 2], "little") for at in (0, 2, 4))
    then = replace(
        registers,
        rip=ip,
        rflags=flags,
        general={**registers.general, "rsp": rsp & ~_LIMIT | rsp + _FRAME & _LIMIT},
        segments={**registers.segments, "cs": Segment(cs, cs << 4, _LIMIT, _CODE)},
    )
    return then if linear_pc(then) is not None else None
