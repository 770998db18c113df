# SPDX-License-Identifier: BSD-2-Clause
"""Which instructions write to an address: code is searched for operands that name it.

Only addresses that stand in the instruction are found, absolute or relative to RIP; a pointer in a
register leads nowhere.  [SDM 2 "Addressing-Mode Encoding of ModR/M and SIB Bytes"]
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Iterator, Optional

from debug.evidence import Registers
from debug.explain.context import PAGE, Machine
from debug.x86.accesses import linear_address
from debug.x86.decode import MAX_LENGTH, decode
from debug.x86.instruction import Instruction, MemoryOperand
from debug.x86.modes import code_width

AROUND = 16 * PAGE  # bytes of code searched on either side of a place where a CPU stands
MAX_FOUND = 8
_PREFIXES = 8  # bytes that may come before the displacement
_NEAR_LOCK = 8  # a ticket lock has two words
_SPACE = {32: 1 << 32, 64: 1 << 64}  # bytes that an address can name


@dataclass(frozen=True)
class Writer:
    """One instruction that writes there."""

    address: int  # linear
    text: str
    atomic: bool  # LOCK, or XCHG
    beside: bool = False  # it writes the word before or after: a ticket lock has two


def writers(machine: Machine, registers: Registers, target: int, size: int) -> tuple[Writer, ...]:
    """Instructions near the instruction pointer that write to `target` or right beside it."""
    width, at = code_width(registers), machine.pc(registers)
    if width not in (32, 64) or at is None:
        return ()
    found: dict[int, Writer] = {}
    for start, data in code_around(machine, registers, at):
        for position in _mentions(start, data, target, size, width):
            one = _instruction(data, start, position, width, registers, target, size)
            if one is not None:
                found.setdefault(one.address, one)
            if len(found) >= MAX_FOUND:
                return tuple(found.values())
    return tuple(found.values())


def code_around(machine: Machine, registers: Registers, at: int) -> Iterator[tuple[int, bytes]]:
    """Runs of pages around an address that can be read: (linear address, bytes)."""
    memory = machine.linear(registers)
    first = max(0, (at - AROUND) // PAGE)
    start, run = 0, b""
    for page in range(first, (at + AROUND) // PAGE + 1):
        data = memory.read(page * PAGE, PAGE)
        if data is None:
            if run:
                yield start, run
            run = b""
            continue
        if not run:
            start = page * PAGE
        run += data
    if run:
        yield start, run


def _mentions(start: int, data: bytes, target: int, size: int, width: int) -> Iterator[int]:
    """Offsets of 32-bit displacements that may lead to the target."""
    low, high = target - _NEAR_LOCK, target + size + _NEAR_LOCK
    for position in range(len(data) - 4):
        value = struct.unpack_from("<i", data, position)[0]
        if low <= value % _SPACE[width] < high:  # a displacement is sign-extended
            yield position
        elif width == 64 and low <= start + position + 4 + value <= high + 8:
            yield position


def _instruction(
    data: bytes,
    start: int,
    position: int,
    width: int,
    registers: Registers,
    target: int,
    size: int,
) -> Optional[Writer]:
    """The longest instruction around a displacement that writes to the target."""
    for before in range(_PREFIXES, 0, -1):
        begin = position - before
        if begin < 0:
            continue
        one = decode(data[begin : begin + MAX_LENGTH], start + begin, width)
        if one is None or not before + 4 <= one.length:
            continue
        at = written(one, registers)
        if at is None or not target - _NEAR_LOCK < at.start < target + size + _NEAR_LOCK:
            continue
        if one.text.startswith(("xrelease", "xacquire")):
            continue  # its first byte is the end of the instruction before
        beside = at.stop <= target or at.start >= target + size
        return Writer(start + begin, one.text, is_atomic(one), beside)
    return None


def written(one: Instruction, registers: Registers) -> Optional[range]:
    """The bytes that an instruction writes to, where it names their address."""
    for operand in one.operands:
        if not isinstance(operand, MemoryOperand) or not operand.written or operand.address_only:
            continue
        if not operand.named:
            continue
        address = linear_address(one, registers, operand)
        if address is not None:
            return range(address, address + max(operand.size, 1))
    return None


def is_atomic(one: Instruction) -> bool:
    """LOCK, or XCHG with memory, which locks by itself."""
    return one.text.startswith("lock") or one.mnemonic == "xchg" and one.memory is not None
