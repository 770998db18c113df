# SPDX-License-Identifier: BSD-2-Clause
"""What an instruction will touch, given the registers before it: memory, stack, new values.

[SDM 1 "Operand Addressing"; SDM 2, each instruction's "Operation"]
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

from debug.evidence import Registers, TableRegister
from debug.x86.instruction import (
    ImmediateOperand,
    Instruction,
    Kind,
    MemoryOperand,
    RegisterOperand,
)
from debug.x86.linear import LinearReader
from debug.x86.modes import linear, stack_width
from debug.x86.registers import Cr0, register_bits, register_value


@dataclass(frozen=True)
class DataAccess:
    """One access to memory that an instruction makes."""

    segment: str
    offset: int
    linear: Optional[int]  # None: the segment's base is not known
    size: int  # bytes
    write: bool
    what: str  # "operand", "push", "pop", "return address" …


def effective_address(
    instruction: Instruction, registers: Registers, operand: Optional[MemoryOperand] = None
) -> Optional[int]:
    """The offset of a memory operand (the first one if None) within its segment.

    None when there is no such operand or a register it needs is unknown.
    """
    operand = operand or instruction.memory
    if operand is None:
        return None
    offset = operand.displacement
    for name, scale in ((operand.base, 1), (operand.index, operand.scale)):
        if not name:
            continue
        value = instruction.next if name in ("rip", "eip") else register_value(registers, name)
        if value is None:
            return None
        offset += value * scale
    return offset & (1 << operand.address_bits) - 1


def linear_address(
    instruction: Instruction, registers: Registers, operand: Optional[MemoryOperand] = None
) -> Optional[int]:
    """The linear address of a memory operand (the first one if None); None if not known."""
    operand = operand or instruction.memory
    offset = effective_address(instruction, registers, operand)
    if operand is None or offset is None:
        return None
    return linear(registers, operand.segment, offset)


def accesses(instruction: Instruction, registers: Registers) -> tuple[DataAccess, ...]:
    """The data accesses of one execution (of one round, with REP), operands before the stack.

    Accesses whose address is not known are left out.
    """
    found: list[DataAccess] = []
    if instruction.text.startswith("rep") and register_value(registers, "rcx") == 0:
        return ()
    for operand in instruction.operands:
        if not isinstance(operand, MemoryOperand) or operand.address_only or not operand.size:
            continue
        offset = effective_address(instruction, registers, operand)
        if offset is not None:
            where = linear(registers, operand.segment, offset)
            for write in filter(None, (operand.read and "r", operand.written and "w")):
                found.append(
                    DataAccess(
                        operand.segment, offset, where, operand.size, write == "w", "operand"
                    )
                )
    return (*found, *stack_accesses(instruction, registers))


def stack_bytes(instruction: Instruction) -> int:
    """Bytes that the instruction pushes (positive) or pops (negative); 0 for neither.

    Parameters that RET or LEAVE drop are not counted.
    """
    name, kind = instruction.mnemonic, instruction.kind
    wide = instruction.width == 64
    size = instruction.operand_size
    near = 8 if wide and size != 2 else size
    if name == "push":
        return near
    if name == "pop":
        return -near
    if kind is Kind.NEAR_CALL:
        return 8 if wide else size
    if kind is Kind.NEAR_RETURN:
        return -(8 if wide else size)
    if kind is Kind.FAR_CALL:
        return 2 * size
    if kind is Kind.FAR_RETURN:
        return -2 * size
    if kind is Kind.IRET:
        return -size * (5 if wide else 3)
    if name.startswith("pusha"):
        return 8 * size
    if name.startswith("popa"):
        return -8 * size
    if name.startswith("pushf"):
        return near
    if name.startswith("popf"):
        return -near
    if name == "enter":
        return near
    return 0


def stack_accesses(instruction: Instruction, registers: Registers) -> tuple[DataAccess, ...]:
    """What the instruction pushes or pops, one access for each slot in the CPU's order."""
    total, width = stack_bytes(instruction), stack_width(registers)
    from_frame = instruction.mnemonic == "leave"
    pointer = registers.get("rbp" if from_frame else "rsp")
    if width is None or pointer is None or not (total or from_frame):
        return ()
    mask = (1 << width) - 1
    near = 8 if instruction.width == 64 else instruction.operand_size
    if from_frame:
        total = -near
    slot = near if abs(total) == near else min(instruction.operand_size, abs(total))
    found = []
    for done in range(0, abs(total), slot):
        offset = (pointer - done - slot if total > 0 else pointer + done) & mask
        where = linear(registers, "ss", offset)
        what = "push" if total > 0 else "pop"
        found.append(DataAccess("ss", offset, where, slot, total > 0, what))
    return tuple(found)


def _number(reader: LinearReader, address: Optional[int], size: int) -> Optional[int]:
    data = reader(address, size) if address is not None else None
    return int.from_bytes(data, "little") if data is not None and len(data) == size else None


def far_target(
    instruction: Instruction, registers: Registers, reader: LinearReader
) -> Optional[tuple[int, int]]:
    """(selector, offset) where a far jump, call or return or an IRET goes; None if not known."""
    size = instruction.operand_size
    if instruction.kind in (Kind.FAR_JUMP, Kind.FAR_CALL):
        if instruction.far_immediate is not None:
            return instruction.far_immediate
        where = linear_address(instruction, registers)
    elif instruction.kind in (Kind.FAR_RETURN, Kind.IRET):
        slots = stack_accesses(instruction, registers)
        where = slots[0].linear if slots else None
    else:
        return None
    offset = _number(reader, where, size)
    selector = _number(reader, where + size, 2) if where is not None else None
    return (selector, offset) if selector is not None and offset is not None else None


def control_write(
    instruction: Instruction, registers: Registers, reader: Optional[LinearReader] = None
) -> Optional[tuple[str, int]]:
    """(name, new value) of the control register that MOV, LMSW or CLTS writes; None if unknown."""
    if instruction.kind is not Kind.WRITE_CONTROL:
        return None
    cr0 = registers.get("cr0")
    if instruction.mnemonic == "clts":
        return None if cr0 is None else ("cr0", cr0 & ~int(Cr0.TS))
    value = _source(instruction, registers, reader)
    if value is None:
        return None
    if instruction.mnemonic == "lmsw":
        if cr0 is None:
            return None
        return "cr0", cr0 & ~0xE | value & 0xF  # LMSW can set PE, not clear it
    target = instruction.operands[0]
    return (target.name, value) if isinstance(target, RegisterOperand) else None


def _source(
    instruction: Instruction, registers: Registers, reader: Optional[LinearReader]
) -> Optional[int]:
    """The value of the last operand."""
    operand = instruction.operands[-1] if instruction.operands else None
    if isinstance(operand, RegisterOperand):
        bits = register_bits(operand.name)
        value = register_value(registers, operand.name)
        return value if bits is None or value is None else value & (1 << bits) - 1
    if isinstance(operand, ImmediateOperand):
        return operand.value
    if isinstance(operand, MemoryOperand) and reader is not None:
        return _number(reader, linear_address(instruction, registers, operand), operand.size)
    return None


def msr_write(registers: Registers) -> Optional[tuple[int, int]]:
    """(MSR, value) of a WRMSR: ECX and EDX:EAX; None when one of them is unknown."""
    number, low, high = (register_value(registers, name) for name in ("ecx", "eax", "edx"))
    if number is None or low is None or high is None:
        return None
    return number, high << 32 | low


def selector_load(
    instruction: Instruction, registers: Registers, reader: LinearReader
) -> Optional[tuple[str, int]]:
    """(register, selector) of a segment load, LTR (`tr`) or LLDT (`ldt`); None if not known."""
    if instruction.kind in (Kind.LTR, Kind.LLDT):
        value = _source(instruction, registers, reader)
        name = "tr" if instruction.kind is Kind.LTR else "ldt"
        return None if value is None else (name, value & 0xFFFF)
    if instruction.kind is not Kind.LOAD_SEGMENT:
        return None
    first = instruction.operands[0] if instruction.operands else None
    if not isinstance(first, RegisterOperand):
        return None
    if instruction.mnemonic == "mov":
        value, name = _source(instruction, registers, reader), first.name
    elif instruction.mnemonic == "pop":
        slots = stack_accesses(instruction, registers)
        value, name = _number(reader, slots[0].linear if slots else None, 2), first.name
    else:  # lds and its kin: offset, then selector
        where = linear_address(instruction, registers)
        value = _number(reader, where + first.size if where is not None else None, 2)
        name = instruction.mnemonic[1:]
    return None if value is None else (name, value & 0xFFFF)


def table_load(
    instruction: Instruction, registers: Registers, reader: LinearReader
) -> Optional[TableRegister]:
    """What LGDT or LIDT loads; None for other instructions or where it can't be read.

    A 16-bit operand size outside 64-bit code takes 24 bits of the base.
    """
    if instruction.kind not in (Kind.LGDT, Kind.LIDT):
        return None
    where = linear_address(instruction, registers)
    limit = _number(reader, where, 2)
    size = 8 if instruction.width == 64 else 4
    base = None if where is None else _number(reader, where + 2, size)
    if limit is None or base is None:
        return None
    if instruction.width != 64 and instruction.operand_size == 2:
        base &= 0xFF_FFFF
    return TableRegister(base, limit)
