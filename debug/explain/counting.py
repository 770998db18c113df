# SPDX-License-Identifier: BSD-2-Clause
"""A CPU that waits until enough others have counted themselves, where there are no more to come."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Iterator, Optional

from debug.evidence import Cpu, Registers
from debug.explain.context import Machine
from debug.explain.findings import ExecutingFiller, OutsideMemory, WaitsFor
from debug.explain.findings.waits import AllCounted, CpuLacks
from debug.explain.model import ABSENT, CpuState, CpuView, Finding
from debug.explain.waiting import loop_body, whole_register
from debug.explain.writers import Writer, writers
from debug.x86.accesses import linear_address
from debug.x86.decode import MAX_LENGTH, decode_many
from debug.x86.instruction import (
    ImmediateOperand,
    Instruction,
    Kind,
    MemoryOperand,
    Operand,
    RegisterOperand,
)
from debug.x86.modes import code_width

_UP = (CpuState.HALTED, CpuState.IDLE, CpuState.PARKED, CpuState.SPINNING, CpuState.RUNNING)
_COUNTS = ("inc", "add", "xadd")
_LOAD_AND_ADD, _FEW = 24, 8  # bytes before a store that load and count; instructions
_NEAR = 512  # bytes behind the instruction that counts, in code without names
_MANY = 4096  # no kernel waits for so many CPUs


@dataclass(frozen=True)
class _Side:
    """One side of a comparison: what it is now, and where in memory it comes from."""

    value: int
    address: Optional[int] = None
    size: int = 0


def findings(
    machine: Machine, views: tuple[CpuView, ...], found: tuple[Finding, ...]
) -> tuple[AllCounted, ...]:
    """For a BSP that spins: that every AP has counted itself, and their number is not enough.

    found: what is known of the CPUs by now: one that went astray, or that waits for a lock, may
    still have to count itself.
    """
    bsp = machine.bsp
    others = tuple(view for view in views if view.index != machine.bsp_index)
    spins = any(v.index == machine.bsp_index and v.state is CpuState.SPINNING for v in views)
    if bsp is None or not spins or not others or not all(_is_up(view) for view in others):
        return ()
    held = (f for f in found if f.cpu != bsp.index)
    if any(isinstance(f, _LOST) or isinstance(f, WaitsFor) and f.lock for f in held):
        return ()
    one = _counter(machine, bsp)
    if one is None:
        return ()
    count, wanted, counters, where = one
    if count.value not in (len(others), len(views)) or not count.value < wanted < _MANY:
        return ()
    if any(_before(machine, view, counters) for view in others):
        return ()
    named = machine.symbol(count.address)
    counted = f"{machine.where(counters[0].address)}: {counters[0].text}"
    behind = all(_behind(machine, view, counters) for view in others)
    return (
        AllCounted(
            bsp.index,
            count.address or 0,
            str(named) if named is not None else "",
            machine.where(where),
            count.value,
            wanted,
            counted,
            tuple(view.index for view in others),
            behind,
        ),
    )


_LOST = (ExecutingFiller, OutsideMemory)


def lacking(
    machine: Machine, views: tuple[CpuView, ...], found: tuple[Finding, ...]
) -> tuple[CpuLacks, ...]:
    """Barriers: CPUs that have counted themselves and wait in one loop for those that have not."""
    waits = [f for f in found if isinstance(f, WaitsFor) and not f.lock]
    result = []
    for address in dict.fromkeys(wait.address for wait in waits):
        inside = tuple(
            wait.cpu for wait in waits if wait.address == address and wait.cpu is not None
        )
        cpu = machine.cpu(inside[0]) if len(inside) > 1 else None
        one = _counter(machine, cpu) if cpu is not None else None
        outside = [view for view in views if view.index not in inside]
        absent = [view for view in outside if view.state not in ABSENT] or outside
        if one is None or not absent:
            continue
        count, wanted, counters, _ = one
        if count.address != address or not count.value < wanted < _MANY:
            continue
        if count.value != len(inside):
            continue
        wait = next(wait for wait in waits if wait.address == address)
        counted = f"{machine.where(counters[0].address)}: {counters[0].text}"
        gone = tuple((view.index, view.doing) for view in absent)
        works = any(view.state is CpuState.RUNNING for view in absent)
        result.append(
            CpuLacks(
                *(absent[0].index, address, wait.name, wait.where, count.value, wanted),
                *(counted, inside, gone, works),
            )
        )
    return tuple(result)


def _is_up(view: CpuView) -> bool:
    return view.state in _UP and view.arrived is not False and view.mode != "real mode"


def _counter(
    machine: Machine, cpu: Cpu
) -> Optional[tuple[_Side, int, tuple[Writer, ...], Optional[int]]]:
    """(the counter, what it is compared with, what counts it up, where) of the CPU's loop."""
    registers = cpu.registers
    body = loop_body(machine, registers)
    for at in reversed(range(len(body))):
        if body[at].kind is not Kind.CONDITIONAL_JUMP:
            continue
        test = next((one for one in reversed(body[:at]) if one.mnemonic == "cmp"), None)
        if test is None or len(test.operands) < 2:
            continue
        sides = [_side(machine, registers, body, test, o) for o in test.operands[:2]]
        more = _more(body, body[at])
        for (count, other), beyond in ((sides, more[0]), (sides[::-1], more[1])):
            if count is None or other is None or count.address is None:
                continue
            near = writers(machine, registers, count.address, count.size)
            outside = [w for w in near if not body[0].address <= w.address <= body[-1].address]
            named = [w for w in outside if not w.beside]
            if named and all(_counts(machine, registers, w) for w in named):
                mask = (1 << 8 * count.size) - 1
                return count, (other.value & mask) + beyond, tuple(named), machine.pc(registers)
    return None


def _more(body: tuple[Instruction, ...], jump: Instruction) -> tuple[int, int]:
    """1 where the loop ends only above what the count is compared with, as the first operand of the
    comparison and as the second."""
    back = jump.target is not None and body[0].address <= jump.target <= jump.address
    first, second = (("jbe", "jle"), ("jae", "jge")) if back else (("ja", "jg"), ("jb", "jl"))
    return int(jump.mnemonic in first), int(jump.mnemonic in second)


def _side(
    machine: Machine,
    registers: Registers,
    body: tuple[Instruction, ...],
    test: Instruction,
    operand: Operand,
) -> Optional[_Side]:
    if isinstance(operand, ImmediateOperand):
        return _Side(operand.value)
    if isinstance(operand, MemoryOperand):
        return _word(machine, registers, test, operand)
    if not isinstance(operand, RegisterOperand):
        return None
    name = whole_register(operand.name)
    for one in reversed(body[: body.index(test)]):
        to = one.operands[0] if one.operands else None
        if isinstance(to, RegisterOperand) and to.written and whole_register(to.name) == name:
            if one.mnemonic == "mov" and isinstance(one.memory, MemoryOperand):
                return _word(machine, registers, one, one.memory)
            return None
    value = registers.get(name)
    return None if value is None else _Side(value)


def _word(
    machine: Machine, registers: Registers, one: Instruction, operand: MemoryOperand
) -> Optional[_Side]:
    """A word at an address that the instruction names."""
    if not operand.named or operand.address_only:
        return None
    address = linear_address(one, registers, operand)
    if address is None or not 0 < operand.size <= 8:
        return None
    data = machine.linear(registers).read(address, operand.size)
    return None if data is None else _Side(int.from_bytes(data, "little"), address, operand.size)


def _counts(machine: Machine, registers: Registers, writer: Writer) -> bool:
    words = writer.text.split()
    if next((word for word in words if word != "lock"), "") in _COUNTS:
        return True
    return any(_adds(body) for body in _endings(machine, registers, writer))


def _endings(
    machine: Machine, registers: Registers, writer: Writer
) -> Iterator[tuple[Instruction, ...]]:
    """What may stand before an instruction that writes, with it: code can't be read backwards."""
    width, memory = code_width(registers) or 64, machine.linear(registers)
    for back in range(_LOAD_AND_ADD, 1, -1):
        data = memory.read(writer.address - back, back + MAX_LENGTH) or b""
        body = decode_many(data, writer.address - back, width, _FEW)
        ends = [at for at, one in enumerate(body) if one.address == writer.address]
        if ends:
            yield tuple(body[: ends[0] + 1])


def _adds(body: tuple[Instruction, ...]) -> bool:
    """Whether one is added to a word between its load and its store, under a lock or without one."""
    store = body[-1]
    source = store.operands[-1] if store.operands else None
    to = store.memory
    if store.mnemonic != "mov" or to is None or not isinstance(source, RegisterOperand):
        return False
    name = whole_register(source.name)
    mine = [one for one in body[:-1] if one.operands and _sets(one, name)]
    if len(mine) < 2 or mine[-1].mnemonic not in ("inc", "add", "lea"):
        return False
    load = mine[-2]
    where = load.memory
    if load.mnemonic != "mov" or where is None or not (where.named and to.named):
        return False
    return _place(load, where) == _place(store, to)


def _sets(one: Instruction, name: str) -> bool:
    first = one.operands[0]
    return (
        isinstance(first, RegisterOperand) and first.written and whole_register(first.name) == name
    )


def _place(one: Instruction, operand: MemoryOperand) -> int:
    return operand.displacement + (one.next if operand.base in ("rip", "eip") else 0)


def _behind(machine: Machine, view: CpuView, counters: tuple[Writer, ...]) -> bool:
    """Whether a CPU stands behind an instruction that counts, in the same function."""
    return any(_same(machine, view, w) and (view.rip or 0) > w.address for w in counters)


def _before(machine: Machine, view: CpuView, counters: tuple[Writer, ...]) -> bool:
    """Whether a CPU stands before an instruction that counts, in the same function."""
    return any(_same(machine, view, w) and (view.rip or 0) <= w.address for w in counters)


def _same(machine: Machine, view: CpuView, writer: Writer) -> bool:
    here, there = machine.symbol(view.rip), machine.symbol(writer.address)
    if here is not None and there is not None:
        return here.name == there.name
    return here is None and abs((view.rip or 0) - writer.address) < _NEAR
