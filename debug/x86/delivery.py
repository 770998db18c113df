# SPDX-License-Identifier: BSD-2-Clause
"""How a CPU delivers an exception or interrupt, and the first check that stops it.

[SDM 2 "INT n/INTO/INT3/INT1", "Operation"; SDM 3A "Exception- and Interrupt-Handler Procedures",
"Interrupt Stack Table", "Stack Switching in IA-32e Mode"]
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Optional, Union

from debug.evidence import Registers
from debug.x86.canonical import MASK64, is_canonical
from debug.x86.descriptors import Gate, GateType, SegmentDescriptor
from debug.x86.exceptions import BP, GP, NP, OF, SS, TS, gate_code, selector_code, vector
from debug.x86.linear import LinearMemory
from debug.x86.modes import MASK32, Mode, linear, mode_of, privilege, stack_width
from debug.x86.paging import Access
from debug.x86.refusals import Check, Refusal, Undecided, Verdict, page_refusal
from debug.x86.segment_checks import check_gate_code, check_stack_descriptor, find, linear_bits
from debug.x86.tables import TableEntry, gate_entry, is_null, real_vector

_WRITE = Access(write=True)


@dataclass(frozen=True)
class Stack:
    """Where the CPU pushes the frame."""

    pointer: int  # before the first push, aligned as the CPU aligns it
    linear: int  # the same as a linear address
    origin: str  # "RSP", "IST 1 of the TSS", "RSP0 of the TSS", "SS0:ESP0 of the TSS"


@dataclass(frozen=True)
class Delivery:
    """One delivery, as far as it got.  `refusal` and `undecided` None: the handler was entered."""

    vector: int
    entry: Optional[TableEntry] = None  # the gate; None in real mode
    code: Optional[TableEntry] = None  # the handler's code segment
    stack: Optional[Stack] = None
    frame_bytes: int = 0
    handler: Optional[int] = None  # linear address of the handler's first instruction
    refusal: Optional[Refusal] = None
    undecided: str = ""

    @property
    def gate(self) -> Optional[Gate]:
        descriptor = self.entry.descriptor if self.entry is not None else None
        return descriptor if isinstance(descriptor, Gate) else None

    @property
    def entered(self) -> bool:
        return self.refusal is None and not self.undecided

    def stop(self, verdict: Union[Refusal, Undecided]) -> "Delivery":
        """This delivery, ended by `verdict`."""
        if isinstance(verdict, Refusal):
            return replace(self, refusal=verdict)
        return replace(self, undecided=verdict.sentence)


def deliver(
    memory: LinearMemory,
    number: int,
    error_code: Optional[bool] = None,
    software: bool = False,
    external: bool = True,
) -> Delivery:
    """Deliver vector `number` (0 to 255) with the registers of `memory`.

    `error_code`: whether one is pushed; None: as the vector's table row says (never for
    `software`, an INT n, which #BP and #OF always are).  `external` is the EXT bit of what fails
    meanwhile: set for every event but INT n, INT3 and INTO.
    """
    registers, state = memory.registers, Delivery(number)
    software = software or number in (BP, OF)
    mode, cpl = mode_of(registers), privilege(registers)
    pushes = vector(number).error_code if error_code is None else error_code
    pushes, external = pushes and not software, external and not software
    if mode is Mode.UNKNOWN or cpl is None:
        return state.stop(Undecided("the mode or the privilege level is not known"))
    if mode is Mode.REAL:
        return _real(memory, state)
    entry = gate_entry(memory, registers, number)
    if entry is None:
        return state.stop(Undecided("IDTR is not known"))
    state = replace(state, entry=entry)
    verdict = _check_gate(memory, entry, cpl, software, external)
    if verdict is not None:
        return state.stop(verdict)
    gate = entry.descriptor
    assert isinstance(gate, Gate)  # the check passed
    if gate.gate is GateType.TASK:
        return state.stop(Undecided("a task gate: task switches are not modelled"))
    if is_null(gate.selector):
        sentence = f"the gate's selector is null: {entry.describe()}"
        return state.stop(Refusal(Check.NULL_SELECTOR, sentence, GP, int(external)))
    code = find(memory, gate.selector, external=external)
    if not isinstance(code, TableEntry):
        return state.stop(code)
    state = replace(state, code=code)
    verdict = check_gate_code(registers, code, gate.selector, cpl, external)
    if verdict is not None:
        return state.stop(verdict)
    segment = code.descriptor
    assert isinstance(segment, SegmentDescriptor)  # the check passed
    level = cpl if segment.conforming else segment.dpl
    if mode is Mode.VM86 and level != 0:
        sentence = f"from virtual-8086 mode a handler must have DPL 0: {code.describe()}"
        refusal = Refusal(Check.PRIVILEGE, sentence, GP, selector_code(gate.selector, external))
        return state.stop(refusal)
    return _push_frame(memory, state, gate, segment, (cpl, level), pushes, external)


def _check_gate(
    memory: LinearMemory, entry: TableEntry, cpl: int, software: bool, external: bool
) -> Verdict:
    code, long_mode = gate_code(entry.index, external), mode_of(memory.registers).long
    if entry.beyond:
        what = f"gate {entry.index} ({vector(entry.index)}) is beyond the IDT's limit"
        return Refusal(Check.IDT_LIMIT, f"{what} {entry.limit:#x}", GP, code)
    gate = entry.descriptor
    if gate is None:
        found = memory.first_fault(entry.address, entry.size)
        if found is not None:
            return page_refusal(Check.TABLE_UNMAPPED, entry.name, found)
        return Undecided(entry.describe())
    task = isinstance(gate, Gate) and gate.gate is GateType.TASK
    if not isinstance(gate, Gate) or not (gate.gate.delivers or task):
        sentence = f"not an interrupt or trap gate: {entry.describe()}"
        return Refusal(Check.GATE_TYPE, sentence, GP, code)
    if long_mode and gate.upper_type:
        sentence = f"bits 12:8 of the gate's last dword are not 0: {entry.describe()}"
        return Refusal(Check.UPPER_HALF, sentence, GP, code)
    if software and gate.dpl < cpl:
        sentence = f"the gate's DPL {gate.dpl} is below CPL {cpl}: {entry.describe()}"
        return Refusal(Check.GATE_PRIVILEGE, sentence, GP, code)
    if not gate.present:
        return Refusal(Check.GATE_NOT_PRESENT, entry.describe(), NP, code)
    return None


def _push_frame(
    memory: LinearMemory,
    state: Delivery,
    gate: Gate,
    segment: SegmentDescriptor,
    levels: tuple[int, int],
    pushes: bool,
    external: bool,
) -> Delivery:
    registers, (cpl, level) = memory.registers, levels
    mode = mode_of(registers)
    if mode.long:
        stack = _long_stack(memory, gate, cpl, level, external)
        frame, slot = 40, 8
    else:
        stack = _legacy_stack(memory, cpl, level, external)
        slot = gate.gate.width // 8
        frame = slot * (3 if level == cpl else 9 if mode is Mode.VM86 else 5)
    if not isinstance(stack, Stack):
        return state.stop(stack)
    frame += slot if pushes else 0
    state = replace(state, stack=stack, frame_bytes=frame)
    if mode.long:
        handler = gate.offset
        if not is_canonical(handler, linear_bits(registers)):
            sentence = f"the handler's address {handler:#x} is not canonical"
            return state.stop(Refusal(Check.NON_CANONICAL, sentence, GP, int(external)))
    else:
        handler = segment.base + gate.offset & MASK32
        if gate.offset > segment.limit:
            sentence = f"the handler's offset {gate.offset:#x} is beyond its segment's limit"
            return state.stop(Refusal(Check.OFFSET, sentence, GP, int(external)))
    state = replace(state, handler=handler)
    verdict = _check_pushes(memory, stack, frame, slot, level)
    return state if verdict is None else state.stop(verdict)


def _check_pushes(memory: LinearMemory, stack: Stack, frame: int, slot: int, level: int) -> Verdict:
    """The first push that faults.  Slots are written downwards."""
    if memory.tables is None:
        return Undecided("the page tables are not known, and with them the stack")
    mask = MASK64 if mode_of(memory.registers) is Mode.LONG64 or slot == 8 else MASK32
    access = replace(_WRITE, user=level == 3)
    for below in range(slot, frame + 1, slot):
        found = memory.first_fault(stack.linear - below & mask, slot, access)
        if found is not None:
            what = f"the stack ({stack.origin} {stack.pointer:#x})"
            if found.fault is not None and found.fault.vector == GP:
                sentence = f"{what} is not canonical"
                return Refusal(Check.STACK_NON_CANONICAL, sentence, SS, 0)
            return page_refusal(Check.STACK_UNMAPPED, what, found)
    return None


def _tss_read(
    memory: LinearMemory, offset: int, length: int, external: bool
) -> Union[int, Refusal, Undecided]:
    """A field of the current TSS; `offset` and `length` in bytes."""
    task = memory.registers.segments.get("tr")
    if task is None:
        return Undecided("TR is not known")
    if offset + length - 1 > task.limit:
        sentence = f"byte {offset + length - 1:#x} is beyond the TSS limit {task.limit:#x}"
        code = selector_code(task.selector, external)
        check = Check.TSS_MISSING if is_null(task.selector) else Check.TSS_LIMIT
        return Refusal(check, sentence, TS, code)
    data = memory.read(task.base + offset, length)
    if data is not None:
        return int.from_bytes(data, "little")
    found = memory.first_fault(task.base + offset, length)
    if found is not None:
        return page_refusal(Check.TSS_UNMAPPED, "the TSS", found)
    return Undecided(f"the TSS at {task.base:#x} could not be read")


def _long_stack(
    memory: LinearMemory, gate: Gate, cpl: int, level: int, external: bool
) -> Union[Stack, Refusal, Undecided]:
    registers = memory.registers
    if gate.ist or level != cpl:
        offset = 0x1C + gate.ist * 8 if gate.ist else 4 + level * 8
        origin = f"IST {gate.ist} of the TSS" if gate.ist else f"RSP{level} of the TSS"
        pointer = _tss_read(memory, offset, 8, external)
        if not isinstance(pointer, int):
            return pointer
    else:
        origin, rsp = "RSP", registers.get("rsp")
        if rsp is None:
            return Undecided("RSP is not known")
        pointer = rsp  # SS counts for nothing: the CPU is in 64-bit mode already
    if not is_canonical(pointer, linear_bits(registers)):
        sentence = f"the stack ({origin} {pointer:#x}) is not canonical"
        return Refusal(Check.STACK_NON_CANONICAL, sentence, SS, int(external))
    aligned = pointer & ~0xF
    return Stack(aligned, aligned, origin)


def _legacy_stack(
    memory: LinearMemory, cpl: int, level: int, external: bool
) -> Union[Stack, Refusal, Undecided]:
    registers = memory.registers
    if level == cpl:
        rsp, width = registers.get("rsp"), stack_width(registers)
        if rsp is None or width is None:
            return Undecided("ESP is not known")
        pointer = rsp & (1 << width) - 1
        base = linear(registers, "ss", pointer)
        if base is None:
            return Undecided("SS is not known")
        return Stack(pointer, base, "ESP" if width == 32 else "SP")
    task = registers.segments.get("tr")
    if task is None:
        return Undecided("TR is not known")
    wide = bool(task.type & 8)
    first = level * 8 + 4 if wide else level * 4 + 2
    size = 4 if wide else 2
    selector = _tss_read(memory, first + size, 2, external)
    if not isinstance(selector, int):
        return selector
    pointer_or = _tss_read(memory, first, size, external)
    if not isinstance(pointer_or, int):
        return pointer_or
    if is_null(selector):
        sentence = f"SS{level} of the TSS is null"
        return Refusal(Check.STACK_SELECTOR, sentence, TS, int(external))
    entry = find(memory, selector, external=external, vector=TS)
    if not isinstance(entry, TableEntry):
        return entry
    verdict = check_stack_descriptor(entry, selector, level, TS, external)
    if verdict is not None:
        return verdict
    assert isinstance(entry.descriptor, SegmentDescriptor)  # the check passed
    origin = f"SS{level}:ESP{level} of the TSS"
    return Stack(pointer_or, entry.descriptor.base + pointer_or & MASK32, origin)


def _real(memory: LinearMemory, state: Delivery) -> Delivery:
    """Real mode: a vector from the table at IDTR, and three words on the stack."""
    registers: Registers = memory.registers
    table = registers.idtr
    if table is None:
        return state.stop(Undecided("IDTR is not known"))
    if state.vector * 4 + 3 > table.limit:
        what = f"vector {state.vector} is beyond the vector table's limit {table.limit:#x}"
        return state.stop(Refusal(Check.IDT_LIMIT, what, GP))
    found = real_vector(memory, table, state.vector)
    if found is None:
        return state.stop(Undecided(f"vector {state.vector} at {table.base:#x} is unreadable"))
    rsp = registers.get("rsp")
    base = None if rsp is None else linear(registers, "ss", rsp & 0xFFFF)
    if rsp is None or base is None:
        return state.stop(Undecided("SS:SP is not known"))
    stack = Stack(rsp & 0xFFFF, base, "SP")
    state = replace(state, stack=stack, frame_bytes=6, handler=found.linear)
    if stack.pointer in (1, 3, 5):
        sentence = f"SP {stack.pointer:#x} leaves no room for the frame"
        return state.stop(Refusal(Check.STACK_LIMIT, sentence, SS))
    return state
