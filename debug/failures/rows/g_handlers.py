# SPDX-License-Identifier: BSD-2-Clause
"""Handlers, their TSS and the interrupts that nobody asked for."""

from __future__ import annotations

from typing import Optional

from debug.evidence import EventKind, Evidence
from debug.explain.findings import (
    DeliveryFailed,
    ExceptionReported,
    IdtStatus,
    InService,
    NonCanonical,
    PageFault,
    Role,
    SelectorFault,
    WaitsFor,
)
from debug.explain.findings.tables import (
    HandlerFaults,
    HandlerUnreachable,
    IdtLost,
    SharedTss,
    ShiftedFrame,
    TssTruncated,
)
from debug.explain.findings.waits import InterruptHeld
from debug.explain.model import CpuState, Explanation, Status
from debug.failures import chapters
from debug.failures.row import Match, Matcher, Place, Row, certain, likely, possible, told_by
from debug.x86.exceptions import INNOCENT
from debug.x86.refusals import Check


def _unreachable(evidence: Evidence, explanation: Explanation) -> Optional[Match]:
    found = explanation.first(HandlerUnreachable)
    if found is None or explanation.status is Status.HEALTHY:
        return None
    view = explanation.view(found.cpu)
    if view is not None and view.mode == "32-bit protected mode":
        return likely(found)
    return certain(found, explanation.first(PageFault, found.cpu))


def _eight_bytes(evidence: Evidence, explanation: Explanation) -> Optional[Match]:
    """The gate was taken as far as its offset, which runs into the next gate."""
    found = explanation.first(HandlerUnreachable)
    if found is not None and found.glued:
        return certain(found, explanation.first(NonCanonical, found.cpu))
    if evidence.memory.read(0x1000, 1) is not None:
        return None  # the gates themselves can be read
    step = next((step for step in explanation.chain if step.registers is not None), None)
    code = step.registers.segments.get("cs") if step is not None and step.registers else None
    for address in explanation.all(NonCanonical):
        same = code is not None and 0 < code.selector == address.address >> 48
        if address.role is Role.FETCH and same and found is None:
            text = "its bits 63:48 are CS's selector, which a gate of 8 bytes has there"
            return likely(address, extra=(text,))
    return None


def _shifted(evidence: Evidence, explanation: Explanation) -> Optional[Match]:
    found = explanation.first(ShiftedFrame)
    if found is None:
        return None
    return certain(found, explanation.first(SelectorFault, found.cpu))


def _no_eoi(evidence: Evidence, explanation: Explanation) -> Optional[Match]:
    """A CPU idles while its APIC holds an interrupt in service, and so holds others back.

    An interrupt in service blocks those of its own priority class and below
    [SDM 3A "Interrupt, Task, and Processor Priority"].
    """
    for served_by_pic in explanation.all(InService):
        if served_by_pic.pending and explanation.status is not Status.HEALTHY:
            return likely(served_by_pic)
    for held_back in explanation.all(InterruptHeld):
        if held_back.in_service is not None and explanation.status is not Status.HEALTHY:
            return likely(held_back, explanation.first(WaitsFor, held_back.cpu))
    for cpu in evidence.cpus:
        view, apic = explanation.view(cpu.index), cpu.apic
        if apic is None or view is None or view.state is not CpuState.IDLE:
            continue
        served = max((vector for vector in apic.isr if vector >= 32), default=0)
        held = [vector for vector in apic.irr if vector >> 4 <= served >> 4]
        if not served:
            continue
        lines = [
            f"CPU {cpu.index} halts with interrupts on, and its local APIC still has vector"
            f" {served:#x} in service: the handler sent no EOI"
        ]
        if held:
            lines.append(f"vector {held[-1]:#x} is pending, and held back by the one in service")
        return likely(cpu=cpu.index, extra=tuple(lines))
    return None


def _priority(evidence: Evidence, explanation: Explanation) -> Optional[Match]:
    """An interrupt waits for its CPU's task priority to fall."""
    for held in explanation.all(InterruptHeld):
        if held.priority is not None and explanation.status is Status.HANG:
            waiting = held.sender if held.sender is not None else held.cpu
            wait = explanation.first(WaitsFor, waiting)
            own = wait is not None and not wait.writers and not wait.lock
            return likely(held, wait) if held.sender is not None or own else possible(held)
    return None


def _failed(*checks: Check) -> Matcher:
    """A matcher: the first delivery failed one of `checks` for want of a TSS that will do."""

    def match(evidence: Evidence, explanation: Explanation) -> Optional[Match]:
        failed = explanation.first(DeliveryFailed)
        if failed is None or failed.check not in checks:
            return None
        innocent = failed.interrupt or failed.vector in INNOCENT
        return certain(failed) if innocent else likely(failed)

    return match


def _ist_empty(evidence: Evidence, explanation: Explanation) -> Optional[Match]:
    failed = explanation.first(DeliveryFailed)
    if failed is None or failed.check is not Check.STACK_UNMAPPED or failed.address is None:
        return None
    if "IST" not in failed.stack and "TSS" not in failed.stack:
        return None
    return certain(failed) if failed.address >= (1 << 64) - 64 else None


def _tss_unmapped(evidence: Evidence, explanation: Explanation) -> Optional[Match]:
    """The base has no upper half: what is there faults, or is empty memory that is mapped."""
    cut, failed = explanation.first(TssTruncated), explanation.first(DeliveryFailed)
    if cut is not None and failed is not None and "TSS" in failed.stack:
        seen = evidence.memory.read(0x1000, 1) is not None
        return certain(cut, failed) if seen else likely(cut, failed)
    return _failed(Check.TSS_UNMAPPED)(evidence, explanation)


def _no_gates(evidence: Evidence, explanation: Explanation) -> Optional[Match]:
    """The first delivery failed for its gate, and the whole table is none."""
    failed, lost = explanation.first(DeliveryFailed), explanation.first(IdtLost)
    checks = (Check.GATE_TYPE, Check.GATE_NOT_PRESENT)
    if failed is None or lost is None or failed.check not in checks or failed.cpu != lost.cpu:
        return None
    return likely(lost, failed)


def _shared_tss(evidence: Evidence, explanation: Explanation) -> Optional[Match]:
    shared = explanation.all(SharedTss)
    if not shared:
        return None
    if explanation.status is Status.HEALTHY:
        return certain(*shared[:2])
    return possible(*shared[:2])


def _unexpected(evidence: Evidence, explanation: Explanation) -> Optional[Match]:
    for reported in explanation.all(ExceptionReported):
        if reported.vector < 32:
            continue
        hardware = any(
            e.kind is EventKind.HARDWARE_INTERRUPT and e.vector == reported.vector
            for e in evidence.events[-64:]
        )
        return certain(reported) if hardware else likely(reported)
    return None


ROWS = (
    Row(
        "idt-holds-no-gates",
        "IDTR points to memory that holds something else than gates",
        Place.DELIVERY,
        ("gate descriptor is not valid", "dies at an interrupt after some time", "IDT is garbage"),
        "the IDT's memory is filled, and no entry looks like a gate",
        "some entry is a gate, or the memory is zeros: a table that nobody filled",
        "check the base in the operand of LIDT; if interrupts were taken before, find who writes there"
        " since: lamp writer with the IDT's address",
        "Interrupt Descriptor Table (IDT)",
        chapters.INTERRUPTS,
        (),
        _no_gates,
        over=("gate-empty", "interrupt-without-gate", "gate-layout-32", "gate-selector-bad"),
    ),
    Row(
        "gate-layout-glued",
        "the IDT has 8-byte gates in long mode: two of them are read as one",
        Place.DELIVERY,
        ("RIP like 0x0008808500008085", "handler address not canonical", "SP falls 0x30 an event"),
        "RIP is the offset of a gate, and its upper half is the selector and offset of the next gate",
        "gates are 16 bytes",
        "use the 16-byte gate of long mode",
        "64-Bit Mode IDT",
        chapters.INTERRUPTS,
        ("IDT-07",),
        _eight_bytes,
        ("gates-of-8-bytes",),
        over=("jump-non-canonical", "gate-layout-32", "handler-unreachable", "handler-faults"),
    ),
    Row(
        "handler-unreachable",
        "the gate's offset is not the handler's address: the handler can't be fetched",
        Place.DELIVERY,
        ("#PF with CR2 equal to a gate's offset", "SP falls with every exception"),
        "RIP is what a gate of the IDT names, and the fetch from there fails",
        "the handler is mapped and executable",
        "fill in all three parts of the offset (15:0, 31:16, 63:32)",
        "64-Bit Mode IDT",
        chapters.INTERRUPTS,
        ("IDT-08",),
        _unreachable,
        ("handler-address-32-bits",),
        over=(
            "entry-truncated",
            "entry-unmapped",
            "handler-faults",
            "returned-to-null",
            *("executing-zeros", "stack-outside-memory", "entry-null", "selector-beyond-gdt"),
            *("data-segment-beyond-gdt", "handler-returns-to-fault", "gdt-base-wrong"),
        ),
    ),
    Row(
        "iret-frame-shifted",
        "the handler returns with the error code still on the stack",
        Place.DELIVERY,
        ("#GP at iretq", "first exception handled, then #GP", "error code not popped"),
        "at IRET a whole frame lies 8 bytes above RSP",
        "RSP points to the frame",
        "add rsp, 8 for the error code (16 with the vector) before iretq; push a 0 for the vectors"
        " that have none",
        "64-Bit Mode Stack Frame",
        chapters.INTERRUPTS,
        ("IDT-11",),
        _shifted,
        ("error-code-not-popped",),
        over=("iret-frame-bad", "selector-beyond-gdt"),
    ),
    Row(
        "eoi-missing",
        "an interrupt handler sends no EOI: the local APIC or the PIC delivers nothing more of its class",
        Place.DELIVERY,
        ("exactly one timer tick", "interrupts stop after the first", "keyboard works once"),
        "a CPU halts with interrupts on while a bit of its in-service register is set",
        "the in-service register is 0 when no handler runs",
        "write 0 to the local APIC's EOI register (offset B0H, MSR 80BH) before the handler returns; for"
        " a PIC, 0x20 to port 0x20, and to 0xa0 first for lines 8 to 15",
        "Signaling Interrupt Servicing Completion",
        chapters.WORKING,
        ("IRQ-06",),
        _no_eoi,
        ("timer-without-eoi",),
        over=(
            *("selftest-failed", "cpu-there-not-seen", "lock-not-released", "flag-never-set"),
            *("endless-loop", "delay-never-ends"),
        ),
    ),
    Row(
        "task-priority-too-high",
        "a CPU's task priority (TPR, CR8) holds back the interrupts that are sent to it",
        Place.DELIVERY,
        ("IPI never arrives", "interrupt pending in IRR", "TPR is 0xff", "CR8 is 15"),
        "an interrupt is pending in the local APIC, IF is 1, nothing is in service, and the priority class"
        " in TPR is not below the vector's",
        "TPR is 0, or the vector's class is above it",
        "write 0 to TPR (offset 80H, MSR 808H) or CR8 on every CPU that is to take interrupts; give what"
        " must always come a vector of a higher class",
        "Interrupt, Task, and Processor Priority",
        chapters.WORKING,
        ("AP4-12",),
        _priority,
        over=("cpu-there-not-seen", "endless-loop", "flag-never-set", "cpus-wait-for-each-other"),
    ),
    Row(
        "handler-faults",
        "the exception handler faults itself, again and again until the stack ends",
        Place.DELIVERY,
        ("endless #PF", "stack overflow in the handler", "triple fault long after the first fault"),
        "the same exception at the same place, each time deeper in the stack",
        "the handler returns or reports",
        "let the handler use nothing that may not be set up yet: per-CPU data, console, mappings;"
        " look at the first exception for what began it",
        "Interrupt 8-Double Fault Exception (#DF)",
        chapters.INTERRUPTS,
        ("IDT-01",),
        told_by(HandlerFaults, IdtStatus),
        generic=True,
    ),
    Row(
        "tss-limit-too-small",
        "the TSS is shorter than 104 bytes: the stack that is needed lies beyond its limit",
        Place.DELIVERY,
        ("#TS while delivering", "sizeof of a pointer in the TSS descriptor"),
        "the IST or RSP slot lies beyond the limit in TR",
        "the limit is 0x67 or more",
        "set the limit to the size of the TSS minus 1: 103",
        "Task Management in 64-bit Mode",
        chapters.INTERRUPTS,
        ("TSS-07",),
        _failed(Check.TSS_LIMIT),
        ("tss-limit-short",),
        over=("tss-missing",),
    ),
    Row(
        "tss-unmapped",
        "TR's base is not where the TSS is: its descriptor has no upper half, or a wrong base",
        Place.DELIVERY,
        ("TR base truncated to 32 bits", "#PF at the TSS", "16-byte TSS descriptor"),
        "the CPU read a stack from the TSS at TR's base and the page is not present",
        "TR's base is mapped",
        "write all 16 bytes of the descriptor: the base's bits 63:32 stand in the second half",
        "TSS Descriptor in 64-bit Mode",
        chapters.INTERRUPTS,
        ("TSS-03",),
        _tss_unmapped,
        ("tss-upper-half-missing",),
        over=("tss-missing", "ist-empty", "tss-stack-bad"),
    ),
    Row(
        "ist-empty",
        "the gate names an IST stack, and the TSS holds 0 there",
        Place.DELIVERY,
        ("#PF at 0xfffffffffffffff8 with a good RSP", "double fault handler never runs"),
        "the frame went to 0 - 8 although RSP is valid",
        "the IST slot holds a stack",
        "write the IST slots (offset 0x24 on) of every CPU's TSS before the gates that name them",
        "Interrupt Stack Table",
        chapters.INTERRUPTS,
        ("TSS-04",),
        _ist_empty,
        ("ist-in-wrong-field",),
        over=("tss-stack-bad",),
    ),
    Row(
        "ist-shared",
        "two CPUs share a TSS or an IST stack: the second one overwrites the first one's frame",
        Place.DELIVERY,
        ("random #GP at iretq with -smp", "NMI to all CPUs corrupts the stack"),
        "the TSSes of two CPUs name the same stack, or TR has the same base",
        "each CPU has its own",
        "give each CPU a TSS and IST stacks of its own",
        "Interrupt Stack Table",
        chapters.INTERRUPTS,
        ("TSS-06", "TSS-05"),
        _shared_tss,
        ("ist-shared",),
    ),
    Row(
        "interrupt-not-expected",
        "an interrupt came from a source that the kernel did not turn off",
        Place.DELIVERY,
        ("unexpected interrupt", "unknown vector right after sti"),
        "the kernel reports a vector of 32 or more that it has no use for",
        "the vector is an exception",
        "mask the PICs, the I/O APIC's entries and the local APIC's LVT before sti, and have a"
        " handler for the spurious vectors (PIC 7 and 15, SVR)",
        "Local Vector Table",
        chapters.INTERRUPTS,
        ("IRQ-03", "IRQ-04"),
        _unexpected,
        ("irq-unexpected",),
    ),
)
