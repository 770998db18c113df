# SPDX-License-Identifier: BSD-2-Clause
"""#GP, #NP, #SS and #TS explained: the descriptor, the gate or the instruction that was refused.

[SDM 3A "Interrupt 13—General Protection Exception (#GP)" and its neighbours]
"""

from __future__ import annotations

from typing import Optional

from debug.evidence import Registers
from debug.explain import gdt_lost
from debug.explain.context import Machine
from debug.explain.findings import (
    BadControlWrite,
    DeliveryFailed,
    Misaligned,
    NonCanonical,
    Role,
    SelectorFault,
    SelectorUse,
)
from debug.explain.model import Finding
from debug.x86.accesses import (
    accesses,
    control_write,
    far_target,
    linear_address,
    msr_write,
    selector_load,
)
from debug.x86.canonical import is_canonical
from debug.x86.delivery import deliver
from debug.x86.exceptions import SelectorCode
from debug.x86.instruction import Instruction, Kind, MemoryOperand
from debug.x86.modes import Mode, mode_of
from debug.x86.refusals import Check, Refusal
from debug.x86.registers import EFER_MSR, describe_msr, describe_register, register_value
from debug.x86.segment_checks import find
from debug.x86.tables import lookup

_USES = {
    Kind.FAR_JUMP: SelectorUse.FAR_JUMP,
    Kind.FAR_CALL: SelectorUse.FAR_JUMP,
    Kind.FAR_RETURN: SelectorUse.FAR_RETURN,
    Kind.IRET: SelectorUse.IRET,
    Kind.LTR: SelectorUse.LTR,
    Kind.LLDT: SelectorUse.LLDT,
}
_COUNTS_BYTES = ("6.", "7.")  # versions of QEMU
_POP, _MOV_SREG = 0x58, 0x8E  # pop r; mov sreg, r
_CONTROL = (Kind.WRITE_CONTROL, Kind.WRMSR, Kind.RDMSR, Kind.XSETBV, Kind.LGDT, Kind.LIDT)


def general_fault(
    machine: Machine,
    cpu: Optional[int],
    registers: Registers,
    vector: int,
    error_code: Optional[int],
    instruction: Optional[Instruction],
    verdict: Optional[Refusal],
) -> tuple[Finding, ...]:
    """The facts behind a fault of this class.

    `verdict` is what the rules say about the instruction, None if they find nothing wrong or
    raise another exception.
    """
    code = SelectorCode(error_code or 0)
    if error_code is not None and code.idt:
        return (_gate(machine, cpu, registers, _gate_number(machine, registers, code.index)),)
    selector = code.selector or 0
    if selector or (verdict is not None and verdict.check is Check.NULL_SELECTOR):
        return (_selector(machine, cpu, registers, vector, selector, instruction, verdict),)
    if instruction is None:
        return _bad_rip(cpu, registers)
    if verdict is not None and verdict.check is Check.OFFSET and instruction.kind in _USES:
        return (_selector(machine, cpu, registers, vector, selector, instruction, verdict),)
    if instruction.kind in _CONTROL and not _operand_astray(registers, instruction):
        return (_control(cpu, registers, machine, instruction, verdict),)
    if verdict is not None and verdict.check is Check.MISALIGNED:
        operand = instruction.memory
        base = operand.base if operand is not None else ""
        address = linear_address(instruction, registers) or 0
        stack = base in ("rsp", "esp") or base in ("rbp", "ebp") and _frames(registers)
        return (Misaligned(cpu, address, instruction.text, stack),)
    return _non_canonical(machine, cpu, registers, instruction)


_STACK = 1 << 20  # bytes: so large is a stack at most


def _frames(registers: Registers) -> bool:
    """Whether RBP points into the stack: without frame pointers it holds anything."""
    rbp, rsp = registers.get("rbp"), registers.get("rsp")
    return rbp is None or rsp is None or 0 <= rbp - rsp < _STACK


def _operand_astray(registers: Registers, instruction: Instruction) -> bool:
    """Whether it is the operand's own address that is refused, whatever stands there."""
    address = linear_address(instruction, registers)
    return address is not None and mode_of(registers) is Mode.LONG64 and not is_canonical(address)


def _gate_number(machine: Machine, registers: Registers, index: int) -> int:
    """The gate that an error code with this index names.

    TCG of QEMU 7.2 multiplies by the size of a gate where it should multiply by 8, if the gate lies
    beyond the limit in 64-bit mode; that of QEMU 10 does not.  Where no version is known, what was to
    be delivered there just before tells.
    """
    evidence, idtr, number = machine.evidence, registers.idtr, index // 2
    if evidence.emulator != "qemu" or evidence.accelerator == "kvm" or index % 2:
        return index
    if mode_of(registers) is not Mode.LONG64 or idtr is None or 16 * number + 15 <= idtr.limit:
        return index
    before = any(e.vector == number and e.registers.rip == registers.rip for e in evidence.events)
    return number if before or evidence.version.startswith(_COUNTS_BYTES) else index


def _gate(machine: Machine, cpu: Optional[int], registers: Registers, number: int) -> Finding:
    attempt = deliver(machine.linear(registers), number)
    refusal, idtr = attempt.refusal, registers.idtr
    sentence = refusal.sentence if refusal is not None else f"gate {number} of the IDT was refused"
    return DeliveryFailed(
        cpu,
        number,
        refusal.check if refusal is not None else None,
        sentence,
        refusal.vector if refusal is not None else None,
        idtr.base if idtr is not None else None,
        idtr.limit if idtr is not None else None,
        None,
        number >= 32,
    )


def _selector(
    machine: Machine,
    cpu: Optional[int],
    registers: Registers,
    vector: int,
    selector: int,
    instruction: Optional[Instruction],
    verdict: Optional[Refusal],
) -> SelectorFault:
    reader = machine.linear(registers)
    use, table = SelectorUse.UNKNOWN, registers.gdtr
    if instruction is not None:
        use = _USES.get(instruction.kind, SelectorUse.UNKNOWN)
        if instruction.kind is Kind.LOAD_SEGMENT:
            load = selector_load(instruction, registers, reader)
            use = SelectorUse.LOAD_SS if load and load[0] == "ss" else SelectorUse.LOAD_DATA
            selector = load[1] if load is not None else selector
        target = far_target(instruction, registers, reader)
        if target is not None and instruction.kind is not Kind.IRET:
            selector = target[0]
    if verdict is None and selector & 0xFFFC:
        found = find(reader, selector)
        verdict = found if isinstance(found, Refusal) else None
    entry = lookup(reader, registers, selector)
    descriptor = entry.descriptor.raw if entry is not None and entry.descriptor else None
    sentence = verdict.sentence if verdict is not None else ""
    if not sentence:
        sentence = entry.describe() if entry is not None else "its descriptor is not known"
    return SelectorFault(
        cpu,
        use,
        selector,
        vector,
        verdict.check if verdict is not None else None,
        sentence,
        table.base if table is not None else None,
        table.limit if table is not None else None,
        descriptor,
        machine.pc(registers),
        gdt_lost.suspect_base(machine, registers),
        _good_beyond(machine, registers, selector, use),
        gdt_lost.shifted(machine, registers),
        gdt_lost.just_loaded(machine, registers),
        _popped(machine, registers, instruction),
    )


def _popped(machine: Machine, registers: Registers, instruction: Optional[Instruction]) -> bool:
    """Whether a segment register was loaded from the stack: by POP, or by `pop eax; mov ds, ax`."""
    if instruction is None or instruction.kind is not Kind.LOAD_SEGMENT:
        return False
    if instruction.mnemonic == "pop":
        return True
    rip = machine.pc(registers)
    code = machine.linear(registers).read(rip - 1, 4) if rip else None
    if code is None or code[0] & 0xF8 != _POP:
        return False
    move = code[1:].removeprefix(b"\x66")
    return move[0] == _MOV_SREG and move[1] >> 6 == 3 and move[1] & 7 == code[0] & 7


def _good_beyond(machine: Machine, registers: Registers, selector: int, use: SelectorUse) -> bool:
    """Whether the table goes on beyond its limit, without a gap, up to a segment for this use."""
    table = registers.gdtr
    if table is None or selector & 4 or selector | 7 <= table.limit:
        return False
    first, last = max(8, (table.limit + 1) & ~7), selector & ~7  # the first one is null
    if last < first:
        return False
    data = machine.linear(registers).read(table.base + first, last - first + 8)
    if data is None:
        return False
    entries = [data[at : at + 8] for at in range(0, len(data), 8)]
    good = all(entry[5] & 0x90 == 0x90 and entry[6] & 0x0F in (0, 0xF) for entry in entries)
    data_load = use in (SelectorUse.LOAD_DATA, SelectorUse.LOAD_SS)
    return good and (data_load or entries[-1][5] & 0x08 == 0x08)


def _control(
    cpu: Optional[int],
    registers: Registers,
    machine: Machine,
    instruction: Instruction,
    verdict: Optional[Refusal],
) -> BadControlWrite:
    name, value = instruction.kind.value, None
    kind = instruction.kind
    if kind is Kind.WRITE_CONTROL:
        written = control_write(instruction, registers, machine.linear(registers))
        name, value = written if written is not None else (name, None)
    elif kind in (Kind.WRMSR, Kind.RDMSR):
        number = register_value(registers, "ecx")
        pair = msr_write(registers) if kind is Kind.WRMSR else None
        name = "efer" if number == EFER_MSR else f"msr {number or 0:#x}"
        value = pair[1] if pair is not None else None
        if verdict is None:
            said = describe_msr(number) if number is not None else "an unknown MSR"
            verb = "write to" if kind is Kind.WRMSR else "read of"
            sentence = f"the {verb} {said} is refused: this CPU has no such MSR or value"
            return BadControlWrite(cpu, None, name, value, sentence, machine.pc(registers))
    elif kind is Kind.XSETBV:
        name = "xcr0"
    shown = f" {describe_register(name, value)}" if value is not None else ""
    sentence = verdict.sentence if verdict is not None else f"{name.upper()}{shown} is refused"
    check = verdict.check if verdict is not None else None
    return BadControlWrite(cpu, check, name, value, sentence, machine.pc(registers))


def _pointer(
    machine: Machine, registers: Registers, instruction: Instruction
) -> Optional[tuple[int, str]]:
    """(the target that a near jump, call or return takes from memory, where it stands)."""
    if instruction.kind is Kind.NEAR_RETURN:
        at, place = registers.get("rsp"), "the stack"
    elif instruction.kind in (Kind.NEAR_JUMP, Kind.NEAR_CALL) and instruction.memory is not None:
        at, place = linear_address(instruction, registers), "memory"
    else:
        return None
    data = machine.linear(registers).read(at, 8) if at is not None else None
    return None if data is None else (int.from_bytes(data, "little"), place)


def _non_canonical(
    machine: Machine, cpu: Optional[int], registers: Registers, instruction: Instruction
) -> tuple[Finding, ...]:
    """A non-canonical operand, stack or target, if that is what the instruction used."""
    if mode_of(registers) is not Mode.LONG64:
        return ()
    for access in accesses(instruction, registers):
        if access.linear is not None and not is_canonical(access.linear):
            stack = access.what in ("push", "pop")
            role = Role.STACK if stack else Role.DATA
            return (NonCanonical(cpu, access.linear, role, _base(instruction, stack)),)
    where = _pointer(machine, registers, instruction)
    if where is not None and not is_canonical(where[0]):
        return (NonCanonical(cpu, where[0], Role.FETCH, where[1]),)
    if instruction.kind in (Kind.NEAR_JUMP, Kind.NEAR_CALL):
        for operand in instruction.operands:
            value = register_value(registers, getattr(operand, "name", ""))
            if value is not None and not is_canonical(value):
                return (NonCanonical(cpu, value, Role.FETCH, getattr(operand, "name", "")),)
    return ()


def _base(instruction: Instruction, stack: bool) -> str:
    if stack:
        return "rsp"
    operand: Optional[MemoryOperand] = instruction.memory
    return operand.base if operand is not None else ""


def _bad_rip(cpu: Optional[int], registers: Registers) -> tuple[Finding, ...]:
    rip = registers.rip
    if rip is not None and mode_of(registers) is Mode.LONG64 and not is_canonical(rip):
        return (NonCanonical(cpu, rip, Role.FETCH, "rip"),)
    return ()
