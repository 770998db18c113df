# SPDX-License-Identifier: BSD-2-Clause
"""Exceptions and interrupts that could not be delivered: IDT, gates, TSS, IST.

A missing IDT turns any exception into a triple fault; it is the root cause only where what had
to be delivered was no mistake in itself, such as an interrupt.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Optional

from debug.evidence import EventKind, Evidence, ExceptionEvent
from debug.explain.findings import (
    BspRestarted,
    ConsoleSays,
    DeliveryFailed,
    ExceptionReported,
    ExecutingFiller,
    FatalException,
    HaltedForever,
    IdtState,
    IdtStatus,
    PicOnExceptions,
)
from debug.explain.findings.tables import ShiftedFrame
from debug.explain.model import CpuState, Explanation, Status
from debug.failures import chapters
from debug.failures.row import Match, Matcher, Place, Row, certain, likely, possible, words
from debug.x86.exceptions import INNOCENT
from debug.x86.refusals import Check

_PIC = range(8, 16)


def _failed(*checks: Check) -> Matcher:
    """A matcher: the first delivery failed one of `checks`, with an IDT that was loaded."""

    def match(evidence: Evidence, explanation: Explanation) -> Optional[Match]:
        failed = explanation.first(DeliveryFailed)
        status = explanation.first(IdtStatus)
        if failed is None or failed.check not in checks:
            return None
        if status is not None and status.state is not IdtState.LOADED:
            return None
        innocent = failed.interrupt or failed.vector in INNOCENT
        return certain(failed, status) if innocent else likely(failed, status)

    return match


def _first_failed(explanation: Explanation) -> Optional[DeliveryFailed]:
    return explanation.first(DeliveryFailed)


def _never_loaded(explanation: Explanation) -> Optional[tuple[bool, DeliveryFailed, IdtStatus]]:
    """(what had to be delivered was no mistake in itself, the failure, the IDT)."""
    status, failed = explanation.first(IdtStatus), _first_failed(explanation)
    if explanation.status is not Status.TRIPLE_FAULT or status is None or failed is None:
        return None
    if status.state is IdtState.LOADED or explanation.first(BspRestarted) is not None:
        return None
    if explanation.first(ExecutingFiller, status.cpu) is not None:
        return None  # 0xCC is no breakpoint that somebody meant
    innocent = failed.interrupt or failed.vector in INNOCENT or failed.vector >= 32
    return innocent, failed, status


def _no_idt(evidence: Evidence, explanation: Explanation) -> Optional[Match]:
    found = _never_loaded(explanation)
    return likely(*found[1:]) if found is not None and found[0] else None


def _exception_without_idt(evidence: Evidence, explanation: Explanation) -> Optional[Match]:
    found = _never_loaded(explanation)
    return possible(*found[1:]) if found is not None and not found[0] else None


def _interrupt_without_handler(evidence: Evidence, explanation: Explanation) -> Optional[Match]:
    """An interrupt, not an exception, whose gate is missing."""
    failed, fatal = _first_failed(explanation), explanation.first(FatalException)
    shifted = explanation.first(ShiftedFrame)
    gate = shifted.refused_gate if shifted is not None else None
    if shifted is not None and gate is not None and gate >= 32:
        text = (
            f"the error code that was left on the stack, {shifted.error or 0:#x}, names gate {gate}"
        )
        return replace(certain(shifted, explanation.first(IdtStatus), extra=(text,)), order=-1)
    if failed is None or fatal is None or failed.vector < 32:
        return None
    status = explanation.first(IdtStatus)
    if status is not None and status.state is not IdtState.LOADED:
        return None  # there is no table at all
    if failed.check in (Check.IDT_LIMIT, Check.GATE_TYPE, Check.GATE_NOT_PRESENT):
        return certain(failed, status)
    return None


def _pic(evidence: Evidence, explanation: Explanation) -> Optional[Match]:
    """By what began the end, or by the PIC's own registers where the machine has not died."""
    found = explanation.first(PicOnExceptions)
    if explanation.status in (Status.TRIPLE_FAULT, Status.PANIC) or found is None:
        return _pic_began(evidence, explanation)
    halted = explanation.first(HaltedForever, found.cpu)
    view = explanation.view(found.cpu)
    if explanation.status is Status.HEALTHY and view is not None and view.state is CpuState.IDLE:
        return possible(found)  # each tick woke it, and its handlers know what they get
    firm = found.taken or explanation.status is Status.HEALTHY
    return likely(found, halted) if firm else possible(found)


def _pic_began(evidence: Evidence, explanation: Explanation) -> Optional[Match]:
    """A hardware interrupt with a vector of the exceptions: undeliverable, or taken for one.

    The firmware runs in protected mode too and takes the PIC's interrupts there: only one that
    began the end counts.
    """
    if explanation.first(BspRestarted) is not None:
        return None  # the firmware runs again, not the kernel
    if explanation.status is Status.HEALTHY:
        return None
    failed, reported = _first_failed(explanation), explanation.first(ExceptionReported)
    if failed is not None and not failed.interrupt:
        failed = None  # an exception began the end
    numbers = {finding.vector for finding in (failed, reported) if finding is not None}
    for event in reversed(evidence.events[-64:]):
        pic = event.kind is EventKind.HARDWARE_INTERRUPT and event.vector in _PIC
        if not pic or event.vector not in numbers:
            continue
        cr0 = event.registers.get("cr0")
        if cr0 is None or not cr0 & 1:
            continue  # in real mode the PIC's vectors are where the BIOS wants them
        text = f"hardware interrupt {event.vector:#x} arrived in protected mode"
        return certain(cpu=event.cpu, extra=(text, *words(failed, reported)))
    if (taken := _taken_for_an_exception(evidence)) is not None:
        return likely(cpu=taken.cpu, extra=_TAKEN)
    told = next(
        (f for f in explanation.all(ConsoleSays) if f.topic == "df-without-error-code"), None
    )
    if told is not None:
        text = "the RIP that it reports is a code selector: no error code was on the stack"
        return likely(reported, told, extra=(text,))
    return None


_WITH_CODE = (8, 10, 11, 12, 13, 14)  # a handler of these takes an error code off the stack
_HANDLER = 0x200  # bytes of stack that it uses
_TAKEN = (
    "a hardware interrupt with the vector of an exception that has an error code was delivered in"
    " protected mode",
    "the next exception was raised before its handler returned: no error code was on the stack",
)


def _taken_for_an_exception(evidence: Evidence) -> Optional[ExceptionEvent]:
    """An IRQ whose handler, a kernel's, expects an error code and fails at its return."""
    for one, following in zip(evidence.events, evidence.events[1:]):
        if one.kind is not EventKind.HARDWARE_INTERRUPT or one.vector not in _WITH_CODE:
            continue
        rsp, after = one.registers.get("rsp"), following.registers.get("rsp")
        cr0, idtr = one.registers.get("cr0") or 0, one.registers.idtr
        if rsp is None or after is None or idtr is None or one.cpu != following.cpu:
            continue
        inside = 0 < rsp - after < _HANDLER and one.registers.rip != following.registers.rip
        firmware = idtr.base in range(0xC0000, 0x100000) or not idtr.base
        if cr0 & 1 and inside and not firmware and following.kind is EventKind.EXCEPTION:
            return one
    return None


def _consequence(explanation: Explanation, failed: DeliveryFailed) -> bool:
    """Whether an exception that was a mistake in itself came before."""
    first = _first_failed(explanation)
    innocent = failed.interrupt or failed.vector in INNOCENT
    return failed is not first or not innocent


def _stack_of_tss(evidence: Evidence, explanation: Explanation) -> Optional[Match]:
    checks = (Check.STACK_UNMAPPED, Check.STACK_NON_CANONICAL, Check.STACK_SELECTOR)
    for failed in explanation.all(DeliveryFailed):
        of_tss = failed.check is Check.STACK_SELECTOR or "TSS" in failed.stack
        if failed.check in checks and of_tss:
            return possible(failed) if _consequence(explanation, failed) else certain(failed)
    return None


def _tss(evidence: Evidence, explanation: Explanation) -> Optional[Match]:
    told = next((f for f in explanation.all(ConsoleSays) if f.topic == "invalid-tss"), None)
    if told is not None:
        return certain(told)  # QEMU gives up where a CPU raises #TS
    checks = (Check.TSS_MISSING, Check.TSS_LIMIT, Check.TSS_UNMAPPED)
    for failed in explanation.all(DeliveryFailed):
        if failed.check in checks:
            return possible(failed) if _consequence(explanation, failed) else certain(failed)
    return None


ROWS = (
    Row(
        "pic-not-remapped",
        "an IRQ of the PIC arrived with a vector of the exceptions",
        Place.DELIVERY,
        ("double fault right after sti", "INT 8 is the timer", "IRQ0 taken for #DF"),
        "a hardware interrupt with vector 8 to 15 in protected mode began the end, or its handler failed"
        " at its return; or the PIC's own registers say so while the kernel lets its interrupts in",
        "the vector was raised by an instruction",
        "remap or mask both PICs before interrupts are allowed",
        "External Interrupts Received at Processor Pins",
        chapters.INTERRUPTS,
        ("IRQ-01", "B16-17"),
        _pic,
        ("pic-not-masked", "sti-before-idt"),
        over=("swapgs-unbalanced", "iret-frame-bad", "handler-returns-to-fault"),
    ),
    Row(
        "interrupt-without-gate",
        "an interrupt arrived for which the IDT has no gate",
        Place.DELIVERY,
        ("triple fault after sti", "spurious interrupt", "first timer tick kills the AP"),
        "a vector of 32 or more had to be delivered and has no valid gate",
        "the vector has a gate",
        "load an IDT with gates for every vector that can arrive, then sti; mask the rest; if interrupts"
        " were taken before, find who has cleared the table since",
        "Interrupt Descriptor Table (IDT)",
        chapters.INTERRUPTS,
        ("IRQ-02", "IRQ-03", "IRQ-04", "AP4-06"),
        _interrupt_without_handler,
        ("irq-beyond-idt",),
        over=("idt-limit-too-small", "gate-empty"),
    ),
    Row(
        "idt-missing",
        "an interrupt, NMI or breakpoint arrived and no IDT was loaded",
        Place.DELIVERY,
        ("triple fault at int3", "triple fault at an NMI", "IDT limit 0", "IDT ffff"),
        "IDTR is null, as reset left it, or still the real-mode table, and what had to be"
        " delivered is no mistake in itself",
        "IDTR names a table of gates",
        "load an IDT on every CPU before interrupts, breakpoints or NMIs can come",
        "Interrupt Descriptor Table (IDT)",
        chapters.INTERRUPTS,
        ("IDT-01", "IRQ-05", "AP4-06"),
        _no_idt,
        ("ap-breakpoint-before-idt",),
    ),
    Row(
        "exception-without-idt",
        "an exception was raised where no IDT is loaded: any exception is a triple fault there",
        Place.DELIVERY,
        ("triple fault at the first exception", "IDT limit 0", "IDT 3ff", "IDT ffff"),
        "IDTR is null, as reset left it, or still the real-mode table",
        "IDTR names a table of gates",
        "find out why the exception was raised; an IDT loaded earlier would have reported it",
        "Interrupt Descriptor Table (IDT)",
        chapters.EXCEPTIONS,
        ("IDT-01", "B32-04", "FW-07"),
        _exception_without_idt,
        generic=True,
    ),
    Row(
        "idt-limit-too-small",
        "the IDT ends before the gate that was needed",
        Place.DELIVERY,
        ("#GP with the gate's number while delivering", "vector must be within IDT table limits"),
        "the gate lies beyond IDTR's limit",
        "the gate lies within the limit",
        "set the limit to 16 * gates - 1 in long mode (8 * gates - 1 before)",
        "Interrupt Descriptor Table (IDT)",
        chapters.EXCEPTIONS,
        ("IDT-02",),
        _failed(Check.IDT_LIMIT),
        ("idt-limit-one-gate",),
    ),
    Row(
        "gate-empty",
        "the IDT has no valid gate for the exception that was raised",
        Place.DELIVERY,
        ("gate descriptor is not valid", "triple fault instead of the handler"),
        "the entry is zero, of a type that is no interrupt or trap gate, or not present",
        "the entry is a present interrupt or trap gate",
        "fill in gates for all 32 exceptions; if some were taken before, find who has cleared them since",
        "64-Bit Mode IDT",
        chapters.EXCEPTIONS,
        ("IDT-03", "IDT-06", "IDT-12"),
        _failed(Check.GATE_TYPE, Check.GATE_NOT_PRESENT),
        ("gates-not-present", "idt-empty", "gate-type-16-bit"),
    ),
    Row(
        "gate-privilege",
        "a program's INT n names a gate that is not open to it",
        Place.DELIVERY,
        ("#GP at int 0x80 from ring 3", "error code 0x402", "system call gate with DPL 0"),
        "the instruction is INT n at CPL 3, and its gate's DPL is below 3",
        "the gate's DPL is 3",
        "give the gate of a system call DPL 3 (0xee), and no other one",
        "INT n/INTO/INT3/INT1",
        chapters.INTERRUPTS,
        (),
        _failed(Check.GATE_PRIVILEGE),
    ),
    Row(
        "gate-layout-32",
        "the IDT has 8-byte gates in long mode",
        Place.DELIVERY,
        ("IDT entry extended attributes", "jumps to two gates glued together"),
        "bits 12:8 of the gate's last dword are not 0: the next 8-byte gate lies there",
        "gates are 16 bytes",
        "use the 16-byte gate of long mode",
        "64-Bit Mode IDT",
        chapters.INTERRUPTS,
        ("IDT-07",),
        _failed(Check.UPPER_HALF),
        ("gates-of-8-bytes",),
    ),
    Row(
        "gate-selector-bad",
        "the gate's code selector is null, beyond the GDT or not 64-bit code",
        Place.DELIVERY,
        ("#GP(selector) while delivering", "must be 64 bit segment", "selector null"),
        "the descriptor that the gate's selector names can't be the handler's",
        "the selector names present 64-bit code",
        "put the current CS into the gates; a loader's GDT has its code elsewhere",
        "64-Bit Mode IDT",
        chapters.INTERRUPTS,
        ("IDT-04", "IDT-05", "IDT-13"),
        _failed(
            Check.NULL_SELECTOR,
            Check.BEYOND_LIMIT,
            Check.WRONG_TYPE,
            Check.NOT_64BIT,
            Check.NOT_PRESENT,
            Check.PRIVILEGE,
        ),
        ("gate-selector-null", "gate-selector-data"),
    ),
    Row(
        "idt-unmapped",
        "the IDT is not mapped in the page tables that the CPU uses",
        Place.DELIVERY,
        ("#PF with CR2 in the IDT", "triple fault after mov cr3"),
        "the gate's address lies in a page that is not present",
        "the IDT is mapped",
        "map the IDT in every address space",
        "Interrupt Descriptor Table (IDT)",
        chapters.EXCEPTIONS,
        ("IDT-09", "IDT-10"),
        _failed(Check.TABLE_UNMAPPED),
        ("idt-at-physical-address",),
    ),
    Row(
        "handler-non-canonical",
        "the gate's offset is not a canonical address",
        Place.DELIVERY,
        ("#GP(0) while delivering", "gate offset without its upper half"),
        "the handler's address in the gate is not canonical",
        "the offset is canonical",
        "fill in all three parts of the offset",
        "64-Bit Mode IDT",
        chapters.INTERRUPTS,
        ("IDT-08",),
        _failed(Check.NON_CANONICAL),
    ),
    Row(
        "tss-stack-bad",
        "the stack that the TSS names for the handler (IST, RSP0, SS0:ESP0) is not usable",
        Place.DELIVERY,
        ("#PF at 0xfffffffffffffff8 with a good RSP", "double fault handler never runs"),
        "the frame was to go to a stack of the TSS, which is 0, unmapped or not canonical, or SS0 is"
        " no stack segment of ring 0",
        "the stack of the TSS is mapped",
        "fill in RSP0 and every IST that a gate names, each with the end of a mapped stack",
        "Interrupt Stack Table",
        chapters.INTERRUPTS,
        ("TSS-04", "TSS-05"),
        _stack_of_tss,
        ("ist-bottom",),
    ),
    Row(
        "tss-missing",
        "a stack switch was needed and there is no usable TSS",
        Place.DELIVERY,
        ("#TS while delivering", "no TSS loaded", "invalid tss type"),
        "TR is null, its limit is too small, or its page is not mapped",
        "TR names a TSS with the stack that is needed",
        "load TR with a TSS of 104 bytes or more on every CPU before the first stack switch",
        "Task-State Segment (TSS)",
        chapters.INTERRUPTS,
        ("TSS-07", "TSS-04"),
        _tss,
    ),
)
