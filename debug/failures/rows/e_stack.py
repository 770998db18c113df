# SPDX-License-Identifier: BSD-2-Clause
"""Stacks of CPUs in 64-bit mode."""

from __future__ import annotations

from dataclasses import replace
from typing import Optional

from debug.evidence import Evidence
from debug.explain import stages as stage
from debug.explain.findings import (
    ConsoleSays,
    DeliveryFailed,
    ExecutingFiller,
    FatalException,
    InvalidOpcode,
    MapDifference,
    Misaligned,
    NonCanonical,
    OpcodeProblem,
    OutsideMemory,
    PageFault,
    Role,
    SharedStack,
    StackState,
    StageReached,
)
from debug.explain.model import Explanation, Finding, Status
from debug.failures import chapters
from debug.failures.row import Match, Place, Row, certain, likely, possible
from debug.x86.page_entries import Reason
from debug.x86.refusals import Check

_BEFORE_C = range(stage.AP_REAL16, stage.AP_C)
_SMALL_STACK = 512  # bytes: no kernel gives a CPU less; so far apart, two may have one each


def _stack_fault(explanation: Explanation) -> Optional[PageFault]:
    """A page fault of the stack itself, or of the first frame that a fault had to push."""
    for fault in explanation.all(PageFault):
        if fault.role is Role.STACK and fault.reason in (None, Reason.NOT_PRESENT):
            return fault
    return None


def _frame_lost(explanation: Explanation) -> Optional[DeliveryFailed]:
    """A delivery that failed because RSP is not mapped: the fault before it may be innocent."""
    for failed in explanation.all(DeliveryFailed):
        if failed.check is Check.STACK_UNMAPPED and failed.stack in ("RSP", "ESP", "SP", ""):
            return failed
    return None


def _maps(explanation: Explanation, cpu: Optional[int]) -> Optional[MapDifference]:
    return explanation.first(MapDifference, cpu)


def _stack_null(evidence: Evidence, explanation: Explanation) -> Optional[Match]:
    stack = explanation.first(StackState)
    if stack is None or not stack.null:
        return None
    fault, lost = _stack_fault(explanation), _frame_lost(explanation)
    if fault is not None:
        return certain(fault, stack)
    if lost is not None:
        return likely(lost, stack, explanation.first(FatalException))
    astray = _astray(explanation, stack.cpu)
    return likely(stack, astray, extra=(_WRAPPED,)) if astray is not None else None


_WRAPPED = (
    "what it pushed and popped lies at the end of the address space, where the firmware's ROM is"
)


def _astray(explanation: Explanation, cpu: Optional[int]) -> Optional[Finding]:
    """What tells that a CPU runs where no code is."""
    for opcode in explanation.all(InvalidOpcode, cpu):
        if opcode.problem is OpcodeProblem.NOT_CODE:
            return opcode
    return explanation.first(ExecutingFiller, cpu) or explanation.first(OutsideMemory, cpu)


def _stack_unmapped(evidence: Evidence, explanation: Explanation) -> Optional[Match]:
    stack, fault = explanation.first(StackState), _stack_fault(explanation)
    lost = _frame_lost(explanation)
    if stack is None or stack.null or stack.guard_hit or stack.at_bottom:
        return None
    if stack.mapped or not stack.canonical:
        return None
    if stack.mapped is None:  # no memory to walk: the error code's word
        return likely(fault, stack) if fault is not None else None
    innocent = lost is not None and lost.interrupt and lost is explanation.first(DeliveryFailed)
    first = fault if fault is not None and fault.reason is Reason.NOT_PRESENT else None
    if first is not None and stack.code_lost:
        return possible(first, stack)  # it was mapped when the tables were whole
    if first is not None or innocent:  # what had to be delivered was no mistake in itself
        differs = _maps(explanation, stack.cpu)
        if stack.source or stack.loaded or differs is not None or _just_given(explanation, stack):
            return certain(first or lost, stack, differs)
        return likely(first or lost, stack, extra=(_ASTRAY,))
    return possible(lost, stack) if lost is not None else None


_ASTRAY = (
    "where that RSP comes from is not seen: a switch of threads, or LEAVE with an RBP that was"
    " overwritten, leaves the same"
)


def _just_given(explanation: Explanation, stack: StackState) -> bool:
    """Whether the CPU had come no further than to where it loads its first stack."""
    reached = explanation.first(StageReached, stack.cpu)
    return reached is not None and reached.code in _BEFORE_C


def _stack_overflow(evidence: Evidence, explanation: Explanation) -> Optional[Match]:
    stack, fault = explanation.first(StackState), _stack_fault(explanation)
    told = next((f for f in explanation.all(ConsoleSays) if f.topic == "guard-page"), None)
    first = explanation.first(PageFault)
    if first is not None and first.reason not in (None, Reason.NOT_PRESENT):
        return None  # the page is there
    failed = explanation.first(DeliveryFailed)
    if failed is not None and "TSS" in failed.stack:
        return None  # it was no stack that grew
    if told is not None:
        hurt = fault is not None or _frame_lost(explanation) is not None
        said = explanation.status is Status.PANIC
        return certain(told, fault, stack) if hurt or said else possible(told, stack)
    if stack is None or not stack.guard_hit or (fault is None and not _frame_lost(explanation)):
        return None
    return likely(fault or _frame_lost(explanation), stack)


def _stack_bottom(evidence: Evidence, explanation: Explanation) -> Optional[Match]:
    stack, fault = explanation.first(StackState), _stack_fault(explanation)
    if stack is None or not stack.at_bottom or fault is None:
        return None
    return likely(fault, stack)


def _stack_non_canonical(evidence: Evidence, explanation: Explanation) -> Optional[Match]:
    for address in explanation.all(NonCanonical):
        if address.role is Role.STACK:
            return certain(address, explanation.first(StackState))
    return None


def _misaligned(evidence: Evidence, explanation: Explanation) -> Optional[Match]:
    found = explanation.first(Misaligned)
    if found is None:
        return None
    return certain(found) if found.stack else None


def _operand_misaligned(evidence: Evidence, explanation: Explanation) -> Optional[Match]:
    found = explanation.first(Misaligned)
    return certain(found) if found is not None and not found.stack else None


def _shared(evidence: Evidence, explanation: Explanation) -> Optional[Match]:
    """On the CPU that died of it, if one of the two did: what the other wrote explains the rest.

    Stacks of less than a page lie beside each other in one, as memtest86+'s of 1 KiB do.
    """
    found, culprit = explanation.all(SharedStack), explanation.culprit
    near = [f for f in found if abs(f.rsp - f.other_rsp) < _SMALL_STACK]
    if explanation.status is Status.HEALTHY:
        return possible(near[0]) if near else None
    if not near:
        return possible(found[0]) if found else None
    shared = next((f for f in near if culprit in (f.cpu, f.other)), near[0])
    died = culprit if culprit in (shared.cpu, shared.other) else shared.cpu
    return replace(likely(shared, cpu=died), order=-1)


ROWS = (
    Row(
        "stack-null",
        "the CPU was given no stack: RSP is 0 at the first push",
        Place.LONG64,
        ("AP hangs in 64-bit", "#PF at 0xfffffffffffffff8", "stack pointer not set"),
        "RSP is 0, and the first use of the stack faults or a return has led to where no code is",
        "RSP is not 0",
        "fill in lcpu.stack for this APIC ID before its SIPI, and load RSP from it",
        "Stack Behavior in 64-Bit Mode",
        chapters.STACKS,
        ("STK-01", "AP4-01", "AP4-03"),
        _stack_null,
        ("ap-stack-null",),
        over=("no-code-at-rip", "executing-zeros"),
    ),
    Row(
        "stack-unmapped",
        "the stack this CPU was given is not mapped in the page tables that it loaded",
        Place.LONG64,
        ("AP hangs in 64-bit", "#PF at RSP-8", "stack pointer points to unmapped memory"),
        "a push or call faults at RSP-8, and the page is not present",
        "the page below RSP is mapped and writable",
        "load the kernel's CR3 before the stack, or give the AP a stack in the identity map",
        "Interrupt 14-Page-Fault Exception (#PF)",
        chapters.STACKS,
        ("STK-02", "AP4-05"),
        _stack_unmapped,
        ("ap-stack-unmapped",),
    ),
    Row(
        "stack-overflow",
        "the stack is too small: it grew into the unmapped page below",
        Place.LONG64,
        ("output garbled", "stack too small", "double fault in deep calls", "guard page"),
        "a push, call or local faults just below a mapped stack",
        "RSP lies well within its stack",
        "give the CPU a larger stack, or use less: no large arrays, no deep recursion",
        "Interrupt 8-Double Fault Exception (#DF)",
        chapters.STACKS,
        ("STK-05", "PG-23"),
        _stack_overflow,
        ("ap-stack-overflow", "thread-stack-overflow"),
    ),
    Row(
        "stack-bottom-as-top",
        "RSP was loaded with the lowest address of the stack instead of the address above it",
        Place.LONG64,
        ("#PF at the first push", "RSP equals the stack array's symbol"),
        "RSP is the first byte of a mapped page, the page below is not mapped, and the first push"
        " faults",
        "RSP is the end of the stack",
        "add the stack's size: a stack grows downwards from its end",
        "Stacks",
        chapters.STACKS,
        ("STK-06",),
        _stack_bottom,
        ("ap-stack-bottom",),
    ),
    Row(
        "stack-non-canonical",
        "RSP is not a canonical address",
        Place.LONG64,
        ("#SS(0) at push", "#GP(0) at push in QEMU"),
        "bits 63 to 47 of RSP are not all equal",
        "RSP is canonical",
        "check how the stack's address was made: sign extension, or a 32-bit half",
        "Canonical Addressing",
        chapters.STACKS,
        ("STK-03",),
        _stack_non_canonical,
        ("ap-stack-non-canonical",),
    ),
    Row(
        "stack-misaligned",
        "the stack is not aligned to 16 bytes where compiled code relies on it",
        Place.LONG64,
        ("#GP(0) at movaps", "crash in the first C function on an AP"),
        "an aligned SSE access through RSP or RBP whose address is no multiple of 16",
        "the address is a multiple of 16",
        "before a call RSP must be a multiple of 16; jump to C with RSP 8 below that",
        "Memory Alignment",
        chapters.STACKS,
        ("STK-04", "IRQ-08"),
        _misaligned,
        ("ap-stack-misaligned",),
    ),
    Row(
        "operand-misaligned",
        "an aligned SSE access to data that is not aligned",
        Place.LONG64,
        ("#GP(0) at movaps",),
        "the operand's address is no multiple of its size",
        "the address is aligned",
        "align the data, or use the unaligned form (movups)",
        "Memory Alignment",
        chapters.INTO_C,
        ("STK-04",),
        _operand_misaligned,
    ),
    Row(
        "stack-shared",
        "two CPUs use one stack",
        Place.LONG64,
        ("output garbled", "returns to a wrong address", "works with one AP only"),
        "the stack pointers of two CPUs lie in the same page",
        "every CPU has a stack of its own",
        "give every AP a block of its own, found by APIC ID, before any of them is started",
        "MP Initialization Protocol Algorithm for MP Systems",
        chapters.TOGETHER,
        ("AP4-02", "AP4-16", "AP0-17"),
        _shared,
        ("aps-share-stack",),
    ),
)
