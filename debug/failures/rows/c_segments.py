# SPDX-License-Identifier: BSD-2-Clause
"""Segment, TSS and LDT loads after the switch to protected mode."""

from __future__ import annotations

from typing import Optional

from debug.evidence import Evidence
from debug.explain.findings import FarJumpAstray, SelectorFault, SelectorUse
from debug.explain.findings.evident import Clue, Evident
from debug.explain.model import Explanation
from debug.failures import chapters
from debug.failures.row import Match, Matcher, Place, Row, certain, likely
from debug.x86.descriptors import low_base
from debug.x86.refusals import Check

_LOADS = (SelectorUse.LOAD_SS, SelectorUse.LOAD_DATA)


def _fault(uses: tuple[SelectorUse, ...], *checks: Check) -> Matcher:
    """A matcher: one of `uses` failed one of `checks`, with a GDT that looks real."""

    def match(evidence: Evidence, explanation: Explanation) -> Optional[Match]:
        for fault in explanation.all(SelectorFault):
            if explanation.first(FarJumpAstray, fault.cpu) is not None:
                continue  # it executes what is no code
            if fault.use in uses and fault.check in checks and not fault.base_suspect:
                return likely(fault, extra=(_POPPED,)) if fault.popped else certain(fault)
        return None

    return match


_POPPED = (
    "it was popped: where the frame is shifted, or was overwritten, no selector was saved there, and"
    " the number is garbage"
)


def _holders(evidence: Evidence, fault: SelectorFault) -> tuple[int, ...]:
    """The CPUs whose TR holds the TSS that LTR refused as busy."""
    found = []
    for cpu in evidence.cpus:
        task = cpu.registers.segments.get("tr")
        if task is None or not task.selector & 0xFFFC or not task.base:
            continue
        base = low_base(fault.descriptor) if fault.descriptor is not None else task.base
        if task.selector == fault.selector & ~3 and task.base & 0xFFFF_FFFF == base & 0xFFFF_FFFF:
            found.append(cpu.index)
    return tuple(found)


def _busy(evidence: Evidence, explanation: Explanation) -> Optional[Match]:
    """Busy by another CPU's LTR; on an AP the one that did it may be hidden."""
    fault = explanation.first(SelectorFault)
    if fault is None or _fault((SelectorUse.LTR,), Check.BUSY)(evidence, explanation) is None:
        return None
    others = [index for index in _holders(evidence, fault) if index != fault.cpu]
    if others:
        return certain(fault, extra=(f"CPU {others[0]} has it in its TR",))
    return likely(fault) if fault.cpu and fault.cpu not in _holders(evidence, fault) else None


def _no_task(evidence: Evidence, explanation: Explanation) -> Optional[Match]:
    """No available TSS; a busy one that no other CPU has was made so, or was loaded before."""
    found = _fault((SelectorUse.LTR,), *_NO_TSS)(evidence, explanation)
    fault = explanation.first(SelectorFault)
    if found is not None or fault is None or fault.cpu:
        return found
    if fault.use is not SelectorUse.LTR or fault.check is not Check.BUSY:
        return None
    holders = _holders(evidence, fault)
    if any(index != fault.cpu for index in holders):
        return None
    if fault.cpu in holders:
        return certain(fault, extra=("this CPU's TR holds it already: LTR was executed before",))
    return likely(fault, extra=("no CPU has it in its TR: its type was written as busy, 0xb",))


_NO_TSS = (Check.WRONG_TYPE, Check.NOT_PRESENT, Check.UPPER_HALF, Check.NULL_SELECTOR)


def _limit(evidence: Evidence, explanation: Explanation) -> Optional[Match]:
    found = next((c for c in explanation.all(Evident) if c.clue is Clue.SEGMENT_END), None)
    return likely(found) if found is not None else None


ROWS = (
    Row(
        "selector-beyond-gdt",
        "a selector was used that lies beyond the end of the GDT",
        Place.PROTECTED,
        ("#GP(selector)", "index > limit"),
        "the error code names a selector beyond GDTR's limit",
        "the selector is within the limit",
        "use a selector that the GDT has, or set its limit to the table's size minus one",
        "Segment Selectors",
        chapters.PROTECTED_MODE,
        ("B16-04", "B16-06", "TSS-01"),
        _fault((SelectorUse.UNKNOWN,), Check.BEYOND_LIMIT),
    ),
    Row(
        "data-segment-type",
        "a segment register was loaded with a descriptor of the wrong type",
        Place.PROTECTED,
        ("#GP(selector) at mov ss", "#GP(selector) at mov ds", "not writable data segment"),
        "the descriptor is code, read-only or a system segment",
        "the descriptor is writable data",
        "load the data selector (often 0x10), not the code selector",
        "Code- and Data-Segment Descriptor Types",
        chapters.PROTECTED_MODE,
        ("B32-01",),
        _fault(_LOADS, Check.WRONG_TYPE),
        ("ap-ss-code-selector", "ap-data-read-only"),
    ),
    Row(
        "data-segment-not-present",
        "a data descriptor's present bit is 0",
        Place.PROTECTED,
        ("#NP at mov ds", "#SS at mov ss"),
        "bit 15 of the descriptor's second dword is 0",
        "the present bit is set",
        "set the present bit: access byte 0x92, not 0x12",
        "Segment Descriptors",
        chapters.PROTECTED_MODE,
        ("B32-02",),
        _fault(_LOADS, Check.NOT_PRESENT),
        ("ap-data-not-present",),
    ),
    Row(
        "data-segment-beyond-gdt",
        "a segment register was loaded with a selector beyond the end of the GDT",
        Place.PROTECTED,
        ("#GP(selector) at mov ds or mov ss", "index > limit"),
        "the selector is beyond GDTR's limit",
        "the selector is within the limit",
        "load a selector that this GDT has; after a new lgdt the loader's selectors are gone",
        "Segment Selectors",
        chapters.PROTECTED_MODE,
        ("B32-05", "B16-04"),
        _fault(_LOADS, Check.BEYOND_LIMIT, Check.NO_TABLE),
        ("ap-data-beyond-gdt",),
    ),
    Row(
        "data-segment-privilege",
        "the RPL or DPL of a segment does not fit the current level",
        Place.PROTECTED,
        ("#GP(selector) at mov ss", "RPL"),
        "RPL or DPL differs from CPL (SS), or is below it (data)",
        "RPL and DPL fit CPL",
        "use RPL 0 and DPL 0 at CPL 0",
        "Privilege Level Checking When Accessing Data Segments",
        chapters.PROTECTED_MODE,
        ("LM-08",),
        _fault(_LOADS, Check.PRIVILEGE),
        ("ap-data-rpl3",),
    ),
    Row(
        "segment-limit-exceeded",
        "an access lies beyond the limit of its segment",
        Place.PROTECTED,
        ("read beyond limit", "write beyond limit", "works in QEMU, #GP(0) in Bochs"),
        "the emulator says so, or the offset is above the segment's limit",
        "the segment's limit covers the offset",
        "give the descriptor the limit of all that it is to reach (0xfffff with G=1 for 4 GiB), or"
        " correct the offset, which counts from the segment's base; QEMU's TCG checks no limits,"
        " hardware does",
        "Limit Checking",
        chapters.PROTECTED_MODE,
        ("B16-18",),
        _limit,
    ),
    Row(
        "stack-segment-null",
        "SS was loaded with a null selector outside 64-bit mode",
        Place.PROTECTED,
        ("#GP(0) at mov ss",),
        "the selector is null and the CPU is not in 64-bit mode at CPL 0",
        "the selector is not null",
        "load SS with a data selector before 64-bit mode",
        "Segment Selectors",
        chapters.PROTECTED_MODE,
        ("LM-08",),
        _fault((SelectorUse.LOAD_SS,), Check.NULL_SELECTOR),
        ("ap-ss-null",),
    ),
    Row(
        "tss-beyond-gdt",
        "LTR names a selector beyond the end of the GDT",
        Place.LONG64,
        ("#GP at ltr", "index > limit"),
        "the 16-byte TSS descriptor does not lie within GDTR's limit",
        "the descriptor lies within the limit",
        "reserve two entries for the TSS in 64-bit mode, and count both in the limit",
        "TSS Descriptor in 64-bit mode",
        chapters.INTERRUPTS,
        ("TSS-01",),
        _fault((SelectorUse.LTR,), Check.BEYOND_LIMIT),
        ("ltr-beyond-gdt",),
    ),
    Row(
        "tss-busy",
        "LTR on a TSS that is already busy: a GDT shared by several CPUs",
        Place.LONG64,
        ("#GP at ltr on an AP", "doesn't point to an available TSS"),
        "the descriptor's type is 0xb (busy), and another CPU's TR holds it",
        "the type is 0x9, or there is no other CPU that could have loaded it",
        "give every CPU a TSS and a GDT entry of its own",
        "LTR-Load Task Register",
        chapters.INTERRUPTS,
        ("TSS-02",),
        _busy,
        ("tss-shared",),
    ),
    Row(
        "tss-descriptor-bad",
        "LTR on a descriptor that is no available TSS, or whose upper half is missing",
        Place.LONG64,
        ("#GP at ltr", "#NP at ltr"),
        "the descriptor is not an available TSS, is not present, or its second half is not one",
        "the descriptor is a present, available TSS",
        "write all 16 bytes of the descriptor: type 0x89, base bits 63:32 in the upper half; LTR makes it"
        " busy, 0x8b, and a second LTR is refused",
        "TSS Descriptor in 64-bit mode",
        chapters.INTERRUPTS,
        ("TSS-03",),
        _no_task,
        ("tss-not-present",),
    ),
    Row(
        "iret-frame-bad",
        "IRET pops a frame whose CS or SS is not valid",
        Place.DELIVERY,
        ("#GP at iret", "#GP at iretq", "garbage CS in the frame"),
        "the selector in the return frame is null, beyond the GDT, or of the wrong kind",
        "the frame is the one that the CPU pushed",
        "pop the error code before iret, keep pushes and pops in balance, and use iretq in 64-bit"
        " code",
        "IRET/IRETD/IRETQ-Interrupt Return",
        chapters.INTERRUPTS,
        ("IDT-11", "LM-08", "TSS-06"),
        _fault(
            (SelectorUse.IRET,),
            Check.NULL_SELECTOR,
            Check.BEYOND_LIMIT,
            Check.WRONG_TYPE,
            Check.PRIVILEGE,
            Check.NOT_PRESENT,
            Check.NO_TABLE,
        ),
    ),
)
