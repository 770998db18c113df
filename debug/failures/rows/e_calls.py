# SPDX-License-Identifier: BSD-2-Clause
"""The hand-over to C and what C relies on: argument, fields, flags, the return address."""

from __future__ import annotations

from dataclasses import replace
from typing import Optional

from debug.evidence import Evidence
from debug.explain import stages as stage
from debug.explain.findings import (
    ConsoleSays,
    CpuDifference,
    FatalException,
    HandedOver,
    MapDifference,
    NonCanonical,
    PageFault,
    Role,
    SelectorFault,
    StackState,
    StageReached,
)
from debug.explain.findings.state import StringRunsAway
from debug.explain.findings.tables import (
    DirectionFlag,
    StackZeroed,
    UserBaseSwapped,
    VectorTablePointer,
)
from debug.explain.model import Explanation, Status
from debug.failures import chapters
from debug.failures.row import Match, Place, Row, certain, likely, possible
from debug.x86.exceptions import PF
from debug.x86.page_entries import Reason

_HANDOVER = (stage.AP_ENTERING_C, stage.AP_C)


_FIRST_BYTES = 0x20  # of memory: who runs there has just come to address 0
_SLOT = 1 << 39  # bytes that one entry of the PML4 maps


def _names_a_frame(evidence: Evidence, address: int) -> bool:
    """In the higher half, and RAM counted from where its entry of the PML4 begins."""
    return address >= 0xFFFF << 48 and evidence.memory.read(address % _SLOT, 1) is not None


def _mapped_by_bsp(explanation: Explanation, fault: PageFault) -> bool:
    differences = explanation.all(MapDifference, fault.cpu)
    return any(one.address == fault.address for one in differences)


def _argument(evidence: Evidence, explanation: Explanation) -> Optional[Match]:
    """The first C code on an AP fails on a pointer, right after the trampoline's jump."""
    for reached in explanation.all(StageReached):
        if reached.code != stage.AP_ENTERING_C:
            continue
        step = next((s for s in explanation.chain if s.cpu == reached.cpu), None)
        if step is None or ".c:" not in step.where:
            continue
        for fault in explanation.all(PageFault, reached.cpu):
            if _names_a_frame(evidence, fault.address):
                continue  # a window that is missing: garbage hardly looks like that
            if _mapped_by_bsp(explanation, fault):
                continue  # the pointer is good: the tables lack what it names
            if fault.role is Role.DATA and fault.reason is Reason.NOT_PRESENT and fault.register:
                return likely(fault, reached)
        for address in explanation.all(NonCanonical, reached.cpu):
            if address.role is Role.DATA:
                return likely(address, reached)
    return None


def _runs_away(evidence: Evidence, explanation: Explanation) -> Optional[Match]:
    found = explanation.first(StringRunsAway)
    return certain(found, explanation.first(PageFault, found.cpu)) if found is not None else None


def _field(evidence: Evidence, explanation: Explanation) -> Optional[Match]:
    """RIP is a stack, or RSP is code: a field of the parameters was taken for its neighbour."""
    for fault in explanation.all(PageFault):
        reached = explanation.first(StageReached, fault.cpu)
        state = explanation.first(StackState, fault.cpu)
        if reached is None or reached.code not in (stage.AP_LCPU_FOUND, *_HANDOVER):
            continue
        if fault.role is Role.FETCH and fault.rsp is not None:
            if 0 <= fault.address - fault.rsp <= 16:
                text = f"RIP {fault.address:#x} is the top of the stack that RSP names"
                return certain(fault, reached, extra=(text,))
        if fault.role is Role.STACK and fault.reason is Reason.WRITE_PROTECTED:
            symbol = evidence.symbols.lookup(fault.rsp or 0)
            if symbol is not None and symbol.offset == 0:
                text = f"RSP {fault.rsp or 0:#x} is {symbol}: code"
                return certain(fault, state, extra=(text,))
    return None


def _no_code(evidence: Evidence, explanation: Explanation) -> Optional[Match]:
    """What happens there later may be any exception: the bytes were run as if they were code."""
    found = explanation.first(HandedOver)
    if found is None or not found.target or explanation.status is Status.HEALTHY:
        return None
    return replace(likely(found, *explanation.all(SelectorFault, found.cpu)[:1]), order=-1)


def _direction(evidence: Evidence, explanation: Explanation) -> Optional[Match]:
    found = explanation.first(DirectionFlag)
    if found is None:
        return None
    return certain(found) if found.idle else likely(found)


def _stack_cleared(evidence: Evidence, explanation: Explanation) -> Optional[Match]:
    found = explanation.first(StackZeroed)
    if found is None:
        return None
    fatal = explanation.first(FatalException, found.cpu)
    ran = fatal is not None and fatal.vector != PF and (fatal.rip or 0) < _FIRST_BYTES
    if not evidence.stages and ran:
        return possible(found)  # or it was sent there: what ran at 0 overwrote the return address
    return likely(found, *explanation.all(PageFault)[:1])


def _returned(evidence: Evidence, explanation: Explanation) -> Optional[Match]:
    """Address 0, long after the trampoline's jump: a function returned that has no caller."""
    for fault in explanation.all(PageFault):
        reached = explanation.first(StageReached, fault.cpu)
        if fault.role is not Role.FETCH or fault.address != 0 or reached is None:
            continue
        if not explanation.chain or explanation.chain[0].cpu != fault.cpu:
            continue
        if reached.code in stage.AP_CODES and reached.code >= stage.AP_C:
            return likely(fault, reached)
    if explanation.status is not Status.PANIC:
        return None
    reporters = {event.apic_id for event in evidence.stages if event.code == stage.EXCEPTION}
    c_code = (stage.AP_C, stage.BSP_C)
    in_c = any(e.apic_id in reporters and e.code in c_code for e in evidence.stages)
    first = explanation.first(PageFault)
    if in_c and first is not None and first.role is Role.FETCH and first.address == 0:
        return likely(first, extra=("the CPU that reports it had reached C",))
    return None


def _base_zero(evidence: Evidence, explanation: Explanation) -> Optional[Match]:
    found = explanation.first(VectorTablePointer)
    if found is None:
        return None
    return certain(found, explanation.first(NonCanonical, found.cpu))


def _swapped(evidence: Evidence, explanation: Explanation) -> Optional[Match]:
    found = explanation.first(UserBaseSwapped)
    if found is None or explanation.status is Status.HEALTHY:
        told = next((f for f in explanation.all(ConsoleSays) if f.topic == "gs-swapped"), None)
        return likely(told) if told is not None else None
    return likely(found, explanation.first(PageFault, found.cpu))


def _tables_of_boot(evidence: Evidence, explanation: Explanation) -> Optional[Match]:
    """CR3 is a symbol of the kernel's, and the CR3 that the BSP has now maps what faulted."""
    for differs in explanation.all(CpuDifference):
        if differs.register != "cr3" or explanation.status is Status.HEALTHY:
            continue
        symbol = evidence.symbols.lookup(differs.mine & ~0xFFF)
        fault = explanation.first(PageFault, differs.cpu)
        if symbol is None or symbol.offset or fault is None or fault.walk_succeeds:
            continue
        if fault.reason is Reason.NOT_PRESENT and _mapped_by_bsp(explanation, fault):
            text = f"CR3 {differs.mine:#x} is {symbol}"
            return certain(differs, fault, extra=(text,))
    return None


ROWS = (
    Row(
        "entry-argument-wrong",
        "the entry in C was not given its argument: wrong register, or overwritten before the jump",
        Place.LONG64,
        ("first dereference in the AP's C entry faults", "RDI is garbage", "extern C missing"),
        "the last stage is the jump to C, and the first C code faults on a pointer",
        "C code lit a stage of its own",
        "load the argument into RDI (System V: RDI, RSI, RDX …) as the last thing before the jump;"
        " port output in between overwrites AL and DX",
        "",
        chapters.INTO_C,
        ("ENT-03", "ENT-04"),
        _argument,
        ("ap-argument-register", "ap-stage-clobbers-argument"),
        over=("pointer-non-canonical", "null-pointer", "higher-half-unmapped", "window-not-mapped"),
    ),
    Row(
        "parameter-field-mixed-up",
        "assembler took a field of the parameters for its neighbour: the layouts differ",
        Place.LONG64,
        ("RIP equals the stack's address", "RSP points to code", "missing packed"),
        "the CPU fetched from its own stack's top, or RSP is a function's address",
        "RSP is a stack and RIP is code",
        "generate the offsets that assembler uses from the C structure",
        "",
        chapters.INTO_C,
        ("ENT-07",),
        _field,
        ("ap-entry-from-stack-field", "ap-stack-from-entry-field"),
        over=("entry-unmapped", "write-to-read-only", "not-executable"),
    ),
    Row(
        "entry-no-code",
        "the trampoline jumps to an address that holds no code: the entry was read from the wrong"
        " place, or is the image's start",
        Place.LONG64,
        ("AP jumps to the ELF header", "AP executes the Multiboot header", "AP entry is wrong"),
        "the jump out of the trampoline's page, followed through registers and memory, leads to zeros, a"
        " filler or an image's header, and the CPU is behind that",
        "the address that the trampoline jumps to holds code",
        "give the AP the address of its first function, not that of the image, and read it from the"
        " field that the BSP wrote it to",
        "Instruction Pointer",
        chapters.INTO_C,
        ("ENT-02", "ENT-07"),
        _no_code,
        over=(
            *("executing-zeros", "executing-poison", "no-code-at-rip", "code-for-another-mode"),
            *("gdt-base-wrong", "gdt-overwritten", "stack-cleared"),
        ),
    ),
    Row(
        "direction-flag-set",
        "RFLAGS.DF is 1 in C code: string instructions run downwards",
        Place.LONG64,
        ("memset clears what lies below", "missing cld", "rep movs runs backwards"),
        "a CPU idles, halts, died or first faulted in compiled code with DF=1",
        "DF is 0",
        "cld on every entry to C: after a SIPI, from the loader, and in exception stubs",
        "",
        chapters.INTO_C,
        ("ENT-05",),
        _direction,
        ("ap-direction-flag",),
        over=("null-pointer",),
    ),
    Row(
        "string-runs-away",
        "a string instruction has a count that no memory is large enough for: a length below 0",
        Place.RUNNING,
        ("memset never returns", "memcpy with a negative length", "#PF at the end of a mapping"),
        "the CPU is at REP with STOS, MOVS, LODS, INS or OUTS, and its count exceeds the addresses"
        " behind the pointer",
        "the count fits into what is left of the address space",
        "look at where the length comes from: a subtraction of unsigned numbers, or an error code of -1",
        "",
        chapters.INTO_C,
        (),
        _runs_away,
        over=(
            *("page-fault-undelivered", "null-pointer", "image-partly-mapped", "endless-loop"),
            *("executing-zeros", "stack-overflow", "window-not-mapped", "cpu-there-not-seen"),
        ),
    ),
    Row(
        "stack-cleared",
        "the stack in use was zeroed: .bss was cleared with the stack in it, or the frame was freed",
        Place.LONG64,
        ("returns to 0 after memset", "dies right after clear_bss", "boot stack reused"),
        "the words above RSP are zero, and the CPU executes what has no name",
        "the stack holds frames",
        "clear .bss before the stack in it is used, or keep the stack out of it",
        "",
        chapters.STACKS,
        ("STK-08", "ENT-06"),
        _stack_cleared,
        ("bss-cleared-late",),
        over=("executing-zeros", "entry-null", "no-code-at-rip", "code-for-another-mode"),
    ),
    Row(
        "returned-to-null",
        "C code returned or jumped to 0: a function without a caller returned, or a null pointer"
        " was called",
        Place.RUNNING,
        ("RIP is 0", "#PF at 0 on an instruction fetch", "kernel_main returned"),
        "the CPU fetches from 0 after it had reached C",
        "the CPU never reached C",
        "end the last function in a loop; look at the caller for a null function pointer",
        "Instruction Pointer",
        chapters.INTO_C,
        ("ENT-01",),
        _returned,
        ("ap-entry-returns",),
        over=("entry-null",),
    ),
    Row(
        "pointer-from-vector-table",
        "a pointer was read from address 0, where the BIOS's vectors stand: GS or FS base, or a"
        " pointer, is 0",
        Place.LONG64,
        ("pointer like 0xf000ff53f000ff53", "#GP in the first per-CPU access", "mov gs wipes base"),
        "the pointer is a pair of the real-mode vectors in page 0",
        "the pointer is another number",
        "write IA32_GS_BASE after the last load of a GS selector (which sets the base to the"
        " descriptor's), and leave page 0 unmapped so that null pointers fault",
        "Segment Registers in 64-Bit Mode",
        chapters.INTO_C,
        ("CPU-03", "CPU-04", "ENT-03"),
        _base_zero,
        ("gs-selector-after-base",),
        over=("pointer-non-canonical", "gs-base-not-set"),
    ),
    Row(
        "swapgs-unbalanced",
        "one SWAPGS too many or too few: the kernel runs with the user's GS base",
        Place.LONG64,
        ("GS base is 0 in the kernel", "per-CPU data faults after an exception"),
        "at CPL 0 GS base is not a kernel address, and IA32_KERNEL_GS_BASE is",
        "GS base is the kernel's",
        "swapgs on each way from and to CPL 3, and on no other: test CS.RPL in the frame",
        "SWAPGS-Swap GS Base Register",
        chapters.INTO_C,
        ("CPU-05",),
        _swapped,
        ("ap-swapgs-once-too-often",),
        over=("gs-base-not-set",),
    ),
    Row(
        "cr3-of-boot-tables",
        "the AP was given the page tables of the kernel's start, which the BSP left behind",
        Place.PAGING,
        ("AP dies at its stack", "AP CR3 differs from the BSP's"),
        "the AP's CR3 is a symbol of the image, the BSP's is another, and what faulted is missing in"
        " the AP's",
        "both have the same CR3",
        "give the APs the CR3 that the kernel runs on",
        "Initializing IA-32e Mode",
        chapters.PAGING,
        ("AP2-04", "AP4-05"),
        _tables_of_boot,
        ("ap-cr3-of-boot",),
        over=("stack-unmapped", "higher-half-unmapped", "entry-unmapped"),
    ),
)
