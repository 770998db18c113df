# SPDX-License-Identifier: BSD-2-Clause
"""Would this instruction fault?  The fetch, the instruction itself, then its operands.

One answer for any instruction: the first check that fails, with the exception that hardware
raises; None when nothing here stops it.  Instructions that only some CPUs have pass.

[SDM 2, each instruction's exceptions and "Instruction Exception Specification"; SDM 3A "Limit
Checking", "System Programming for Instruction Set Extensions"]
"""

from __future__ import annotations

from typing import Optional

from debug.evidence import Registers, Segment
from debug.x86.accesses import (
    DataAccess,
    accesses,
    control_write,
    far_target,
    msr_write,
    selector_load,
    table_load,
)
from debug.x86.canonical import is_canonical
from debug.x86.control_checks import (
    check_control_write,
    check_table_load,
    check_wrmsr,
    check_xsetbv,
)
from debug.x86.delivery import deliver
from debug.x86.exceptions import AC, GP, NM, SS, UD
from debug.x86.instruction import ImmediateOperand, Instruction, Kind, RegisterOperand
from debug.x86.linear import LinearMemory
from debug.x86.modes import MASK32, Mode, linear, linear_pc, mode_of, privilege
from debug.x86.paging import Access, Walk
from debug.x86.refusals import Check, Refusal, Undecided, Verdict, page_refusal
from debug.x86.registers import Cr0, Cr4, Efer, Rflags, Xcr0, iopl, register_value
from debug.x86.return_checks import check_return
from debug.x86.segment_checks import (
    check_far_transfer,
    check_lldt,
    check_load,
    check_ltr,
    linear_bits,
)


def check_fetch(memory: LinearMemory, length: int = 1) -> Verdict:
    """The fetch of `length` bytes at CS:RIP: canonical, within CS's limit, executable."""
    registers = memory.registers
    mode, code, rip = mode_of(registers), registers.segments.get("cs"), registers.rip
    where = linear_pc(registers)
    if rip is None or where is None or mode is Mode.UNKNOWN:
        return Undecided("CS:RIP or the mode is not known")
    if mode is Mode.LONG64:
        if not is_canonical(rip, linear_bits(registers)):
            return Refusal(Check.NON_CANONICAL, f"RIP {rip:#x} is not canonical", GP, 0)
    elif code is not None and rip + length - 1 > code.limit:
        sentence = f"the offset {rip:#x} is beyond CS's limit {code.limit:#x}"
        return Refusal(Check.SEGMENT_LIMIT, sentence, GP, _code(mode))
    if memory.tables is None:
        return Undecided("the page tables are not known")
    access = Access(fetch=True, user=privilege(registers) == 3)
    found = memory.first_fault(where, length, access)
    return None if found is None else _page(found, "the instruction")


def _code(mode: Mode) -> Optional[int]:
    """#GP and #SS have no error code in real mode."""
    return None if mode is Mode.REAL else 0


def _page(found: Walk, what: str) -> Verdict:
    return page_refusal(Check.NOT_PRESENT, what, found)


def check_instruction(
    memory: LinearMemory, instruction: Instruction, xcr0: Optional[int] = None
) -> Verdict:
    """`instruction` with the registers of `memory`; its fetch is `check_fetch`'s.

    `xcr0` is not in a register dump: None counts as allowing everything.
    """
    registers = memory.registers
    verdict = _check_enabled(registers, instruction, xcr0)
    if verdict is not None:
        return verdict
    if instruction.privileged and privilege(registers) not in (0, None):
        sentence = f"{instruction.mnemonic} at CPL {privilege(registers)}"
        return Refusal(Check.CPL, sentence, GP, 0)
    verdict = _check_iopl(registers, instruction)
    if verdict is not None:
        return verdict
    operands = check_accesses(memory, instruction)
    return operands if operands is not None else _check_effect(memory, instruction)


def _check_iopl(registers: Registers, instruction: Instruction) -> Verdict:
    """CLI and STI of a program; CR4.PVI lets ring 3 have a flag of its own."""
    cpl, flags, cr4 = privilege(registers), registers.rflags, registers.get("cr4")
    if instruction.mnemonic not in ("cli", "sti") or cpl is None or flags is None or cr4 is None:
        return None
    level = iopl(flags)
    if cpl <= level or cr4 & Cr4.PVI or mode_of(registers) in (Mode.REAL, Mode.VM86):
        return None
    return Refusal(Check.CPL, f"{instruction.mnemonic} at CPL {cpl} with IOPL {level}", GP, 0)


_NEEDS_CR4 = {
    **dict.fromkeys("rdfsbase rdgsbase wrfsbase wrgsbase".split(), Cr4.FSGSBASE),
    **dict.fromkeys("xgetbv xsetbv xsave xsave64 xrstor xrstor64 xsaveopt".split(), Cr4.OSXSAVE),
    **dict.fromkeys("xsaveopt64 xsavec xsavec64 xsaves xsaves64 xrstors".split(), Cr4.OSXSAVE),
}


def _check_enabled(registers: Registers, instruction: Instruction, xcr0: Optional[int]) -> Verdict:
    """#UD and #NM: is what the instruction needs turned on in CR0, CR4, EFER and XCR0?"""
    cr0, cr4, efer = (registers.get(name) for name in ("cr0", "cr4", "efer"))
    name, mode = instruction.mnemonic, mode_of(registers)

    def undefined(why: str) -> Refusal:
        return Refusal(Check.MODE, f"{name}: {why}", UD)

    if instruction.kind is Kind.INVALID:
        return undefined("the instruction that is always undefined")
    needed = _NEEDS_CR4.get(name)
    if needed is not None and cr4 is not None and not cr4 & needed:
        return undefined(f"CR4.{needed.name}=0")
    if name in ("syscall", "sysret", "sysretq") and efer is not None and not efer & Efer.SCE:
        return undefined("EFER.SCE=0")
    vector = instruction.vex or instruction.evex
    if vector and mode in (Mode.REAL, Mode.VM86):
        return undefined(f"VEX and EVEX encodings do not exist in {mode.value}")
    if vector and uses_vectors(instruction):
        if cr4 is not None and not cr4 & Cr4.OSXSAVE:
            return undefined("CR4.OSXSAVE=0")
        wanted = Xcr0.SSE | Xcr0.AVX
        if xcr0 is not None and xcr0 & wanted != int(wanted):
            return undefined(f"XCR0 is {xcr0:#x}, without SSE and AVX")
    mmx = any(
        isinstance(item, RegisterOperand) and item.name[:2] == "mm" for item in instruction.operands
    )
    if cr0 is not None and cr0 & Cr0.EM:
        if instruction.sse or mmx:
            return undefined("CR0.EM=1")
        if instruction.x87:
            return Refusal(Check.MODE, f"{name}: CR0.EM=1", NM)
    if instruction.sse and cr4 is not None and not cr4 & Cr4.OSFXSR:
        return undefined("CR4.OSFXSR=0")
    lazy = instruction.sse or instruction.x87 or vector and uses_vectors(instruction)
    if lazy and cr0 is not None and cr0 & Cr0.TS:
        return Refusal(Check.MODE, f"{name}: CR0.TS=1", NM)
    return None


def uses_vectors(instruction: Instruction) -> bool:
    """False for VEX encodings on general registers (BMI), which need nothing turned on."""
    names = [item.name for item in instruction.operands if isinstance(item, RegisterOperand)]
    return instruction.mnemonic[:1] == "v" or any(name[1:3] == "mm" for name in names)


def check_accesses(memory: LinearMemory, instruction: Instruction) -> Verdict:
    """The instruction's data accesses: alignment, canonical form, segment limits, pages."""
    registers = memory.registers
    for access in accesses(instruction, registers):
        verdict = _check_segment(registers, access)
        if verdict is not None:
            return verdict
        where = access.linear
        if access.what == "operand" and where is not None and where % instruction.alignment:
            sentence = f"{where:#x} is not aligned to {instruction.alignment} bytes"
            return Refusal(Check.MISALIGNED, sentence, GP, _code(mode_of(registers)))
        if access.linear is None or memory.tables is None:
            return Undecided(f"the address or the page tables of the {access.what} are not known")
        found = memory.first_fault(access.linear, access.size, _paging_access(registers, access))
        if found is not None:
            return _page(found, f"the {access.what}")
        if _unaligned_for_ac(registers, access):
            return Refusal(Check.MISALIGNED, f"{access.linear:#x} with CR0.AM and AC set", AC, 0)
    return None


def _paging_access(registers: Registers, access: DataAccess) -> Access:
    flags = registers.rflags or 0
    user = privilege(registers) == 3
    return Access(write=access.write, user=user, ac=bool(flags & Rflags.AC))


def _unaligned_for_ac(registers: Registers, access: DataAccess) -> bool:
    cr0, flags = registers.get("cr0") or 0, registers.rflags or 0
    on = cr0 & Cr0.AM and flags & Rflags.AC and privilege(registers) == 3
    return bool(on) and access.size in (2, 4, 8) and (access.linear or 0) % access.size != 0


def _check_segment(registers: Registers, access: DataAccess) -> Verdict:
    mode = mode_of(registers)
    stack = access.segment == "ss"
    vector = SS if stack else GP
    if mode is Mode.LONG64:
        where = linear(registers, access.segment, access.offset)
        if where is not None and not is_canonical(where, linear_bits(registers)):
            return Refusal(Check.NON_CANONICAL, f"{where:#x} is not canonical", vector, 0)
        return None
    segment = registers.segments.get(access.segment)
    if segment is None:
        return None
    name = access.segment.upper()
    if mode.protected and segment.selector & 0xFFFC == 0 and not segment.present:
        return Refusal(Check.NULL_SELECTOR, f"{name} is null", vector, 0)
    stale = mode is Mode.PROTECTED16  # segments may still be those of real mode
    if mode.protected and not stale and access.write and segment.type & 0xA != 2:
        return Refusal(Check.WRONG_TYPE, f"{name} is not writable", GP, 0)
    if _beyond(segment, access):
        sentence = f"{name}:{access.offset:#x} is beyond the limit {segment.limit:#x}"
        return Refusal(Check.SEGMENT_LIMIT, sentence, vector, _code(mode))
    return None


def _beyond(segment: Segment, access: DataAccess) -> bool:
    last = access.offset + access.size - 1
    if segment.type & 0xC == 4:  # expand-down data
        return access.offset <= segment.limit or last > (MASK32 if segment.big else 0xFFFF)
    return last > segment.limit


def _check_effect(memory: LinearMemory, instruction: Instruction) -> Verdict:
    """What the instruction does with the values that it has read."""
    registers, kind = memory.registers, instruction.kind
    if kind is Kind.WRITE_CONTROL:
        new = control_write(instruction, registers, memory)
        if new is None:
            return Undecided("the new value is not known")
        return check_control_write(registers, *new, memory.memory)
    if kind in (Kind.WRMSR, Kind.XSETBV):
        pair = msr_write(registers)
        if pair is None:
            return Undecided("ECX, EDX and EAX are not known")
        return check_wrmsr(registers, *pair) if kind is Kind.WRMSR else check_xsetbv(*pair)
    if kind in (Kind.LGDT, Kind.LIDT):
        table = table_load(instruction, registers, memory)
        return Undecided("not readable") if table is None else check_table_load(registers, table)
    if kind in (Kind.LOAD_SEGMENT, Kind.LTR, Kind.LLDT):
        load = selector_load(instruction, registers, memory)
        if load is None:
            return Undecided("the selector is not known")
        if kind is Kind.LTR:
            return check_ltr(memory, load[1])
        return check_lldt(memory, load[1]) if kind is Kind.LLDT else check_load(memory, *load)
    if kind in (Kind.FAR_JUMP, Kind.FAR_CALL):
        target = far_target(instruction, registers, memory)
        if target is None:
            return Undecided("the far pointer is not known")
        return check_far_transfer(memory, *target)
    if kind in (Kind.IRET, Kind.FAR_RETURN):
        return check_return(memory, instruction)
    if kind is Kind.SOFTWARE_INTERRUPT:
        return _check_interrupt(memory, instruction)
    return _check_near(registers, instruction)


def _check_interrupt(memory: LinearMemory, instruction: Instruction) -> Verdict:
    first = instruction.operands[0] if instruction.operands else None
    if not isinstance(first, ImmediateOperand):
        return None  # INT3, INT1 and INTO arrive as the exceptions they raise
    found = deliver(memory, first.value & 0xFF, software=True)
    return found.refusal or (Undecided(found.undecided) if found.undecided else None)


def _check_near(registers: Registers, instruction: Instruction) -> Verdict:
    """A near transfer in 64-bit mode: the new RIP must be canonical."""
    kinds = (Kind.NEAR_JUMP, Kind.NEAR_CALL)
    if instruction.kind not in kinds or mode_of(registers) is not Mode.LONG64:
        return None
    operand = instruction.operands[0] if instruction.operands else None
    if not isinstance(operand, RegisterOperand):
        return None
    target = register_value(registers, operand.name)
    if target is None or is_canonical(target, linear_bits(registers)):
        return None
    return Refusal(Check.NON_CANONICAL, f"the target {target:#x} is not canonical", GP, 0)
