# SPDX-License-Identifier: BSD-2-Clause
"""16-bit code and the first 32-bit code: what is executed, modes that do not fit, A20."""

from __future__ import annotations

from dataclasses import replace
from typing import Optional

from debug.evidence import Ending, Evidence
from debug.explain import stages as stage
from debug.explain.findings import (
    BadControlWrite,
    ConsoleSays,
    Contents,
    ExecutingFiller,
    FarJumpAstray,
    FatalException,
    InterruptStorm,
    JumpInRealMode,
    Laxness,
    ModeTrap,
    ModeTrapKind,
    OutsideMemory,
    PageEndsEarly,
    SelectorFault,
    SentAstray,
    SipiReceived,
    StageReached,
    TrampolineContents,
)
from debug.explain.findings.handlers import RetriedInRealMode
from debug.explain.model import Explanation, Finding, Status
from debug.explain.panic import QEMU_REAL_MODE
from debug.failures import chapters
from debug.failures.row import Match, Place, Row, certain, likely
from debug.x86.refusals import Check

_LONG_CODE = 1 << 53  # a descriptor's L bit


_RAN_OFF = (  # QEMU 7.2 ends with an assertion there
    "QEMU asserts that where code runs from RAM on into a page that is none: off the end of RAM, or"
    " from 0x9ffff into VGA's window"
)


def _zeros(evidence: Evidence, explanation: Explanation) -> Optional[Match]:
    for told in explanation.all(ConsoleSays):
        if told.topic == "ran-off-ram" and evidence.ending is Ending.EMULATOR_DIED:
            return likely(told, extra=(_RAN_OFF,))
    filler = next(
        (f for f in explanation.all(ExecutingFiller) if f.contents is not Contents.INT3), None
    )
    outside = explanation.first(OutsideMemory)
    page = filler.rip & ~0xFFF if filler is not None else None
    if any(f.page == page for f in explanation.all(TrampolineContents)):
        return None  # the page was never filled: that row says more
    if explanation.first(FarJumpAstray) is not None:
        return None  # and so does this one
    found = filler or outside
    if found is None:
        return None
    sent = explanation.first(SentAstray, found.cpu)
    if not evidence.events and not evidence.ipis and not evidence.stages:
        return likely(found, sent)  # how it came there may still be seen
    if isinstance(found, OutsideMemory) and found.video:
        return likely(found, sent)  # paging may map something else there
    return certain(found, sent)


def _poison(evidence: Evidence, explanation: Explanation) -> Optional[Match]:
    filler = next(
        (f for f in explanation.all(ExecutingFiller) if f.contents is Contents.INT3), None
    )
    if filler is None:
        return None
    page = filler.rip & ~0xFFF
    if any(f.page == page for f in explanation.all(TrampolineContents)):
        return None
    return certain(filler)


def _incomplete(evidence: Evidence, explanation: Explanation) -> Optional[Match]:
    """The AP runs on a filler within the page that it was started in, and the page begins well.

    Or it found zeros where the page should have its GDT, or the pseudo-descriptor of that.
    """
    for fault in explanation.all(SelectorFault):
        for ends in explanation.all(PageEndsEarly):
            if fault.base_suspect and (fault.rip or 0) & ~0xFFF == ends.page:
                return likely(fault, ends)
    for filler in explanation.all(ExecutingFiller):
        page = filler.rip & ~0xFFF
        sent = [f for f in explanation.all(SipiReceived, filler.cpu) if f.vector << 12 == page]
        told = stage.argument(evidence, stage.BSP_TRAMPOLINE) == page
        if not (sent or told) or any(f.page == page for f in explanation.all(TrampolineContents)):
            continue
        reached = explanation.first(StageReached, filler.cpu)
        if reached is None or filler.rip == page:
            continue  # nothing says that its code ran
        if explanation.first(ModeTrap, filler.cpu) is not None:
            continue  # it took its code for that of another mode, and went astray
        text = f"it ran the code at the start of its page {page:#x} before"
        return certain(filler, reached, extra=(text,))
    return None


def _trap(explanation: Explanation, kind: ModeTrapKind) -> Optional[ModeTrap]:
    return next((f for f in explanation.all(ModeTrap) if f.kind is kind), None)


def _code16(evidence: Evidence, explanation: Explanation) -> Optional[Match]:
    found = _trap(explanation, ModeTrapKind.CODE16_NOT_32)
    if found is not None and explanation.first(FarJumpAstray, found.cpu):
        return None
    return likely(found) if found is not None else None


def _long_early(evidence: Evidence, explanation: Explanation) -> Optional[Match]:
    found: Optional[Finding] = _trap(explanation, ModeTrapKind.LONG_BEFORE_LMA)
    for fault in explanation.all(SelectorFault):
        view = explanation.view(fault.cpu)
        legacy = view is not None and "protected mode" in view.mode
        if legacy and fault.check is Check.OFFSET and (fault.descriptor or 0) & _LONG_CODE:
            found = found or fault
    return certain(found) if found is not None else None


def _stale(evidence: Evidence, explanation: Explanation) -> Optional[Match]:
    """Stale when something else than their own load went wrong, and code ran with them."""
    found = _trap(explanation, ModeTrapKind.STALE_SEGMENTS)
    if found is None or explanation.status is Status.HEALTHY:
        return None
    if explanation.first(SelectorFault, found.cpu) or explanation.first(FarJumpAstray, found.cpu):
        return None
    if any(f.cpu == found.cpu for f in explanation.all(ExecutingFiller)):
        return None
    match = likely(found, explanation.first(FatalException, found.cpu))
    return replace(match, order=-1)  # what was read through them is only a consequence


def _a20(evidence: Evidence, explanation: Explanation) -> Optional[Match]:
    """Address line 20 is masked in a CPU that has left real mode for good."""
    if explanation.status is Status.HEALTHY:
        return None
    for cpu in evidence.cpus:
        view = explanation.view(cpu.index)
        if cpu.registers.a20 is False and view is not None and "real mode" not in view.mode:
            text = f"A20 is 0 on CPU {cpu.index}: each odd MiB is the even one below it"
            return likely(cpu=cpu.index, extra=(text, f"it is in {view.mode}"))
    return None


def _pg_without_pe(evidence: Evidence, explanation: Explanation) -> Optional[Match]:
    for fault in explanation.all(BadControlWrite):
        if fault.check is Check.PG_WITHOUT_PE:
            return certain(fault)
    lax = next((f for f in explanation.all(Laxness) if f.check is Check.PG_WITHOUT_PE), None)
    return certain(lax) if lax is not None else None


def _real_mode_storm(evidence: Evidence, explanation: Explanation) -> Optional[Match]:
    if (retried := explanation.first(RetriedInRealMode)) is not None:
        return certain(retried) if explanation.status is not Status.HEALTHY else None
    storm = explanation.first(InterruptStorm)
    view = explanation.view(storm.cpu) if storm is not None else None
    if storm is not None and storm.reason == QEMU_REAL_MODE:
        return likely(storm)
    if storm is None or storm.vector != 13 or view is None or view.mode != "real mode":
        return None
    # Without addresses it is the emulator's word that each was for the same reason.
    return certain(storm) if storm.rip is None else likely(storm)


def _unprotected(evidence: Evidence, explanation: Explanation) -> Optional[Match]:
    found = explanation.first(JumpInRealMode)
    if found is None or explanation.status in (Status.HEALTHY, Status.PANIC):
        return None
    return likely(found)


ROWS = (
    Row(
        "executing-zeros",
        "the CPU executes memory that holds no code",
        Place.REAL16,
        ("RIP runs away", "Trying to execute code outside RAM", "add [rax], al"),
        "the 16 bytes at the instruction pointer are zeros or 0xff, or no memory answers there, or it is"
        " video memory",
        "the bytes are code",
        "look at the last jump: a link-time address, a wrong segment base (a boot sector may be entered"
        " at 07C0:0000 as well as at 0000:7C00: jump far to the CS that the code was linked for), or"
        " an image that was not loaded there",
        "Instruction Pointer",
        chapters.REAL_MODE,
        ("HANG-02", "B16-13", "AP1-05", "AP1-07", "B16-16", "B16-19", "FW-06"),
        _zeros,
        over=("hypervisor-cannot-emulate",),
    ),
    Row(
        "trampoline-incomplete",
        "only a part of the trampoline is in its page",
        Place.REAL16,
        ("AP dies half-way through the trampoline", "AP runs into int3 or zeros"),
        "the CPU executes a filler within the page whose first code it ran, or the page holds zeros"
        " where its LGDT reads the operand, or where that says the GDT is",
        "the page holds the whole image",
        "copy the image by its linker symbols (end minus start), keep all of its sections in it, and fill"
        " in before the SIPI what is filled in at run time",
        "MP Initialization Protocol Algorithm for MP Systems",
        chapters.TRAMPOLINE,
        ("AP1-12", "BLD-01"),
        _incomplete,
        ("trampoline-truncated",),
        over=("trampoline-altered", "executing-zeros", "executing-poison", "gdt-base-wrong"),
    ),
    Row(
        "executing-poison",
        "the CPU executes 0xCC filler: poison, or the padding between functions",
        Place.REAL16,
        ("#BP without a debugger", "int3", "ran off the end of the code"),
        "the 16 bytes at the instruction pointer are all 0xCC",
        "the bytes are code",
        "end the code before it with a jump or HLT, and check the address that was jumped to",
        "Interrupt 3-Breakpoint Exception (#BP)",
        chapters.TRAMPOLINE,
        ("AP1-01", "AP1-05", "AP1-12", "AP1-15"),
        _poison,
    ),
    Row(
        "code-segment-16-bit",
        "32-bit code runs in a 16-bit code segment (D=0)",
        Place.PROTECTED,
        ("#UD or #GP a few bytes after the far jump", "code decodes wrongly"),
        "CR0.PE=1 and the CS that a far jump loaded has D=0",
        "D is 1",
        "set D (bit 54) in the 32-bit code descriptor: flags nibble 0xc",
        "Segment Descriptors",
        chapters.PROTECTED_MODE,
        ("B16-09", "BLD-05"),
        _code16,
        ("ap-code-16-bit",),
        # What 32-bit code does when it is decoded as 16-bit code is no cause of its own.
        over=(
            "executing-poison",
            "executing-zeros",
            "data-segment-beyond-gdt",
            "stack-outside-memory",
        ),
    ),
    Row(
        "long-segment-too-early",
        "a 64-bit code segment was loaded before long mode was active: it acts as a 16-bit one",
        Place.PROTECTED,
        ("#UD after the far jump", "CS64 while EFER.LMA=0"),
        "CS has L=1, D=0 while EFER.LMA=0",
        "EFER.LMA is 1",
        "jump to a 32-bit code segment first; load the 64-bit one after CR0.PG is set",
        "Segment Descriptors",
        chapters.LONG_MODE,
        ("B16-10", "PG-19"),
        _long_early,
        ("ap-long-segment-early",),
        over=("executing-poison", "executing-zeros"),
    ),
    Row(
        "segments-not-reloaded",
        "data segments still have their real-mode base and limit in protected mode",
        Place.PROTECTED,
        ("works in QEMU, dies on hardware", "first memory access after the far jump dies"),
        "CR0.PE=1 and DS, ES or SS has base selector*16 and limit 0xffff",
        "the data segments were loaded from the GDT",
        "load DS, ES and SS with a data selector right after the far jump",
        "Switching to Protected Mode",
        chapters.PROTECTED_MODE,
        ("B32-03",),
        _stale,
        ("ap-segments-not-reloaded",),
    ),
    Row(
        "paging-without-protection",
        "CR0.PG was set without CR0.PE",
        Place.REAL16,
        ("hang in real mode", "triple fault without a v= line", "CR0.PG with CR0.PE cleared"),
        "the value written to CR0 has PG=1 and PE=0",
        "PE is set too",
        "set PE and PG together, or PE first",
        "Control Registers",
        chapters.PROTECTED_MODE,
        ("B16-11",),
        _pg_without_pe,
        ("ap-paging-without-protection",),
        over=("protection-not-enabled",),
    ),
    Row(
        "protection-not-enabled",
        "the trampoline's far jump was executed in real mode: CR0.PE was not set",
        Place.REAL16,
        ("AP executes the BIOS", "far jump lands in the interrupt vector table", "CS is 0x0008"),
        "a CPU in real mode away from the trampoline, with the GDT loaded that its far jump needs",
        "CR0.PE is 1, or the GDT was not loaded",
        "set CR0.PE before the far jump",
        "Switching to Protected Mode",
        chapters.PROTECTED_MODE,
        (),
        _unprotected,
        over=("ap-missing", "real-mode-fault-loop", "executing-zeros", "ap-silent-in-real-mode"),
    ),
    Row(
        "real-mode-fault-loop",
        "an exception in real mode returns to the instruction that raised it, for ever",
        Place.REAL16,
        ("hang in real mode", "BIOS int 0Dh again and again", "ud2 in a boot sector"),
        "an instruction that raises an exception, whose vector leads to an IRET; or #GP at one"
        " real-mode address, many times",
        "the exceptions are at different addresses, or the handler does something",
        "find what that instruction may not do in real mode: a limit, CR0.PG, or a bad opcode",
        "Interrupt and Exception Handling in Real-Address Mode",
        chapters.REAL_MODE,
        ("HANG-03", "B16-11", "B16-18"),
        _real_mode_storm,
        ("ap-segment-limit",),
    ),
    Row(
        "a20-closed",
        "address line 20 is still masked: memory at each odd MiB is that at the even one",
        Place.REAL16,
        ("A20 gate", "kernel at 1 MiB overwrites the interrupt vectors"),
        "the emulator's registers say A20=0 in a CPU that has left real mode",
        "A20 is 1",
        "open the gate (INT 15H AX=2401H, port 92H, keyboard controller), and test it by writing to"
        " two addresses that are 1 MiB apart",
        "8086 Emulation",
        chapters.PROTECTED_MODE,
        ("B16-12",),
        _a20,
    ),
)
