# SPDX-License-Identifier: BSD-2-Clause
"""64-bit code before and in C: the entry, the higher half, pointers."""

from __future__ import annotations

from typing import Optional

from debug.evidence import Evidence, Registers
from debug.explain import stages as stage
from debug.explain.findings import (
    FatalException,
    HaltedForever,
    HandedOver,
    MapDifference,
    NonCanonical,
    PageFault,
    Role,
    SentAstray,
    SharedStack,
    StageReached,
)
from debug.explain.findings.tables import CalledFrom, UpperHalfLost
from debug.explain.model import CpuState, Explanation, Status
from debug.failures import chapters
from debug.failures.row import Match, Place, Row, certain, likely, possible
from debug.x86.page_entries import Reason

_HIGHER_HALF = 0xFFFF_8000_0000_0000
_HALF_OF_32 = 0x8000_0000
_KERNEL_BASES = (  # where kernels map physical memory from 0 on
    *(0xFFFF_FFFF_8000_0000, 0xFFFF_FFFF_C000_0000, 0xFFFF_FF80_0000_0000),
    *(0xFFFF_8000_0000_0000, 0x8000_0000, 0xC000_0000),
)
_IMAGE = 1 << 24  # bytes from there in which a kernel's code lies
_TRAMPOLINE_64 = range(0x10, 0x66)
_WITH_GS = (*range(stage.AP_GS, 0xB0), *range(stage.BSP_C, 0xD0))  # lit through GS base


def _maps(explanation: Explanation, cpu: Optional[int]) -> Optional[MapDifference]:
    return explanation.first(MapDifference, cpu)


def _fetch(explanation: Explanation) -> Optional[PageFault]:
    return next((f for f in explanation.all(PageFault) if f.role is Role.FETCH), None)


def _entry_null(evidence: Evidence, explanation: Explanation) -> Optional[Match]:
    fault = _fetch(explanation)
    reached = explanation.first(StageReached, fault.cpu if fault is not None else None)
    if fault is not None and fault.address == 0:
        shared = (f for f in explanation.all(SharedStack) if fault.cpu in (f.cpu, f.other))
        if (stack := next(shared, None)) is not None:
            return possible(fault, stack)  # or the other CPU overwrote a return address
        return certain(fault, explanation.first(CalledFrom, fault.cpu), reached)
    handed = explanation.first(HandedOver)
    if handed is not None and handed.target == 0 and explanation.status is not Status.HEALTHY:
        return likely(handed)
    for other in explanation.all(FatalException):
        view = explanation.view(other.cpu)
        low = other.rip is not None and other.rip < 0x1000
        if low and view is not None and view.mode in ("64-bit mode", "32-bit protected mode"):
            text = f"it executes at {other.rip:#x}, in the page of the interrupt vector table"
            near = other.rip is not None and other.rip < 0x20
            verdict = likely if near else possible
            return verdict(other, reached, extra=(text,))
    return None


def _entry_truncated(evidence: Evidence, explanation: Explanation) -> Optional[Match]:
    for sent in explanation.all(SentAstray):
        if sent.truncated:
            return likely(sent)
    fault = _fetch(explanation)
    if fault is None or not 0x1000 <= fault.address < 1 << 32 or fault.after_paging:
        return None
    for upper in (0xFFFF_FFFF << 32, 0xFFFF_8000 << 32):
        symbol = evidence.symbols.lookup(upper | fault.address)
        if symbol is not None and symbol.offset == 0:
            text = f"{upper | fault.address:#x} is {symbol}: the upper half was lost"
            return certain(fault, explanation.first(StageReached, fault.cpu), extra=(text,))
    lost = next((f for f in explanation.all(UpperHalfLost) if f.fetch), None)
    return likely(fault, lost) if lost is not None else None


def _higher_half(evidence: Evidence, explanation: Explanation) -> Optional[Match]:
    for fault in explanation.all(PageFault):
        if fault.reason is not Reason.NOT_PRESENT or fault.role in (Role.IDT, Role.GDT, Role.TSS):
            continue
        long = fault.address >= _HIGHER_HALF
        if not fault.cr3 or not (long or _directory_alone(explanation, fault)):
            continue
        top = not long or fault.depth >= 4  # not even the top level is there
        differs = _maps(explanation, fault.cpu)
        if differs is not None and fault.role is not Role.STACK:
            return certain(fault, differs)
        if top and fault.role is Role.FETCH:
            return certain(fault) if _links_there(evidence, fault.address) else possible(fault)
        if top and fault.role is not Role.STACK:
            known = evidence.symbols.lookup(fault.address) is not None
            lives = known or any(_lives_high(cpu.registers) for cpu in evidence.cpus)
            return likely(fault) if lives else possible(fault)  # or the pointer is garbage
    return None


def _links_there(evidence: Evidence, address: int) -> bool:
    """Whether a kernel has code at an address: garbage that is jumped to may lie as high."""
    if evidence.symbols.lookup(address) is not None:
        return True
    return any(0 < address - base < _IMAGE for base in _KERNEL_BASES)


def _directory_alone(explanation: Explanation, fault: PageFault) -> bool:
    """Whether a 32-bit kernel's page directory has no entry for an address in the upper half."""
    view = explanation.view(fault.cpu)
    legacy = view is not None and view.mode == "32-bit protected mode"
    return legacy and fault.level.startswith("PD[") and fault.address >= _HALF_OF_32


def _lives_high(registers: Registers) -> bool:
    """Whether a CPU's code, stack or tables are in the higher half: there is one."""
    tables = (registers.gdtr, registers.idtr)
    named = [registers.rip, registers.get("rsp"), *(t.base for t in tables if t is not None)]
    return any(value is not None and value >= _HIGHER_HALF for value in named)


def _entry_unmapped(evidence: Evidence, explanation: Explanation) -> Optional[Match]:
    fault = _fetch(explanation)
    if fault is None or fault.address < 0x1000 or fault.after_paging or fault.walk_succeeds:
        return None
    reached = explanation.first(StageReached, fault.cpu)
    about_to = reached is not None and reached.code == stage.AP_ENTERING_C
    if fault.reason is not Reason.NOT_PRESENT:
        return None
    if _entry_truncated(evidence, explanation) is not None:
        return None
    for base in _KERNEL_BASES:
        symbol = evidence.symbols.lookup(base + fault.address)
        if symbol is not None and symbol.offset == 0:
            text = (
                f"{fault.address:#x} is where {symbol} ({base + fault.address:#x}) lies in memory"
            )
            return certain(fault, reached, extra=(text,))
    called = explanation.first(CalledFrom, fault.cpu)
    if called is not None and called.low and called.target == fault.address:
        return certain(fault, called)
    if not about_to:
        return None
    if fault.address >= _HIGHER_HALF and (fault.depth >= 4 or _maps(explanation, fault.cpu)):
        return None  # the whole half is missing: that row says more
    return certain(fault, reached)


def _bad_jump(evidence: Evidence, explanation: Explanation) -> Optional[Match]:
    for address in explanation.all(NonCanonical):
        if address.role is Role.FETCH:
            return certain(address)
    return None


def _bad_pointer(evidence: Evidence, explanation: Explanation) -> Optional[Match]:
    for address in explanation.all(NonCanonical):
        if address.role is Role.DATA:
            return certain(address)
    return None


def _null_pointer(evidence: Evidence, explanation: Explanation) -> Optional[Match]:
    for fault in explanation.all(PageFault):
        if fault.role is Role.DATA and fault.address < 0x1000 and "gs:" not in fault.instruction:
            if "fs:" not in fault.instruction and _link_address(evidence, explanation) is None:
                return likely(fault)
    return None


def _link_address(evidence: Evidence, explanation: Explanation) -> Optional[Match]:
    """Trampoline code that addresses its data by their offsets: no base register, no page."""
    page = stage.argument(evidence, stage.BSP_TRAMPOLINE)
    for fault in explanation.all(PageFault):
        if page is None or fault.role is not Role.DATA or fault.register or fault.rip is None:
            continue
        absolute = "[0x" in fault.instruction and "gs:" not in fault.instruction
        if absolute and fault.address < 0x1000 and page <= fault.rip < page + 0x1000:
            there = f"the trampoline runs at {page:#x}; its own data lie there, {page:#x} higher"
            return likely(fault, extra=(there,))
    return None


def _gs_base(evidence: Evidence, explanation: Explanation) -> Optional[Match]:
    for fault in explanation.all(PageFault):
        uses = "gs:" in fault.instruction or "fs:" in fault.instruction
        small = fault.address < 0x10000 or fault.address >= (1 << 64) - 0x10000
        if uses and small:
            reached = explanation.first(StageReached, fault.cpu)
            if reached is not None and reached.code in _WITH_GS:
                text = "its stages say that GS base was set: it was not, or something has changed it since"
                return likely(fault, reached, extra=(text,))
            if (fault.address, "fs:" in fault.instruction) == _CANARY:
                return certain(fault, extra=(_PROTECTOR,))
            return certain(fault) if reached is not None else likely(fault, extra=(_OR_LOST,))
    return None


_CANARY = (0x28, True)  # fs:0x28, where the ABI has it
_PROTECTOR = (
    "fs:0x28 is where the compiler's stack protector keeps its canary: a kernel without that is"
    " compiled with -fno-stack-protector"
)
_OR_LOST = (
    "the base is 0 now; whether it ever was another is not seen: a load of FS or GS clears it, and a"
    " SWAPGS too many takes it away"
)


def _not_entered(evidence: Evidence, explanation: Explanation) -> Optional[Match]:
    """An AP that halts in the trampoline, after some of its stages and before C."""
    for halted in explanation.all(HaltedForever):
        reached = explanation.first(StageReached, halted.cpu)
        if reached is not None and reached.code in _TRAMPOLINE_64:
            return certain(halted, reached)
    for view in explanation.cpus:
        reached = explanation.first(StageReached, view.index)
        stuck = view.state in (CpuState.SPINNING, CpuState.RUNNING, CpuState.PARKED, CpuState.IDLE)
        if reached is None or not stuck or reached.code not in range(0x60, 0x66):
            continue
        if explanation.status in (Status.MISSING_CPU, Status.HANG):
            return likely(reached, cpu=view.index, extra=(f"it is {view.doing}",))
    return None


ROWS = (
    Row(
        "link-address-used",
        "trampoline code addresses its data by their link-time address",
        Place.LONG64,
        ("AP dies at its first parameter", "#PF CR2 below 0x1000 in the trampoline"),
        "code in the trampoline's page accesses an absolute address below 4 KiB, an offset of the"
        " page",
        "the operand has the page's address in a base register",
        "add the page's address (kept in a register since real mode) to every operand, or use"
        " RIP-relative addressing",
        "RIP-Relative Addressing",
        chapters.TRAMPOLINE,
        ("AP2-06", "AP1-07", "BLD-03"),
        _link_address,
        ("ap-lcpus-at-link-address",),
    ),
    Row(
        "entry-null",
        "the CPU was sent to address 0: a pointer to code is 0",
        Place.LONG64,
        ("AP hangs in 64-bit", "RIP is 0", "AP executes the IVT"),
        "the CPU fetches from address 0, or executes in page 0 in 64-bit mode",
        "the instruction pointer was never in page 0",
        "of an AP, fill in its entry (lcpu.entry) before its SIPI; else look for a function pointer that"
        " was never set, or a return address that was overwritten",
        "Instruction Pointer",
        chapters.INTO_C,
        ("ENT-01",),
        _entry_null,
        ("ap-entry-null",),
        over=("no-code-at-rip", "executing-zeros"),
    ),
    Row(
        "entry-truncated",
        "the entry pointer lost its upper half",
        Place.LONG64,
        ("AP hangs in 64-bit", "RIP equals the low half of a symbol"),
        "the fetch address, with the higher half's bits put back, is a symbol",
        "the fetch address is no symbol's low half",
        "load the entry with a 64-bit mov, or movabs",
        "Instruction Pointer",
        chapters.INTO_C,
        ("ENT-02", "BLD-04"),
        _entry_truncated,
        ("ap-entry-truncated",),
        over=("executing-zeros", "entry-no-code"),
    ),
    Row(
        "entry-unmapped",
        "the entry's address is not mapped: it is wrong, or a physical one",
        Place.LONG64,
        ("AP hangs in 64-bit", "entry point not mapped", "CR2 equals RIP"),
        "the fetch at the entry's address fails while neighbours are mapped",
        "the address is mapped and executable",
        "store the entry's linear address, as the page tables that the AP loads map it",
        "Instruction Pointer",
        chapters.INTO_C,
        ("ENT-02", "ENT-07", "BLD-02", "PG-22"),
        _entry_unmapped,
    ),
    Row(
        "higher-half-unmapped",
        "the higher half is missing in the page tables that this CPU loaded",
        Place.LONG64,
        ("AP dies at its first access to the kernel", "PML4[511] is 0", "CR2 0xffffffff8…"),
        "an access to a higher-half address fails at the top level, or only with this CPU's CR3",
        "the higher half is mapped in this CPU's tables",
        "copy the kernel's PML4 entries (256 to 511) into the tables that the APs load",
        "4-Level Paging and 5-Level Paging",
        chapters.LONG_MODE,
        ("LM-06", "AP4-05", "PG-27"),
        _higher_half,
        ("ap-higher-half-unmapped", "bsp-higher-half-unmapped"),
    ),
    Row(
        "entry-not-called",
        "the CPU stopped in the trampoline: the entry was never called",
        Place.LONG64,
        ("AP executes but no output", "AP halts before C"),
        "the CPU halts or loops with a last stage before C",
        "the CPU lit a stage in C",
        "let the trampoline end in a jump to lcpu.entry; the last stage says how far it came",
        "HLT-Halt",
        chapters.INTO_C,
        ("HANG-01", "AP4-13", "AP2-06"),
        _not_entered,
        ("ap-entry-not-called",),
    ),
    Row(
        "jump-non-canonical",
        "a jump, call or return to an address that is not canonical",
        Place.LONG64,
        ("#GP(0) at jmp or call", "RIP is garbage"),
        "the target's bits 63 to 47 are not all equal",
        "the target is canonical",
        "check where the pointer comes from: an uninitialised field, or a smashed stack",
        "Canonical Addressing",
        chapters.INTO_C,
        ("LM-11",),
        _bad_jump,
        ("ap-entry-non-canonical",),
    ),
    Row(
        "pointer-non-canonical",
        "a pointer that is not canonical was used",
        Place.LONG64,
        ("#GP(0) without CR2", "wrong sign extension"),
        "the operand's address has bits 63 to 47 that are not all equal",
        "the address is canonical",
        "sign-extend addresses from bit 47; mask flags out of page-table entries",
        "Canonical Addressing",
        chapters.INTO_C,
        ("LM-10", "PG-26"),
        _bad_pointer,
    ),
    Row(
        "null-pointer",
        "a null pointer was used, or a field of a structure at address 0",
        Place.RUNNING,
        ("#PF with a small CR2", "null pointer"),
        "a data access faults below 0x1000",
        "CR2 is not small",
        "look at the register that held the pointer, and who should have set it",
        "Interrupt 14-Page-Fault Exception (#PF)",
        chapters.INTO_C,
        ("ENT-03", "AP4-07"),
        _null_pointer,
    ),
    Row(
        "gs-base-not-set",
        "per-CPU data was used while FS or GS base was not set",
        Place.LONG64,
        ("#PF with CR2 0x28", "stack protector before GS is set", "swapgs"),
        "an access through FS or GS faults near address 0",
        "the segment's base is set",
        "set IA32_GS_BASE before the first per-CPU access; load no GS selector after it, and let each"
        " SWAPGS have its other one; a kernel with no canary needs -fno-stack-protector",
        "Segment Registers in 64-Bit Mode",
        chapters.INTO_C,
        ("CPU-02", "CPU-03", "CPU-04", "CPU-05", "BLD-08"),
        _gs_base,
        (
            "ap-percpu-before-gs",
            "ap-gs-base-missing",
            "ap-gs-too-early",
        ),
    ),
)
