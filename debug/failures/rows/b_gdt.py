# SPDX-License-Identifier: BSD-2-Clause
"""The far jump out of 16-bit code: where it leads, the GDT, and the code segment that it names."""

from __future__ import annotations

from dataclasses import replace
from typing import Optional

from debug.evidence import Evidence
from debug.explain.findings import (
    DeliveryFailed,
    ExecutingFiller,
    FarJumpAstray,
    FatalException,
    Laxness,
    ModeTrap,
    ModeTrapKind,
    OutsideMemory,
    PageFault,
    SelectorFault,
    SelectorUse,
)
from debug.explain.findings.tables import GdtLost
from debug.explain.model import Explanation, Status
from debug.failures import chapters
from debug.failures.row import Match, Place, Row, certain, likely
from debug.x86.refusals import Check

_JUMPS = (SelectorUse.FAR_JUMP, SelectorUse.FAR_RETURN)
_VECTORS = 0x500  # bytes of the BIOS's vectors and data


def _far(explanation: Explanation, *checks: Check) -> Optional[SelectorFault]:
    """A far jump or return that failed one of `checks`, with a GDT that looks real."""
    for fault in explanation.all(SelectorFault):
        if fault.use in _JUMPS and fault.check in checks and not fault.base_suspect:
            return fault
    return None


def _gdt_base(evidence: Evidence, explanation: Explanation) -> Optional[Match]:
    for fault in explanation.all(SelectorFault):
        if fault.rip is not None and fault.rip < _VECTORS:
            continue  # what runs in the BIOS's vectors is no code
        if fault.shifted:
            return likely(fault, extra=("the base is 8 too high, or the null entry is missing",))
        if fault.base_suspect and fault.check is not Check.NULL_SELECTOR:
            if fault.use is SelectorUse.FAR_JUMP or fault.fresh:
                return certain(fault)
            return likely(fault, extra=(_OR_OVERWRITTEN,))
    failed, lost = explanation.first(DeliveryFailed), explanation.first(GdtLost)
    if failed is not None and lost is not None and failed.check in _SELECTOR_OF_GATE:
        return likely(failed, lost, extra=(_OR_OVERWRITTEN,))
    return None


_OR_OVERWRITTEN = "if selectors were loaded from there before, it has been overwritten since"
_SELECTOR_OF_GATE = (
    *(Check.BEYOND_LIMIT, Check.WRONG_TYPE, Check.NOT_64BIT, Check.NOT_PRESENT, Check.PRIVILEGE),
    *(Check.LONG_AND_BIG, Check.NULL_SELECTOR),
)


def _overwritten(evidence: Evidence, explanation: Explanation) -> Optional[Match]:
    """TR came from the table that is not there now, and the code before has loaded no other."""
    lost = explanation.first(GdtLost)
    if lost is None or lost.task is None:
        return None
    fault = explanation.first(SelectorFault, lost.cpu)
    if fault is not None and fault.base_suspect:
        return None if fault.fresh else likely(fault, lost)
    failed = explanation.first(DeliveryFailed, lost.cpu)
    if failed is not None and failed.check in _SELECTOR_OF_GATE:
        return likely(failed, lost)
    return None


def _gdt_limit(evidence: Evidence, explanation: Explanation) -> Optional[Match]:
    for fault in explanation.all(SelectorFault):
        if fault.check is Check.BEYOND_LIMIT and fault.good_beyond and not fault.base_suspect:
            return certain(fault, extra=("a valid descriptor stands there, beyond the limit",))
    return None


def _beyond(evidence: Evidence, explanation: Explanation) -> Optional[Match]:
    fault = _far(explanation, Check.BEYOND_LIMIT)
    return certain(fault) if fault is not None and not fault.good_beyond else None


def _null(evidence: Evidence, explanation: Explanation) -> Optional[Match]:
    for fault in explanation.all(SelectorFault):
        if fault.use is SelectorUse.FAR_JUMP and fault.check is Check.NULL_SELECTOR:
            return certain(fault)
    return None


def _not_code(evidence: Evidence, explanation: Explanation) -> Optional[Match]:
    fault = _far(explanation, Check.WRONG_TYPE)
    return certain(fault) if fault is not None else None


def _not_present(evidence: Evidence, explanation: Explanation) -> Optional[Match]:
    fault = _far(explanation, Check.NOT_PRESENT)
    return certain(fault) if fault is not None else None


def _privilege(evidence: Evidence, explanation: Explanation) -> Optional[Match]:
    fault = _far(explanation, Check.PRIVILEGE)
    return certain(fault) if fault is not None else None


def _both_bits(evidence: Evidence, explanation: Explanation) -> Optional[Match]:
    fault = _far(explanation, Check.LONG_AND_BIG)
    if fault is not None:
        return certain(fault)
    lax = next((f for f in explanation.all(Laxness) if f.check is Check.LONG_AND_BIG), None)
    return certain(lax) if lax is not None else None


def _astray(evidence: Evidence, explanation: Explanation) -> Optional[Match]:
    found = explanation.first(FarJumpAstray)
    if found is None or explanation.status is Status.HEALTHY:
        return None
    there = next(
        (f for f in explanation.all(ExecutingFiller) if f.cpu == found.cpu), None
    ) or explanation.first(OutsideMemory, found.cpu)
    sure = certain if found.empty else likely  # it may be code, which led elsewhere
    return replace(sure(found, explanation.first(PageFault, found.cpu), there), order=-1)


def _no_far_jump(evidence: Evidence, explanation: Explanation) -> Optional[Match]:
    if explanation.status is Status.HEALTHY:
        return None
    for trap in explanation.all(ModeTrap):
        if trap.kind is ModeTrapKind.NO_FAR_JUMP:
            return likely(trap, explanation.first(FatalException, trap.cpu))
    return None


ROWS = (
    Row(
        "far-jump-missing",
        "CR0.PE was set and no far jump follows: 32-bit or 64-bit code runs in real mode's code segment",
        Place.REAL16,
        ("triple fault right after PE", "#UD after mov cr0", "jmp instead of ljmp"),
        "PE is 1, CS is still real mode's, and a near jump follows on the MOV to CR0, or long mode is on",
        "a far jump loaded CS",
        "jump far to the 32-bit code segment right after PE is set: jmp dword 0x08:start32; where PE and"
        " PG are set at once, to the 64-bit one",
        "Switching to Protected Mode",
        chapters.PROTECTED_MODE,
        ("B16-09", "BLD-05"),
        _no_far_jump,
        over=("no-code-at-rip", "executing-zeros", "code-for-another-mode", "code-segment-16-bit"),
    ),
    Row(
        "far-jump-not-relocated",
        "the trampoline's far jump goes to an address that holds no code: the link-time one, or"
        " one that was never filled in",
        Place.REAL16,
        ("AP runs away after PE", "AP dies at ljmp", "trampoline works at one address only"),
        "a far jump in the trampoline's page names an address outside the page that holds no code,"
        " and the CPU is there",
        "the far jump's target is code",
        "add the page's address to every absolute operand when the trampoline is copied, or link it"
        " for the address where it runs",
        "JMP-Jump",
        chapters.TRAMPOLINE,
        ("AP1-07", "AP1-08", "B16-19", "BLD-03"),
        _astray,
        ("ap-far-jump-not-relocated", "ap-far-jump-offset", "ap-far64-not-relocated"),
    ),
    Row(
        "gdt-base-wrong",
        "GDTR points to memory that holds no GDT",
        Place.REAL16,
        ("#GP(0x08) at the far jump", "triple fault at ljmp", "gate type 0 unsupported"),
        "a selector was refused, and the memory at GDTR's base is zeros, filler or no descriptors",
        "the descriptors at GDTR's base are the intended ones; what its null entry holds does not"
        " matter, even the pseudo-descriptor itself",
        "put the GDT's linear address into the pseudo-descriptor (relocate it), and load DS from"
        " CS before lgdt reads it",
        "Segment Descriptor Tables",
        chapters.PROTECTED_MODE,
        ("B16-01", "B16-02", "B16-03", "AP1-06", "AP1-08", "AP1-14", "AP2-01", "B32-05"),
        _gdt_base,
        ("trampoline-gdt-base", "ap-ds-not-set", "ap-gdt-high-half"),
        over=("gate-selector-bad",),
    ),
    Row(
        "gdt-overwritten",
        "the GDT was overwritten while the CPU used it",
        Place.PROTECTED,
        ("#GP(0x08) at the first interrupt", "works until memory is allocated", "GDT is garbage"),
        "the memory at GDTR's base is zeros or no descriptors, and TR holds a selector that LTR took from"
        " a table",
        "the descriptors are there, or another LGDT stands right before the selector that was refused",
        "find who writes there (a .bss that is cleared late, an allocator that does not know of the"
        " loader's memory, a stack above it): lamp writer with the GDT's address",
        "Segment Descriptor Tables",
        chapters.PROTECTED_MODE,
        (),
        _overwritten,
        over=("gdt-base-wrong", "gate-selector-bad", "data-segment-type"),
    ),
    Row(
        "gdt-limit-too-small",
        "the GDT's limit ends before a descriptor that is there",
        Place.REAL16,
        ("#GP at the far jump", "index > limit"),
        "the selector is beyond GDTR's limit, and a valid descriptor stands at its place",
        "the selector is within the limit",
        "set the limit to the size of the whole table in bytes, minus one",
        "Segment Descriptor Tables",
        chapters.PROTECTED_MODE,
        ("B16-04",),
        _gdt_limit,
        ("ap-gdt-limit",),
        over=("data-segment-beyond-gdt", "selector-beyond-gdt"),
    ),
    Row(
        "far-jump-beyond-gdt",
        "the far jump names a selector beyond the end of the GDT",
        Place.REAL16,
        ("#GP at the far jump", "index > limit"),
        "the selector is beyond GDTR's limit, and no descriptor stands at its place",
        "the selector is within the limit",
        "use index * 8 as the selector, of an entry that the GDT has",
        "Segment Selectors",
        chapters.PROTECTED_MODE,
        ("B16-06",),
        _beyond,
        ("ap-far-jump-beyond-gdt",),
    ),
    Row(
        "far-jump-null",
        "the far jump has a null selector",
        Place.REAL16,
        ("#GP(0) at the far jump", "cs == 0"),
        "the selector of the far jump is 0 to 3",
        "the selector is not null",
        "jump to the code segment's selector, usually 0x08",
        "JMP-Jump",
        chapters.PROTECTED_MODE,
        ("B16-05",),
        _null,
        ("ap-far-jump-null",),
    ),
    Row(
        "far-jump-not-code",
        "the far jump names a descriptor that is no code segment",
        Place.REAL16,
        ("#GP(selector) at the far jump", "not a valid code segment"),
        "the descriptor that the selector names is data, a system segment or empty",
        "the descriptor is a code segment",
        "set the type (bits 8 to 11 of the second dword) to code, or use the right selector",
        "Code- and Data-Segment Descriptor Types",
        chapters.PROTECTED_MODE,
        ("B16-07", "LM-04"),
        _not_code,
        ("ap-far-jump-data",),
    ),
    Row(
        "code-segment-not-present",
        "the code descriptor's present bit is 0",
        Place.REAL16,
        ("#NP at the far jump", "code segment not present"),
        "bit 15 of the descriptor's second dword is 0",
        "the present bit is set",
        "set the present bit: access byte 0x9a, not 0x1a",
        "Segment Descriptors",
        chapters.PROTECTED_MODE,
        ("B16-08", "LM-04"),
        _not_present,
        ("ap-code-not-present",),
    ),
    Row(
        "code-segment-privilege",
        "the code descriptor's DPL or the selector's RPL does not fit the current level",
        Place.PROTECTED,
        ("#GP(selector) at the far jump", "dpl > cpl"),
        "DPL differs from CPL (or is above it, for a conforming segment), or RPL is above CPL",
        "DPL and RPL are 0 at CPL 0",
        "give the kernel's code descriptor DPL 0 and its selector RPL 0",
        "Privilege Level Checking When Transferring Program Control Between Code Segments",
        chapters.PROTECTED_MODE,
        ("B16-07",),
        _privilege,
        ("ap-code-dpl3",),
    ),
    Row(
        "code-segment-l-and-d",
        "the 64-bit code descriptor has both L and D set",
        Place.LONG64,
        ("#GP(selector) at the far jump to 64-bit code", "works in QEMU, not on hardware"),
        "bits 53 and 54 of the descriptor are both 1",
        "L is 1 and D is 0",
        "clear D (bit 54): flags nibble 0xa, not 0xe",
        "Segment Descriptors",
        chapters.STRICTER,
        ("LM-03",),
        _both_bits,
        ("ap-code-l-and-d",),
    ),
)
