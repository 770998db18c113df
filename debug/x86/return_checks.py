# SPDX-License-Identifier: BSD-2-Clause
"""What a CPU checks in an IRET or a far return, in the manual's order.

[SDM 2 "IRET/IRETD/IRETQ", "RET", each "Operation"]
"""

from __future__ import annotations

from typing import Optional

from debug.x86.accesses import stack_accesses
from debug.x86.canonical import is_canonical
from debug.x86.descriptors import SegmentDescriptor
from debug.x86.exceptions import GP, NP, selector_code
from debug.x86.instruction import Instruction, Kind
from debug.x86.linear import LinearMemory
from debug.x86.modes import MASK32, Mode, mode_of, privilege
from debug.x86.refusals import Check, Refusal, Undecided, Verdict
from debug.x86.registers import Rflags
from debug.x86.segment_checks import check_stack_descriptor, find, linear_bits
from debug.x86.tables import TableEntry, is_null


def check_return(memory: LinearMemory, instruction: Instruction) -> Verdict:
    """IRET or RETF with the frame that the stack holds; the pops themselves are not checked."""
    registers = memory.registers
    mode, cpl = mode_of(registers), privilege(registers)
    if mode in (Mode.REAL, Mode.VM86):
        return None
    if mode is Mode.UNKNOWN or cpl is None:
        return Undecided("the mode or the privilege level is not known")
    interrupt, flags = instruction.kind is Kind.IRET, registers.rflags or 0
    if interrupt and flags & Rflags.NT:
        if mode.long:
            return Refusal(Check.MODE, "IRET with RFLAGS.NT=1 in long mode", GP, 0)
        return Undecided("IRET with NT=1: a task switch, which is not modelled")
    offset, selector = _slot(memory, instruction, 0), _slot(memory, instruction, 1)
    if offset is None or selector is None:
        return Undecided("the return frame could not be read")
    if interrupt and not mode.long:
        saved = _slot(memory, instruction, 2)
        if saved is not None and saved & Rflags.VM and cpl == 0:
            return None  # to virtual-8086 mode
    selector &= 0xFFFF
    if is_null(selector):
        return Refusal(Check.NULL_SELECTOR, "the CS in the return frame is null", GP, 0)
    entry = find(memory, selector)
    if not isinstance(entry, TableEntry):
        return entry
    verdict = _check_code(entry, selector, cpl)
    if verdict is not None:
        return verdict
    segment = entry.descriptor
    assert isinstance(segment, SegmentDescriptor)  # the check passed
    wide = mode.long and segment.long
    if wide and not is_canonical(offset, linear_bits(registers)):
        return Refusal(Check.NON_CANONICAL, f"the return address {offset:#x}", GP, 0)
    if not wide and offset & MASK32 > segment.limit:
        sentence = f"the return address {offset:#x} is beyond the limit of {entry.describe()}"
        return Refusal(Check.OFFSET, sentence, GP, 0)
    outer = selector & 3 > cpl
    if not outer and not (interrupt and mode is Mode.LONG64):
        return None  # SS:RSP stay
    return _check_stack(memory, instruction, 4 if interrupt else 3, selector & 3, wide)


def _slot(memory: LinearMemory, instruction: Instruction, index: int) -> Optional[int]:
    slots = stack_accesses(instruction, memory.registers)
    if not slots or slots[0].linear is None:
        return None
    size = instruction.operand_size
    data = memory.read(slots[0].linear + index * size, size)
    return None if data is None else int.from_bytes(data, "little")


def _check_code(entry: TableEntry, selector: int, cpl: int) -> Verdict:
    segment, code, rpl = entry.descriptor, selector_code(selector), selector & 3
    if not isinstance(segment, SegmentDescriptor) or not segment.code:
        sentence = f"the CS in the return frame is no code segment: {entry.describe()}"
        return Refusal(Check.WRONG_TYPE, sentence, GP, code)
    if rpl < cpl:
        sentence = f"the CS in the return frame has RPL {rpl}, below CPL {cpl}"
        return Refusal(Check.PRIVILEGE, sentence, GP, code)
    if segment.dpl > rpl or not segment.conforming and segment.dpl != rpl:
        sentence = f"RPL {rpl} of the CS in the return frame does not fit {entry.describe()}"
        return Refusal(Check.PRIVILEGE, sentence, GP, code)
    if not segment.present:
        return Refusal(Check.NOT_PRESENT, entry.describe(), NP, code)
    return None


def _check_stack(
    memory: LinearMemory, instruction: Instruction, index: int, level: int, wide: bool
) -> Verdict:
    if instruction.kind is Kind.FAR_RETURN and len(instruction.operands) > 0:
        return Undecided("a far return to an outer level that drops parameters")
    selector = _slot(memory, instruction, index)
    if selector is None:
        return Undecided("the return frame could not be read")
    selector &= 0xFFFF
    if is_null(selector):
        if wide and level != 3:
            return None
        return Refusal(Check.NULL_SELECTOR, "the SS in the return frame is null", GP, 0)
    entry = find(memory, selector)
    if not isinstance(entry, TableEntry):
        return entry
    return check_stack_descriptor(entry, selector, level)
