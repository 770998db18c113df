# SPDX-License-Identifier: BSD-2-Clause
"""Clocks that a loop goes by: whether what its conditional jump tests was read from one.

A wait for a clock that runs ends, however long it takes; one for a count that an interrupt keeps
does not end while none comes.  [SDM 3A "Time-Stamp Counter"]
"""

from __future__ import annotations

from typing import Optional

from debug.evidence import Registers
from debug.explain.context import Machine
from debug.explain.findings import Clock
from debug.explain.waiting import loop_body, whole_register
from debug.x86.accesses import linear_address
from debug.x86.decode import decode_many
from debug.x86.instruction import (
    ImmediateOperand,
    Instruction,
    Kind,
    MemoryOperand,
    Operand,
    RegisterOperand,
)

_TSC = ("rdtsc", "rdtscp")
_PORTS = {0x40: Clock.PIT, 0x608: Clock.ACPI, 0xB008: Clock.ACPI}
_REGISTERS = (  # physical addresses
    (range(0xFED0_00F0, 0xFED0_00F8), Clock.HPET),
    (range(0xFEE0_0390, 0xFEE0_0394), Clock.APIC),
)
_TESTS = ("cmp", "test", "sub", "sbb", "bt")
_CALLEE = (96, 24)  # bytes and instructions of a function that looks at a clock
_DEEP = 2  # calls inside calls
_RESULT = frozenset(("rax", "rdx"))


def clock_of(machine: Machine, registers: Registers) -> Optional[Clock]:
    """The clock by which the short loop that a CPU stands in ends; None if it goes by none."""
    return _tested(machine, registers, loop_body(machine, registers), _DEEP)


def _tested(
    machine: Machine, registers: Registers, body: tuple[Instruction, ...], depth: int
) -> Optional[Clock]:
    """The clock whose reading a conditional jump of these instructions goes by."""
    read: dict[str, Clock] = {}  # registers and places in memory that a reading has come to
    flags: Optional[Clock] = None
    for one in (*body, *body):  # what is read at the end may be tested at the start
        source = _source(machine, registers, one, depth)
        carried = next((read[key] for key in _keys(one, written=False) if key in read), None)
        if one.mnemonic in _TESTS:
            flags = carried
        if one.kind is Kind.CONDITIONAL_JUMP and flags is not None:
            return flags
        if source is not None:
            read |= {name: source for name in _RESULT}
            continue
        if one.kind is Kind.NEAR_CALL:
            read = {key: clock for key, clock in read.items() if key not in _RESULT}
        for key in _keys(one, written=True):
            read.pop(key, None)
            if carried is not None:
                read[key] = carried
    return None


def _keys(one: Instruction, written: bool) -> tuple[str, ...]:
    """Names of what an instruction reads or writes."""
    return tuple(
        _key(operand)
        for operand in one.operands
        if not isinstance(operand, ImmediateOperand)
        and (operand.written if written else operand.read)
    )


def _key(operand: Operand) -> str:
    if isinstance(operand, RegisterOperand):
        return whole_register(operand.name)
    if isinstance(operand, MemoryOperand):
        return f"{operand.base}+{operand.index}*{operand.scale}+{operand.displacement}"
    return ""


def _source(
    machine: Machine, registers: Registers, one: Instruction, depth: int
) -> Optional[Clock]:
    """The clock that an instruction reads, by itself or in the function that it calls."""
    if one.mnemonic in _TSC:
        return Clock.TSC
    if one.kind is Kind.PORT and one.mnemonic == "in":
        return _PORTS.get(_port(registers, one))
    if one.kind is Kind.NEAR_CALL:
        return _in_function(machine, registers, one, depth - 1) if depth > 0 else None
    operand = one.memory
    if operand is None or not operand.read or operand.address_only:
        return None
    address = linear_address(one, registers, operand)
    walk = machine.linear(registers).walk(address) if address is not None else None
    place = walk.physical if walk is not None else None
    return next((clock for span, clock in _REGISTERS if place is not None and place in span), None)


def _in_function(
    machine: Machine, registers: Registers, call: Instruction, depth: int
) -> Optional[Clock]:
    """The clock that a short function reads before it returns."""
    if call.target is None:
        return None
    size, most = _CALLEE
    data = machine.linear(registers).some(call.target, size)
    for one in decode_many(data, call.target, call.width, most):
        found = _source(machine, registers, one, depth)
        if found is not None:
            return found
        if one.kind is Kind.NEAR_RETURN:
            return None
    return None


def _port(registers: Registers, one: Instruction) -> int:
    number = next((o.value for o in one.operands if isinstance(o, ImmediateOperand)), None)
    return number & 0xFF if number is not None else (registers.get("rdx") or 0) & 0xFFFF
