# SPDX-License-Identifier: BSD-2-Clause
"""A stack that is full of one return address, at equal distances: calls that never return.

Such a stack ends in whatever lies below it: a guard page, the page tables, the vectors at 0, and
without paging beyond them at the top of the address space, where pushes are lost.
"""

from __future__ import annotations

from typing import Iterator, Optional

from debug.evidence import Registers
from debug.explain.code import ending_at
from debug.explain.context import PAGE, Machine
from debug.explain.findings.handlers import EndlessCalls
from debug.explain.firmware import in_rom
from debug.explain.model import CpuState, CpuView, Step
from debug.x86.instruction import Instruction, Kind
from debug.x86.linear import MAX_READ
from debug.x86.modes import PagingMode, code_width, paging_mode_of
from debug.x86.paging import WRITE

_ENOUGH = 32  # frames: fewer may be a search of a tree
_LARGEST = 64  # words of a frame
_CALLS = (5, 2, 3, 6, 4, 7)  # lengths of a near call
_GUARD = 16  # pages that a frame may skip
_AWAKE = (CpuState.RUNNING, CpuState.SPINNING, CpuState.HALTED, CpuState.SHUT_DOWN)
_LOOK = 64 * PAGE  # bytes of stack


def findings(
    machine: Machine, views: tuple[CpuView, ...], steps: tuple[Step, ...]
) -> tuple[EndlessCalls, ...]:
    """Of the CPU that the chain is about, else of each that is awake: what fills its stack."""
    first = next((step for step in steps if step.registers is not None), None)
    if first is not None and first.registers is not None:
        found = [of_stack(machine, first.cpu, first.registers)]
    else:
        awake = [machine.cpu(view.index) for view in views if view.state in _AWAKE]
        found = [of_stack(machine, cpu.index, cpu.registers) for cpu in awake if cpu is not None]
    known = tuple(one for one in found if one is not None)
    through = _through_zero(machine) if not known else None
    return (through,) if through is not None else known


def of_stack(machine: Machine, cpu: Optional[int], registers: Registers) -> Optional[EndlessCalls]:
    """The call that fills the stack of a CPU with these registers, to its end; None if none does."""
    width = code_width(registers)
    if width not in (32, 64) or not machine.has_memory or not _at_end(machine, registers):
        return None
    for data in _stacks(machine, registers):
        if (found := _in_words(machine, cpu, registers, data, width)) is not None:
            return found
    return None


def _through_zero(machine: Machine) -> Optional[EndlessCalls]:
    """A stack without paging that came down over the vectors at 0: what the CPU did since, and in
    which mode, is a consequence."""
    bsp = machine.bsp
    if bsp is None or paging_mode_of(bsp.registers) is not PagingMode.NONE:
        return None
    data = machine.physical(0, PAGE) or b""
    return _in_words(machine, bsp.index, bsp.registers, data, 32)


def _in_words(
    machine: Machine, cpu: Optional[int], registers: Registers, data: bytes, width: int
) -> Optional[EndlessCalls]:
    size = width // 8
    words = [int.from_bytes(data[i : i + size], "little") for i in range(0, len(data) - 7, size)]
    for word, distance, times in _repeated(words):
        call = _call(machine, registers, word, width)
        if call is not None:
            where = machine.where(call.address)
            return EndlessCalls(cpu, call.address, where, call.text, times, distance * size)
    return None


def _at_end(machine: Machine, registers: Registers) -> bool:
    """Whether what lies right below the stack pointer is no memory that a push can go to."""
    rsp = registers.get("rsp")
    if rsp is None:
        return False
    if paging_mode_of(registers) is PagingMode.NONE:
        return in_rom(rsp) or machine.physical(rsp & -PAGE, PAGE) is None
    walks = (machine.linear(registers).walk(rsp - below, WRITE) for below in (0, 8, PAGE))
    return any(walk is not None and walk.fault is not None for walk in walks)


def _stacks(machine: Machine, registers: Registers) -> Iterator[bytes]:
    """What may be the stack's memory, from its lowest address up."""
    memory, rsp = machine.linear(registers), registers.get("rsp")
    if rsp is None:
        return
    page = rsp & -PAGE
    for start in (rsp, *(page + n * PAGE for n in range(1, _GUARD))):
        if data := memory.some(start, PAGE):
            more = memory.read(start, _LOOK)
            yield more or data
            break
    walk = memory.walk(rsp)
    if walk is not None and walk.fault is not None and walk.entries:
        entry = walk.entries[-1].address & -16
        yield machine.physical(entry, PAGE - entry % PAGE) or b""


def _repeated(words: list[int]) -> Iterator[tuple[int, int, int]]:
    """(word, distance in words, times) of what recurs at equal distances from near the start."""
    seen: set[int] = set()
    for first, word in enumerate(words[:_LARGEST]):
        if word < PAGE // 8 or word in seen:
            continue
        seen.add(word)
        near = words[first + 1 : first + 1 + _LARGEST]
        if word not in near:
            continue
        distance = near.index(word) + 1
        times = 1
        while first + times * distance < len(words) and words[first + times * distance] == word:
            times += 1
        if times >= _ENOUGH:
            yield word, distance, times


def _call(machine: Machine, registers: Registers, back: int, width: int) -> Optional[Instruction]:
    """The call that pushed `back`, read through the page tables or, where they are gone, as it is."""
    found = ending_at(machine.linear(registers).read, back, width, Kind.NEAR_CALL, _CALLS)
    if found is not None or back > MAX_READ << 12:
        return found
    return ending_at(machine.physical, back, width, Kind.NEAR_CALL, _CALLS)
