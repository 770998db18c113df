# SPDX-License-Identifier: BSD-2-Clause
"""What a second look at CPUs in loops has to look at, to tell whether they wait in vain."""

from __future__ import annotations

from typing import Optional

from debug.evidence import Awaited, Cpu
from debug.explain.context import Machine
from debug.explain.findings import Spinning, WaitsFor
from debug.explain.model import Explanation, Status
from debug.explain.waiting import loop_body, whole_register
from debug.x86.instruction import Instruction, Kind, RegisterOperand

_CALLER_SAVED = frozenset("rax rcx rdx rbx rsi rdi r8 r9 r10 r11".split())
_SIMPLE = frozenset(
    "mov movabs movzx movsx movsxd lea add sub and or xor not neg shl shr sar inc dec cmp test bt bts btr"
    " xchg xadd pause nop".split()
)
_IMPLIED = {"rdtsc": ("rax", "rdx"), "rdtscp": ("rax", "rdx", "rcx"), "in": ("rax",)}


def _writes(one: Instruction) -> frozenset[str]:
    """The registers that an instruction may write."""
    jump = one.kind in (Kind.NEAR_JUMP, Kind.CONDITIONAL_JUMP)
    if one.mnemonic in _IMPLIED:
        return frozenset(_IMPLIED[one.mnemonic])
    named = (o.name for o in one.operands if isinstance(o, RegisterOperand) and o.written)
    found = frozenset(whole_register(name) for name in named)
    return found if jump or one.mnemonic in _SIMPLE else found | _CALLER_SAVED


def _left_when(
    machine: Machine, cpu: Cpu, body: tuple[Instruction, ...], address: Optional[int], size: int
) -> Awaited:
    """How a later moment tells whether the CPU waits in vain."""
    walk = machine.linear(cpu.registers).walk(address) if address is not None else None
    physical = walk.physical if walk is not None else None
    written: set[str] = set()
    for one in body:
        written.update(_writes(one))
    general = cpu.registers.general.items()
    kept = tuple((name, value) for name, value in general if name not in written)
    loop = range(body[0].address, body[-1].next)
    return Awaited(cpu.index, loop, kept, physical, size if physical is not None else 0)


def awaited(machine: Machine, explanation: Explanation) -> tuple[Awaited, ...]:
    """What the CPUs wait for of a machine that does not seem to be well."""
    if explanation.status not in (Status.HANG, Status.MISSING_CPU, Status.UNKNOWN):
        return ()
    waits = {wait.cpu: wait for wait in explanation.all(WaitsFor)}
    found = []
    for loop in explanation.all(Spinning):
        cpu, wait = machine.cpu(loop.cpu), waits.get(loop.cpu)
        body = loop_body(machine, cpu.registers) if cpu is not None else ()
        if cpu is not None and body:
            address, size = (wait.address, wait.size) if wait is not None else (None, 0)
            found.append(_left_when(machine, cpu, body, address, size))
    return tuple(found)
