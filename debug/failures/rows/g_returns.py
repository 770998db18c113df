# SPDX-License-Identifier: BSD-2-Clause
"""Handlers that end otherwise than by IRET, and calls that end not at all."""

from __future__ import annotations

from dataclasses import replace
from typing import Optional

from debug.evidence import Evidence
from debug.explain.findings import (
    BiosCall,
    FatalException,
    FrameLeft,
    GateOfAnotherKind,
    HaltedForever,
    PageFault,
    ShortIret,
    Spinning,
)
from debug.explain.findings.handlers import EndlessCalls, InHandler
from debug.explain.findings.tables import StackOverTable
from debug.explain.model import Explanation, Status
from debug.failures import chapters
from debug.failures.row import Certainty, Match, Place, Row, certain, likely, told_by


def _left(evidence: Evidence, explanation: Explanation) -> Optional[Match]:
    found = explanation.first(FrameLeft)
    if found is None or explanation.status is Status.HEALTHY:
        return None
    return certain(found) if found.whole else likely(found)


def _other_kind(evidence: Evidence, explanation: Explanation) -> Optional[Match]:
    found = explanation.first(GateOfAnotherKind)
    if found is None or explanation.status is Status.HEALTHY:
        return None
    return likely(found, explanation.first(FatalException, found.cpu))


def _gave_up(evidence: Evidence, explanation: Explanation) -> Optional[Match]:
    """The handler of the last exception was reached, and halts: what was raised is the reason."""
    fatal = explanation.first(FatalException)
    if fatal is None or explanation.status is not Status.HANG or not explanation.chain:
        return None
    within = explanation.first(InHandler, fatal.cpu)
    halted = explanation.first(HaltedForever, fatal.cpu)
    stopped = within or halted or explanation.first(Spinning, fatal.cpu)
    if stopped is None:
        return None
    proof = certain if within is not None and within.rip == fatal.rip else likely
    return proof(fatal, explanation.first(PageFault, fatal.cpu), stopped)


def _recursion(evidence: Evidence, explanation: Explanation) -> Optional[Match]:
    found = explanation.first(EndlessCalls)
    if found is None or explanation.status is Status.HEALTHY:
        return None
    return replace(likely(found), order=-1)


ROWS = (
    Row(
        "recursion-without-end",
        "a function calls itself without end: its frames fill the stack and what lies below it",
        Place.RUNNING,
        ("infinite recursion", "stack full of the same return address", "backtrace repeats"),
        "the stack holds one return address after the other, all the same and equally far apart, and no"
        " push can go below it",
        "the addresses differ, or there is room below the stack pointer",
        "find the condition that was to end the recursion; an interrupt handler or a fault's that calls"
        " what raised it recurses too; keep an unmapped page below each stack",
        "Stacks",
        chapters.STACKS,
        ("STK-05",),
        _recursion,
        over=(
            *("stack-overflow", "stack-unmapped", "stack-outside-memory", "stack-bottom-as-top"),
            *("stack-into-tables", "write-to-read-only", "iret-frame-bad", "idt-unmapped"),
            *("page-fault-undelivered", "gate-empty", "executing-zeros", "halted-forever"),
            "tables-changed-or-stale",
        ),
    ),
    Row(
        "stack-into-tables",
        "a stack grew into the GDT, the IDT or the page tables: it ran out, or a handler or a recursion never ends",
        Place.DELIVERY,
        ("gates and descriptors are garbage", "recursion without an end", "stack too small"),
        "the GDT, the IDT of 64-bit code, or the page table in the frame that RSP is in, holds addresses of"
        " the code that runs",
        "the tables hold descriptors",
        "look for what fills the stack: a recursion, interrupts that nest, a handler that faults or that"
        " does not return; keep an unmapped page below each stack",
        "Stacks",
        chapters.STACKS,
        ("STK-05", "PG-23"),
        told_by(StackOverTable, certainty=Certainty.LIKELY),
        over=(
            *(
                "gdt-base-wrong",
                "gate-selector-bad",
                "gate-layout-32",
                "gate-empty",
                "data-segment-type",
            ),
            *("idt-missing", "stack-overflow", "stack-unmapped", "interrupt-without-gate"),
        ),
    ),
    Row(
        "iret-without-rex",
        "a 64-bit handler returns with IRETD: it pops words of 32 bits",
        Place.DELIVERY,
        ("#GP(0) at iret", "iret instead of iretq", "first interrupt kills the kernel"),
        "the IRET has no REX.W, and a frame of 64-bit words is at RSP",
        "the instruction is IRETQ",
        "write iretq: iret alone is assembled without REX.W",
        "IRET/IRETD/IRETQ-Interrupt Return",
        chapters.INTERRUPTS,
        ("IDT-11",),
        told_by(ShortIret),
        over=("iret-frame-bad", "handler-faults", "selector-beyond-gdt", "gate-selector-bad"),
    ),
    Row(
        "bios-call-in-protected-mode",
        "the BIOS was called by INT n after real mode had been left",
        Place.PROTECTED,
        ("triple fault at int 0x10", "int 0x13 in protected mode", "print with the BIOS after PE"),
        "the instruction is INT 10h to 1Ah, CR0.PE is 1, and IDTR names the BIOS's vectors",
        "the CPU is in real mode",
        "call the BIOS before PE is set, or go back to real mode for it; write to 0xb8000 or COM1"
        " instead",
        "Switching to Protected Mode",
        chapters.PROTECTED_MODE,
        ("B32-04",),
        told_by(BiosCall),
        over=("idt-missing", "exception-without-idt"),
    ),
    Row(
        "gate-kind-wrong",
        "a gate of 32-bit code's IDT is a 16-bit one, or a task gate",
        Place.DELIVERY,
        ("#GP at iret after the first interrupt", "0x86 instead of 0x8e", "task gate in the IDT"),
        "the type of the gate that was taken is 5, 6 or 7",
        "the type is 14 or 15",
        "give interrupt gates the type 14 (0x8e with P and DPL 0): a 16-bit gate pushes words of 16 bits,"
        " and a task gate needs a TSS",
        "IDT Descriptors",
        chapters.INTERRUPTS,
        ("IDT-06",),
        _other_kind,
        over=("iret-frame-bad", "selector-beyond-gdt", "exception-undelivered"),
    ),
    Row(
        "handler-left-by-ret",
        "a handler was left by RET: IRET's frame stays on the stack, and interrupts stay off",
        Place.DELIVERY,
        ("one interrupt, then nothing", "hlt never wakes after the first tick", "ret in an ISR"),
        "CS and RFLAGS of an interrupt's frame are on top of the stack of a CPU that halts with IF=0",
        "the top of the stack is anything else",
        "end the handler with iretq (iret in 32-bit code); in C only a stub in assembler, or a function"
        " with the attribute interrupt, can be one",
        "IRET/IRETD/IRETQ-Interrupt Return",
        chapters.INTERRUPTS,
        ("IDT-11",),
        _left,
        over=("halted-forever",),
    ),
    Row(
        "handler-gave-up",
        "an exception whose handler was entered, and stopped the CPU",
        Place.GENERIC,
        ("hangs in the exception handler", "cli; hlt after an exception", "isr: for (;;)"),
        "the last exception's frame is on the stack of a CPU that halts with interrupts off",
        "the handler returned",
        "start from the first line of what happened: that is what the kernel did wrong, and halting is"
        " what its handler does then; let it print vector, error code, RIP and CR2 first",
        "Exception and Interrupt Reference",
        chapters.EXCEPTIONS,
        (),
        _gave_up,
        generic=True,
        over=("halted-forever", "endless-jump", "endless-loop", "cpu-there-not-seen"),
    ),
)
