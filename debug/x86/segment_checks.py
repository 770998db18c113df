# SPDX-License-Identifier: BSD-2-Clause
"""What a CPU checks before it loads a segment register, in the manual's order.

[SDM 2 "JMP", "CALL", "MOV", "LTR", "LLDT", each "Operation" and "Protected Mode Exceptions";
SDM 3A "Privilege Level Checking"]
"""

from __future__ import annotations

from typing import Optional, Union

from debug.evidence import Registers
from debug.x86.canonical import is_canonical
from debug.x86.descriptors import Gate, GateType, SegmentDescriptor, SystemDescriptor, SystemType
from debug.x86.exceptions import GP, NP, SS, UD, selector_code
from debug.x86.linear import LinearMemory
from debug.x86.modes import Mode, mode_of, paging_mode_of, privilege
from debug.x86.refusals import Check, Refusal, Undecided, Verdict, page_refusal
from debug.x86.tables import TableEntry, descriptor_table, is_null, lookup


def linear_bits(registers: Registers) -> int:
    """Width of a canonical address of this CPU in bits; 48 where CR4 is unknown."""
    mode = paging_mode_of(registers)
    return mode.linear_bits if mode is not None and mode.linear_bits > 48 else 48


def find(
    memory: LinearMemory,
    selector: int,
    system: bool = False,
    external: bool = False,
    vector: int = GP,
) -> Union[TableEntry, Refusal, Undecided]:
    """The readable entry within its table that `selector` names, or why there is none.

    `vector` is raised for a selector beyond the limit: #GP, or #TS from a task-state segment.
    """
    registers = memory.registers
    code = selector_code(selector, external)
    table = descriptor_table(registers, selector)
    if table is None:
        if selector & 4 and registers.segments.get("ldt") is not None:
            sentence = f"selector {selector:#06x} names the LDT, but LDTR is null"
            return Refusal(Check.NO_TABLE, sentence, vector, code)
        return Undecided(f"the table of selector {selector:#06x} is not known")
    entry = lookup(memory, registers, selector, system)
    assert entry is not None  # its table is known
    if entry.beyond:
        sentence = f"selector {selector:#06x}: {entry.describe()}"
        return Refusal(Check.BEYOND_LIMIT, sentence, vector, code)
    if entry.descriptor is None:
        found = memory.first_fault(entry.address, entry.size)
        if found is not None:
            return page_refusal(Check.TABLE_UNMAPPED, entry.name, found)
        return Undecided(entry.describe())
    return entry


def check_far_transfer(
    memory: LinearMemory, selector: int, offset: Optional[int] = None, external: bool = False
) -> Verdict:
    """A far JMP or CALL to `selector`:`offset` in protected or long mode.

    None also in real and virtual-8086 mode, where no descriptor is read.
    """
    registers = memory.registers
    mode, cpl = mode_of(registers), privilege(registers)
    if mode in (Mode.REAL, Mode.VM86):
        return None
    if mode is Mode.UNKNOWN or cpl is None:
        return Undecided("the mode or the privilege level is not known")
    if is_null(selector):
        return Refusal(Check.NULL_SELECTOR, "the code selector is null", GP, int(external))
    entry = find(memory, selector, system=True, external=external)
    if not isinstance(entry, TableEntry):
        return entry
    descriptor = entry.descriptor
    if isinstance(descriptor, SegmentDescriptor) and descriptor.code:
        return check_code(registers, entry, selector, cpl, offset)
    code = selector_code(selector, external)
    if isinstance(descriptor, Gate) and descriptor.gate in _CALL_GATES:
        return _through_call_gate(memory, entry, descriptor, selector, cpl)
    task = isinstance(descriptor, SystemDescriptor) and descriptor.system is not SystemType.LDT
    task = task or isinstance(descriptor, Gate) and descriptor.gate is GateType.TASK
    if task and not mode.long:
        return Undecided(f"{entry.describe()}: a task switch, which is not modelled")
    return Refusal(Check.WRONG_TYPE, f"not a code segment: {entry.describe()}", GP, code)


_CALL_GATES = (GateType.CALL16, GateType.CALL32, GateType.CALL64)


def _through_call_gate(
    memory: LinearMemory, entry: TableEntry, gate: Gate, selector: int, cpl: int
) -> Verdict:
    code = selector_code(selector)
    if gate.upper_type:
        sentence = f"bits 12:8 of the gate's last dword are not 0: {entry.describe()}"
        return Refusal(Check.UPPER_HALF, sentence, GP, code)
    if gate.dpl < max(cpl, selector & 3):
        sentence = f"the gate's DPL is below CPL {cpl} or RPL {selector & 3}: {entry.describe()}"
        return Refusal(Check.PRIVILEGE, sentence, GP, code)
    if not gate.present:
        return Refusal(Check.NOT_PRESENT, entry.describe(), NP, code)
    if is_null(gate.selector):
        return Refusal(Check.NULL_SELECTOR, f"the gate's selector is null: {entry.name}", GP, 0)
    target = find(memory, gate.selector)
    if not isinstance(target, TableEntry):
        return target
    return check_gate_code(memory.registers, target, gate.selector, cpl)


def check_gate_code(
    registers: Registers, entry: TableEntry, selector: int, cpl: int, external: bool = False
) -> Verdict:
    """The code segment that a gate names: any privilege that is not less than the caller's."""
    descriptor, code = entry.descriptor, selector_code(selector, external)
    if not isinstance(descriptor, SegmentDescriptor) or not descriptor.code:
        sentence = f"the gate's selector is not a code segment: {entry.describe()}"
        return Refusal(Check.WRONG_TYPE, sentence, GP, code)
    if descriptor.dpl > cpl:
        sentence = f"the handler's DPL {descriptor.dpl} is above CPL {cpl}: {entry.describe()}"
        return Refusal(Check.PRIVILEGE, sentence, GP, code)
    if mode_of(registers).long and (not descriptor.long or descriptor.big):
        sentence = f"in long mode a handler must be 64-bit code: {entry.describe()}"
        return Refusal(Check.NOT_64BIT, sentence, GP, code)
    if not descriptor.present:
        return Refusal(Check.NOT_PRESENT, entry.describe(), NP, code)
    return None


def check_code(
    registers: Registers, entry: TableEntry, selector: int, cpl: int, offset: Optional[int]
) -> Verdict:
    """A code segment as the direct target of a far JMP or CALL."""
    descriptor, code = entry.descriptor, selector_code(selector)
    if not isinstance(descriptor, SegmentDescriptor) or not descriptor.code:
        return Refusal(Check.WRONG_TYPE, f"not a code segment: {entry.describe()}", GP, code)
    long_mode = mode_of(registers).long
    if long_mode and descriptor.long and descriptor.big:
        sentence = f"L and D are both set: {entry.describe()}"
        return Refusal(Check.LONG_AND_BIG, sentence, GP, code)
    if descriptor.conforming:
        if descriptor.dpl > cpl:
            sentence = f"DPL {descriptor.dpl} is above CPL {cpl}: {entry.describe()}"
            return Refusal(Check.PRIVILEGE, sentence, GP, code)
    elif selector & 3 > cpl or descriptor.dpl != cpl:
        sentence = f"RPL {selector & 3} or DPL does not fit CPL {cpl}: {entry.describe()}"
        return Refusal(Check.PRIVILEGE, sentence, GP, code)
    if not descriptor.present:
        return Refusal(Check.NOT_PRESENT, entry.describe(), NP, code)
    if offset is None:
        return None
    if long_mode and descriptor.long:
        if not is_canonical(offset, linear_bits(registers)):
            return Refusal(Check.NON_CANONICAL, f"the target {offset:#x} is not canonical", GP, 0)
    elif offset > descriptor.limit:
        sentence = f"the target {offset:#x} is beyond the limit: {entry.describe()}"
        return Refusal(Check.OFFSET, sentence, GP, 0)
    return None


def check_load(memory: LinearMemory, register: str, selector: int) -> Verdict:
    """MOV or POP of `selector` to `register` (ss ds es fs gs) in protected or long mode."""
    registers = memory.registers
    mode, cpl = mode_of(registers), privilege(registers)
    if register == "cs":
        return Refusal(Check.MODE, "MOV can't load CS", UD)
    if mode in (Mode.REAL, Mode.VM86):
        return None
    if mode is Mode.UNKNOWN or cpl is None:
        return Undecided("the mode or the privilege level is not known")
    stack = register == "ss"
    if is_null(selector):
        if not stack or (mode is Mode.LONG64 and cpl < 3 and selector & 3 == cpl):
            return None
        return Refusal(Check.NULL_SELECTOR, "a null selector was loaded into SS", GP, 0)
    entry = find(memory, selector)
    if not isinstance(entry, TableEntry):
        return entry
    if stack:
        return check_stack_descriptor(entry, selector, cpl)
    return _check_data_descriptor(entry, selector, cpl)


def check_stack_descriptor(
    entry: TableEntry,
    selector: int,
    level: int,
    vector: int = GP,
    external: bool = False,
) -> Verdict:
    """A descriptor for SS at privilege `level`; `vector` is #TS for one from a TSS."""
    descriptor, code = entry.descriptor, selector_code(selector, external)
    rpl = selector & 3
    if rpl != level:
        sentence = f"SS selector {selector:#06x} has RPL {rpl}, CPL is {level}"
        return Refusal(Check.PRIVILEGE, sentence, vector, code)
    if not isinstance(descriptor, SegmentDescriptor) or not descriptor.writable:
        return Refusal(
            Check.WRONG_TYPE, f"not a writable data segment: {entry.describe()}", vector, code
        )
    if descriptor.dpl != level:
        sentence = f"DPL {descriptor.dpl} is not CPL {level}: {entry.describe()}"
        return Refusal(Check.PRIVILEGE, sentence, vector, code)
    if not descriptor.present:
        return Refusal(Check.NOT_PRESENT, entry.describe(), SS, code)
    return None


def _check_data_descriptor(entry: TableEntry, selector: int, cpl: int) -> Verdict:
    descriptor, code = entry.descriptor, selector_code(selector)
    if not isinstance(descriptor, SegmentDescriptor) or not descriptor.readable:
        sentence = f"neither data nor readable code: {entry.describe()}"
        return Refusal(Check.WRONG_TYPE, sentence, GP, code)
    if not descriptor.conforming and max(selector & 3, cpl) > descriptor.dpl:
        sentence = f"CPL {cpl} or RPL {selector & 3} is above the DPL: {entry.describe()}"
        return Refusal(Check.PRIVILEGE, sentence, GP, code)
    if not descriptor.present:
        return Refusal(Check.NOT_PRESENT, entry.describe(), NP, code)
    return None


def check_ltr(memory: LinearMemory, selector: int) -> Verdict:
    """LTR with `selector`."""
    return _check_system(memory, selector, "LTR")


def check_lldt(memory: LinearMemory, selector: int) -> Verdict:
    """LLDT with `selector`; a null one is allowed."""
    return _check_system(memory, selector, "LLDT")


def _check_system(memory: LinearMemory, selector: int, name: str) -> Verdict:
    registers = memory.registers
    mode, cpl = mode_of(registers), privilege(registers)
    if mode in (Mode.REAL, Mode.VM86):
        return Refusal(Check.MODE, f"{name} does not exist in {mode.value}", UD)
    if mode is Mode.UNKNOWN or cpl is None:
        return Undecided("the mode or the privilege level is not known")
    if cpl != 0:
        return Refusal(Check.CPL, f"{name} at CPL {cpl}", GP, 0)
    if is_null(selector):
        if name == "LLDT":
            return None
        return Refusal(Check.NULL_SELECTOR, "the TSS selector is null", GP, 0)
    code = selector_code(selector)
    if selector & 4:
        return Refusal(Check.WRONG_TABLE, f"selector {selector:#06x} names the LDT", GP, code)
    entry = find(memory, selector, system=True)
    if not isinstance(entry, TableEntry):
        return entry
    descriptor = entry.descriptor
    wanted = "an LDT" if name == "LLDT" else "an available TSS"
    if not isinstance(descriptor, SystemDescriptor) or (
        (descriptor.system is SystemType.LDT) != (name == "LLDT")
    ):
        return Refusal(Check.WRONG_TYPE, f"not {wanted}: {entry.describe()}", GP, code)
    if descriptor.busy:
        return Refusal(Check.BUSY, f"the TSS is busy already: {entry.describe()}", GP, code)
    if mode.long and descriptor.upper_type:
        sentence = f"bits 12:8 of the last dword are not 0: {entry.describe()}"
        return Refusal(Check.UPPER_HALF, sentence, GP, code)
    if not descriptor.present:
        return Refusal(Check.NOT_PRESENT, entry.describe(), NP, code)
    if mode.long and not is_canonical(descriptor.base, linear_bits(registers)):
        sentence = f"the base {descriptor.base:#x} is not canonical"
        return Refusal(Check.NON_CANONICAL, sentence, GP, code)
    return None
