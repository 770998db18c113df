# SPDX-License-Identifier: BSD-2-Clause
"""#DE explained: a divisor of 0, or a quotient that is too large [SDM 2 "DIV-Unsigned Divide"]."""

from __future__ import annotations

from typing import Optional

from debug.evidence import Registers
from debug.explain.context import Machine
from debug.explain.findings import DivideError
from debug.x86.accesses import linear_address
from debug.x86.instruction import Instruction, MemoryOperand, RegisterOperand
from debug.x86.registers import register_value

_HALVES = {2: ("dx", "ax"), 4: ("edx", "eax"), 8: ("rdx", "rax")}  # of the dividend


def divide_error(
    machine: Machine, cpu: Optional[int], registers: Registers, instruction: Optional[Instruction]
) -> Optional[DivideError]:
    """What DIV or IDIV at RIP was given; None where that is unknown, or no reason for #DE."""
    if instruction is None or instruction.mnemonic not in ("div", "idiv"):
        return None
    if not instruction.operands:
        return None
    operand = instruction.operands[0]
    if not isinstance(operand, (RegisterOperand, MemoryOperand)):
        return None
    size, signed = operand.size, instruction.mnemonic == "idiv"
    divisor = _value(machine, registers, instruction, operand)
    if divisor is None:
        return None
    if divisor == 0:
        sentence = f"{instruction.text}: the divisor is 0"
        return DivideError(cpu, sentence, True)
    dividend = _dividend(registers, size)
    if dividend is None:
        return None
    bits = 8 * size
    if signed:
        dividend, divisor = _signed(dividend, 2 * bits), _signed(divisor, bits)
    quotient = abs(dividend) // abs(divisor)
    if (dividend < 0) != (divisor < 0):
        quotient = -quotient
    lowest, beyond = (-(1 << bits - 1), 1 << bits - 1) if signed else (0, 1 << bits)
    if lowest <= quotient < beyond:
        return None
    high = _HALVES.get(size, ("ah", "al"))[0].upper()
    sentence = (
        f"{instruction.text}: {_hex(dividend)} / {_hex(divisor)} does not fit into {bits} bits; {high}"
        f" is the upper half of what is divided: clear it first, or extend the sign into it"
    )
    return DivideError(cpu, sentence, False)


def _value(
    machine: Machine,
    registers: Registers,
    instruction: Instruction,
    operand: RegisterOperand | MemoryOperand,
) -> Optional[int]:
    if isinstance(operand, RegisterOperand):
        return register_value(registers, operand.name)
    at = linear_address(instruction, registers, operand)
    data = None if at is None else machine.linear(registers).read(at, operand.size)
    return None if data is None else int.from_bytes(data, "little")


def _dividend(registers: Registers, size: int) -> Optional[int]:
    """AX, or a pair of registers as one number."""
    if size == 1:
        return register_value(registers, "ax")
    names = _HALVES.get(size)
    if names is None:
        return None
    high, low = (register_value(registers, name) for name in names)
    return None if high is None or low is None else high << 8 * size | low


def _signed(value: int, bits: int) -> int:
    return value - (1 << bits) if value >> bits - 1 & 1 else value


def _hex(value: int) -> str:
    return f"-{-value:#x}" if value < 0 else f"{value:#x}"
