# SPDX-License-Identifier: BSD-2-Clause
"""What GDTR, CR3, the segment registers and error codes prove about tables and selectors."""

from __future__ import annotations

from typing import Iterator, Optional

from debug.explain.clues.moment import Moment
from debug.explain.context import VECTORS
from debug.explain.findings.evident import Clue, Evident, Proof
from debug.x86.exceptions import DF, GP, NP, PF, UD, PageFaultCode, SelectorCode
from debug.x86.modes import MASK32, Mode, PagingMode, paging_mode_of
from debug.x86.registers import Cr4, Rflags

_P, _W = int(PageFaultCode.P), int(PageFaultCode.W)
_DATA = ("ds", "es", "fs", "gs")
_NEAR = 64  # bytes behind the end of the GDT that a mistaken selector of one's own reaches
_FLAGS = Rflags.IF | 2
_ROM_SEGMENT, _ROM_OFFSETS = 0xF000, 0xC000  # of the vectors that lead into the BIOS


def findings(moment: Moment) -> Iterator[Evident]:
    """The facts about tables and selectors, most telling first."""
    for one in (
        _gate(moment),
        _own_gate(moment),
        _gdt_null(moment),
        _gdt_astray(moment),
        _gdt_replaced(moment),
        _code_refused(moment),
        _l_bit(moment),
        _compatibility(moment),
        _frame_to_vm86(moment),
        _selector(moment),
        _return_to_user(moment),
        _null_segment(moment),
        _cr3(moment),
        _lme_not_set(moment),
        _code_lost(moment),
    ):
        if one is not None:
            yield one


def _gate(moment: Moment) -> Optional[Evident]:
    """The error code names the gate of the interrupt that was being delivered."""
    code, number = moment.error_code, moment.delivering
    if moment.vector not in (GP, NP) or code is None or number is None or number < 32:
        return None
    selector, table = SelectorCode(code), moment.registers.idtr
    # TCG scales by 16 where a gate lies beyond the limit in long mode.
    if not selector.idt or number not in (selector.index, code >> 4):
        return None
    size = 16 if moment.mode.long else 8
    if table is not None and number * size + size - 1 > table.limit:
        line = (
            f"vector {number:#x} arrived, and its gate is beyond the IDT's limit {table.limit:#x}"
        )
        return Evident(moment.cpu, Clue.GATE_MISSING, Proof.ALONE, (line,))
    line = (
        f"vector {number:#x} arrived, and the error code {code:#x} refuses its gate: it is empty or"
        " not valid"
    )
    return Evident(moment.cpu, Clue.GATE_MISSING, Proof.ALONE, (line,))


def _own_gate(moment: Moment) -> Optional[Evident]:
    """The error code of what followed names the gate of the exception itself."""
    number, table = moment.vector, moment.registers.idtr
    if number is None or number >= 32 or moment.refused != number or table is None:
        return None
    size = 16 if moment.mode.long else 8
    if number * size + size - 1 > table.limit or not table.base or not moment.mode.protected:
        return None  # no IDT, the BIOS's vectors, or a short one: other rows say so
    line = (
        f"the error code of what followed refuses gate {number} of the IDT at {table.base:#x}: it is"
        " empty or not valid"
    )
    return Evident(moment.cpu, Clue.GATE_EMPTY, Proof.HINT, (line,))


def _gdt_null(moment: Moment) -> Optional[Evident]:
    table = moment.registers.gdtr
    if table is None or table.limit or not moment.mode.protected:
        return None
    if moment.mode is Mode.LONG64 or moment.vector not in (GP, NP, DF, None):
        return None
    line = (
        f"GDTR is base {table.base:#x} limit 0 in protected mode: lgdt loaded zeros, no selector"
        " can be used, and no reset leaves that"
    )
    return Evident(moment.cpu, Clue.GDT_NULL, Proof.FITS, (line,))


def _refused(moment: Moment) -> Optional[int]:
    """The selector within the GDT that the error code names."""
    code, table = moment.error_code, moment.registers.gdtr
    if moment.vector not in (GP, NP) or not code or table is None or not moment.first:
        return None
    named = SelectorCode(code)
    if named.idt or code & 4 or not named.selector or named.selector | 7 > table.limit:
        return None
    return named.selector


def _gdt_astray(moment: Moment) -> Optional[Evident]:
    """GDTR names the vector table, or holds what LGDT read there: DS was another one."""
    selector, table = _refused(moment), moment.registers.gdtr
    if selector is None or table is None:
        return None
    line = (
        f"selector {selector:#06x}, within the limit {table.limit:#x}, was refused: GDTR's base is"
    )
    if table.base + selector < VECTORS:
        lines = (f"{line} {table.base:#x}, where the interrupt vectors and the BIOS's data are",)
    elif table.base & 0xFFFF == _ROM_SEGMENT and table.limit >= _ROM_OFFSETS:
        lines = (
            f"{line} {table.base:#x}, and with its limit that is what the interrupt vector table holds:"
            " LGDT read its operand there, relative to another DS",
        )
    else:
        return None
    return Evident(moment.cpu, Clue.GDT_ASTRAY, Proof.FITS, lines)


def _gdt_replaced(moment: Moment) -> Optional[Evident]:
    """A gate with the selector that CS holds was refused: CS was loaded from another table."""
    selector, table = _refused(moment), moment.registers.gdtr
    code = moment.registers.segments.get("cs")
    if selector is None or table is None or code is None or moment.delivering is None:
        return None
    if selector != code.selector & 0xFFFC or _gdt_astray(moment):
        return None
    lines = (
        f"vector {moment.delivering:#x} arrived, and the selector in its gate, {selector:#06x}, was"
        " refused: CS holds that very selector",
        f"the table at {table.base:#x} is not the GDT that CS was loaded from: it was overwritten, it"
        " lies elsewhere, or a new one has no code segment there",
    )
    return Evident(moment.cpu, Clue.GDT_ASTRAY, Proof.HINT, lines)


def _code_refused(moment: Moment) -> Optional[Evident]:
    """The far jump after a switch of modes was refused: a register still holds CR0's value."""
    selector, cr0 = _refused(moment), moment.get("cr0")
    held = [moment.shown(name) for name, value in moment.general() if value == cr0]
    if (
        selector is None
        or not held
        or _gdt_astray(moment)
        or moment.cpl != 0
        or moment.mode is Mode.LONG64
    ):
        return None
    what = f"{held[0]} still holds CR0's value {cr0 or 0:#x}: what was refused is the far jump after it"
    if moment.vector == NP:
        line = f"#NP names selector {selector:#06x}: its descriptor has P=0, or is garbage"
        return Evident(moment.cpu, Clue.CODE_ABSENT, Proof.FITS, (line, what))
    line = f"#GP names selector {selector:#06x}, within the GDT: it is no code segment there"
    return Evident(moment.cpu, Clue.CODE_REFUSED, Proof.HINT, (line, what))


def _l_bit(moment: Moment) -> Optional[Evident]:
    """Compatibility mode with a GDT that only 64-bit code can have loaded."""
    table, code = moment.registers.gdtr, moment.registers.segments.get("cs")
    if moment.mode not in (Mode.COMPAT32, Mode.COMPAT16) or moment.cpl != 0:
        return None
    if table is None or code is None or table.base <= MASK32 or not code.selector & 0xFFFC:
        return None  # with a null selector no descriptor was loaded
    lines = (
        f"CS {code.selector:#06x} has L=0 while EFER.LMA=1: the CPU is in {moment.mode.value}",
        f"GDTR's base {table.base:#x} was loaded in 64-bit mode, since LGDT takes 32 bits"
        " elsewhere: a far return or IRET then loaded this CS",
    )
    return Evident(moment.cpu, Clue.L_BIT_MISSING, Proof.FITS, lines)


def _compatibility(moment: Moment) -> Optional[Evident]:
    """A kernel in compatibility mode, in which it only passes through to its 64-bit code."""
    code, table = moment.registers.segments.get("cs"), moment.registers.gdtr
    if moment.mode not in (Mode.COMPAT32, Mode.COMPAT16) or moment.cpl != 0 or not moment.first:
        return None
    if code is None or table is not None and table.base > MASK32:
        return None  # it was in 64-bit mode before: another row says more
    if moment.vector != UD and (moment.vector != GP or moment.error_code):
        return None
    lines = (
        f"CS {code.selector:#06x} has L=0 while EFER.LMA=1: the CPU is in {moment.mode.value}, at CPL 0",
        "code assembled for 64 bits is decoded as other instructions there; a prefix 48H is DEC EAX",
    )
    proof = Proof.FITS if moment.vector == UD else Proof.HINT
    return Evident(moment.cpu, Clue.COMPATIBILITY, proof, lines)


def _frame_to_vm86(moment: Moment) -> Optional[Evident]:
    """RFLAGS.VM is set, which only IRET and a task switch can do, and no event before had it."""
    if moment.mode is not Mode.VM86 or not moment.before:
        return None
    if any((event.registers.rflags or 0) & Rflags.VM for event in moment.before):
        return None
    lines = [
        "EFLAGS.VM is set, and it was clear in every event before: an IRET popped it, and entered"
        " virtual-8086 mode"
    ]
    code = moment.registers.segments.get("cs")
    if code is not None and code.selector & 0x202 == _FLAGS and code.selector < 0x1000:
        lines.append(f"CS {code.selector:#06x} is what EFLAGS looks like: the frame is shifted")
    return Evident(moment.cpu, Clue.RETURN_FRAME, Proof.FITS, tuple(lines))


def _selector(moment: Moment) -> Optional[Evident]:
    """A selector beyond the GDT: one's own mistake if it is near the end, else popped garbage."""
    code, table = moment.error_code, moment.registers.gdtr
    if moment.vector != GP or not code or table is None or not table.limit:
        return None
    named = SelectorCode(code)
    if named.idt or not named.selector:
        return None
    selector, local = named.selector, moment.registers.segments.get("ldt")
    if code & 4:
        if local is None or local.selector & 0xFFFC:
            return None
        line = f"selector {selector:#06x} was used: it names the LDT, and LDTR is null"
    elif selector | 7 <= table.limit:
        return None
    else:
        line = f"selector {selector:#06x} was used, and the GDT ends at {table.limit:#x}"
    if not code & 4 and (selector | 7) - table.limit <= _NEAR:
        return Evident(moment.cpu, Clue.BEYOND_GDT, Proof.FITS, (line,))
    far = "no table of this kernel has it: it is a number that was popped, not a selector"
    restored = _restored(moment)
    if not restored:
        return Evident(moment.cpu, Clue.RETURN_FRAME, Proof.HINT, (line, far))
    return Evident(moment.cpu, Clue.RETURN_FRAME, Proof.FITS, (line, far, restored))


def _restored(moment: Moment) -> str:
    """The data segments are a program's already, while the code is still the kernel's."""
    if moment.cpl != 0:
        return ""
    held = [moment.registers.segments.get(name) for name in ("ds", "es")]
    if not all(one is not None and one.selector & 3 == 3 for one in held):
        return ""
    shown = held[0].selector if held[0] is not None else 0
    return f"DS and ES hold {shown:#06x} at CPL 0: the next instruction is the IRET to ring 3"


def _return_to_user(moment: Moment) -> Optional[Evident]:
    """#GP(0) in ring 0 with a program's registers in place: perhaps a null CS or SS popped."""
    if moment.vector != GP or moment.error_code != 0 or moment.cpl != 0 or moment.words:
        return None
    rsp, rbp = moment.get("rsp"), moment.get("rbp")
    pointers = [
        event.registers.get("rsp")
        for event in moment.before
        if event.registers.cpl == 3 and event.registers.get("rsp") is not None
    ]
    near = [p for p in pointers if p is not None and rbp is not None and abs(p - rbp) < 4096]
    restored = _restored(moment)
    if rsp is None or not (restored or near):
        return None
    why = restored or f"RBP {rbp:#x} is the program's: its registers were popped already"
    line = "#GP(0) in the kernel names no selector: IRET raises it for a null CS or SS in its frame"
    return Evident(moment.cpu, Clue.RETURN_FRAME, Proof.HINT, (line, why))


def _null_segment(moment: Moment) -> Optional[Evident]:
    """#GP(0) without a word, and a data segment register that is null."""
    if moment.vector != GP or moment.error_code != 0 or moment.words:
        return None
    if moment.mode is not Mode.PROTECTED32:
        return None
    held = {name: moment.registers.segments.get(name) for name in _DATA}
    null = [name for name, one in held.items() if one is not None and not one.selector & 0xFFFC]
    if not null or len(null) == len(held) and moment.cpl == 3:
        return None
    names = ", ".join(name.upper() for name in null)
    lines = (
        f"{names} hold a null selector: every access through one raises #GP(0)",
        "a return to ring 3 nulls the segment registers whose DPL is below 3",
    )
    telling = len(null) < len(held) and ("ds" in null or "es" in null)
    return Evident(moment.cpu, Clue.NULL_SEGMENT, Proof.FITS if telling else Proof.HINT, lines)


def _cr3(moment: Moment) -> Optional[Evident]:
    """Address bits below the alignment of the top table: CR3 holds no table's address."""
    cr3, mode = moment.get("cr3"), paging_mode_of(moment.registers)
    if cr3 is None or mode in (None, PagingMode.NONE) or not moment.paging:
        return None
    if (moment.get("cr4") or 0) & Cr4.PCIDE or moment.vector not in (PF, DF, None):
        return None
    ignored = 0x7 if mode is PagingMode.PAE else 0xFE7
    if not cr3 & ignored:
        return None
    lines = [f"CR3 is {cr3:#x}, which is no multiple of 4096: it is no table's address"]
    same = [moment.shown(name) for name, value in moment.general() if value == cr3]
    if same:
        lines.append(f"{same[0]} holds the same value: it was moved into CR3")
    proof = Proof.FITS if moment.page_fault or same else Proof.HINT
    return Evident(moment.cpu, Clue.CR3_MISALIGNED, proof, tuple(lines))


def _walks_pae(moment: Moment) -> bool:
    """Whether it is known that EFER.LME is 0 and CR4.PAE 1: no way to long mode ends there."""
    known = moment.get("efer") is not None and moment.get("cr4") is not None
    return known and paging_mode_of(moment.registers) is PagingMode.PAE


def _lme_not_set(moment: Moment) -> Optional[Evident]:
    """Paging was turned on with CR4.PAE set, for which few 32-bit kernels have a use."""
    if not _walks_pae(moment) or not moment.first or moment.cpl != 0:
        return None
    lost, cr0 = _code_lost(moment), moment.get("cr0")
    if lost is not None and lost.clue is not Clue.CODE_LOST_WITH_PG:
        return None
    said = lost.lines if lost is not None else ()
    if lost is None:
        held = [moment.shown(name) for name, value in moment.general() if value == cr0]
        if not held or moment.vector not in (PF, UD, GP) or moment.fetch:
            return None
        said = (
            f"{held[0]} still holds CR0's value {cr0 or 0:#x}: paging has only just been turned on,"
            " and what runs now is not the code that was there before",
        )
    lines = (
        *said,
        f"CR4.PAE is 1 and EFER is {moment.get('efer') or 0:#x}, LME=0: the tables are walked as"
        " those of PAE. A kernel on its way to long mode has not set LME, or this CPU does not have"
        " it (qemu-system-i386, -cpu qemu32) and ignores it; of a 32-bit kernel with PAE, the"
        " tables lack the code that turns paging on",
    )
    return Evident(moment.cpu, Clue.LME_NOT_SET, Proof.FITS, lines)


def _code_lost(moment: Moment) -> Optional[Evident]:
    """The fetch after MOV CR0 or MOV CR3 fails: a register still holds the value."""
    cr0, cr3, rip = moment.get("cr0"), moment.get("cr3"), moment.get("rip")
    if not cr3 or not cr0 or rip is None or not moment.fetch:
        return None
    if moment.error(_P) or moment.error(_W):
        return None
    switch = [moment.shown(name) for name, value in moment.general() if value == cr0]
    if switch and moment.paging:
        lines = [
            f"the fetch at {rip:#x} failed, and {switch[0]} still holds CR0's value {cr0:#x}:"
            " paging has only just been turned on, with tables that do not map the code"
        ]
        proof = Proof.HINT if _walks_pae(moment) else Proof.FITS
        return Evident(moment.cpu, Clue.CODE_LOST_WITH_PG, proof, tuple(lines))
    source = [moment.shown(name) for name, value in moment.general() if value == cr3]
    if not source:
        return None
    lines = [
        f"the fetch at {rip:#x} failed, and {source[0]} still holds CR3's value {cr3:#x}: CR3 has"
        " only just been loaded, with tables that do not map the code"
    ]
    olds = [e for e in moment.before if e.registers.get("cr3") not in (None, 0, cr3)]
    ran = next(
        (e for e in reversed(olds) if abs((e.registers.rip or 0) - rip) < 1 << 20),
        None,
    )
    if ran is not None:
        lines.append(
            f"with CR3 {ran.registers.get('cr3') or 0:#x} the code around it ran (at"
            f" {ran.registers.rip or 0:#x})"
        )
    proof = Proof.FITS if ran is not None else Proof.HINT
    return Evident(moment.cpu, Clue.CODE_LOST_WITH_CR3, proof, tuple(lines))
