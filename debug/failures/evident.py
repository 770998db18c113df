# SPDX-License-Identifier: BSD-2-Clause
"""A second proof for rows whose own test needs memory: what a log alone shows.

The findings are those of debug/explain/clues.  `judged` also lowers what a log can't support.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Callable, Optional

from debug.evidence import Ending, EventKind, Evidence, NoMemory
from debug.explain.findings import (
    BadControlWrite,
    DeliveryFailed,
    FirmwareDied,
    KernelGaveUp,
    PageFault,
    SelectorFault,
    SelectorUse,
    SipiReceived,
)
from debug.explain.findings.evident import Clue, Evident, Proof
from debug.explain.findings.tables import HandlerFaults
from debug.explain.model import CpuState, Explanation, Status
from debug.failures.row import Certainty, Match, words

_CERTAINTY = {
    Proof.ALONE: Certainty.CERTAIN,
    Proof.FITS: Certainty.LIKELY,
    Proof.HINT: Certainty.POSSIBLE,
}

# Row: the clues that prove it.
_PROOFS: dict[str, tuple[Clue, ...]] = {
    "tss-stack-bad": (Clue.STACK_OF_TSS,),
    "tss-missing": (Clue.TSS_REFUSED, Clue.NO_TSS),
    "tss-unmapped": (Clue.TSS_UNMAPPED,),
    "interrupt-without-gate": (Clue.GATE_MISSING,),
    "idt-limit-too-small": (Clue.IDT_SHORT,),
    "gate-empty": (Clue.GATE_EMPTY,),
    "gate-selector-bad": (Clue.GATE_CODE,),
    "iret-frame-bad": (Clue.RETURN_FRAME, Clue.LOW_TARGET),
    "far-jump-not-code": (Clue.CODE_TYPE, Clue.CODE_REFUSED),
    "far-jump-null": (Clue.CODE_NULL,),
    "code-segment-privilege": (Clue.CODE_PRIVILEGE,),
    "code-segment-not-present": (Clue.CODE_ABSENT,),
    "code-segment-l-and-d": (Clue.CODE_L_AND_D,),
    "data-segment-type": (Clue.DATA_TYPE,),
    "data-segment-privilege": (Clue.DATA_PRIVILEGE,),
    "data-segment-not-present": (Clue.DATA_ABSENT,),
    "stack-segment-null": (Clue.STACK_NULL_SELECTOR,),
    "selector-beyond-gdt": (Clue.BEYOND_GDT,),
    "tss-busy": (Clue.TSS_BUSY,),
    "tss-descriptor-bad": (Clue.TSS_DESCRIPTOR, Clue.TSS_BUSY),
    "gdt-base-wrong": (Clue.GDT_NULL, Clue.GDT_EMPTY, Clue.GDT_ASTRAY),
    "gdt-unmapped": (Clue.GDT_AT_ZERO,),
    "code-segment-l-missing": (Clue.L_BIT_MISSING,),
    "compatibility-mode-left-on": (Clue.COMPATIBILITY,),
    "cr3-zero": (Clue.TABLES_AT_ZERO,),
    "cr3-wrong": (Clue.CR3_MISALIGNED,),
    "code-lost-with-cr3": (Clue.CODE_LOST_WITH_CR3,),
    "identity-map-missing": (Clue.CODE_LOST_WITH_PG,),
    "lme-missing": (Clue.LME_NOT_SET,),
    "stack-null": (Clue.STACK_ZERO,),
    "stack-unmapped": (Clue.STACK_UNMAPPED,),
    "user-stack-unmapped": (Clue.USER_STACK_UNMAPPED,),
    "stack-overflow": (Clue.STACK_DRAINED,),
    "interrupts-nest": (Clue.INTERRUPTS_NEST,),
    "stack-in-code": (Clue.STACK_IN_CODE,),
    "executing-zeros": (Clue.SLIDE,),
    "ivt-as-pointer": (Clue.IVT_POINTER,),
    "null-segment-used": (Clue.NULL_SEGMENT,),
    "mmio-unmapped": (Clue.MMIO,),
    "frame-as-pointer": (Clue.FRAME_AS_POINTER,),
    "higher-half-wrong-frame": (Clue.HIGH_ENTRY,),
    "higher-half-unmapped": (Clue.HIGH_FETCH,),
    "divide-error": (Clue.DIVIDE,),
    "sse-not-enabled": (Clue.SSE_OFF,),
    "no-code-at-rip": (Clue.NOT_CODE,),
    "pointer-unmapped": (Clue.POINTER,),
    "pointer-non-canonical": (Clue.NOT_CANONICAL,),
}


def match(row_id: str, explanation: Explanation) -> Optional[Match]:
    """The strongest proof of a row among the clues."""
    wanted = _PROOFS.get(row_id, ())
    found = [clue for clue in explanation.all(Evident) if clue.clue in wanted]
    if not found:
        return None
    best = min(found, key=lambda clue: _CERTAINTY[clue.proof].rank)
    certainty = _CERTAINTY[best.proof]
    if row_id == "tss-descriptor-bad" and best.clue is Clue.TSS_BUSY and best.cpu:
        certainty = Certainty.POSSIBLE  # on an AP it is the TSS of another CPU, most often
    if row_id == "tss-busy" and not best.cpu:
        certainty = Certainty.POSSIBLE
    return Match(certainty, words(best), best.cpu)


def judged(
    row_id: str, found: Optional[Match], evidence: Evidence, explanation: Explanation
) -> Optional[Match]:
    """A row's own match or the better one by clues, no stronger than the evidence allows.

    Of code that is the firmware's, no row about a kernel says anything.
    """
    if row_id != "kernel-not-reached" and explanation.first(FirmwareDied) is not None:
        return None
    other = match(row_id, explanation)
    if found is None or other is not None and other.certainty.rank < found.certainty.rank:
        return other
    doubt = _DOUBTS.get(row_id)
    return doubt(found, evidence, explanation) if doubt is not None else found


def _not_above(match: Match, certainty: Certainty) -> Match:
    return match if match.certainty.rank >= certainty.rank else replace(match, certainty=certainty)


def _selector(found: Match, evidence: Evidence, explanation: Explanation) -> Optional[Match]:
    """Without the instruction the selector may have come from anywhere: it may have been popped."""
    clues = [clue for clue in explanation.all(Evident) if clue.clue is Clue.RETURN_FRAME]
    if any(clue.proof is not Proof.HINT for clue in clues):
        return None
    faults = explanation.all(SelectorFault, found.cpu)
    if explanation.first(HandlerFaults) and any(f.use is SelectorUse.UNKNOWN for f in faults):
        return _not_above(found, Certainty.POSSIBLE)  # what is there now is not what was refused
    blind = isinstance(evidence.memory, NoMemory) and any(f.descriptor is None for f in faults)
    return _not_above(found, Certainty.POSSIBLE if clues else Certainty.LIKELY) if blind else found


def _null(found: Match, evidence: Evidence, explanation: Explanation) -> Optional[Match]:
    """A small CR2 may be the CPU's own access to a table, where no registers are known."""
    at_zero = any(clue.clue is Clue.GDT_AT_ZERO for clue in explanation.all(Evident))
    fault = explanation.first(PageFault)
    blind = at_zero and fault is not None and fault.rip is None
    return None if blind else found


def _still_waiting(found: Match, evidence: Evidence, explanation: Explanation) -> Optional[Match]:
    """A machine that was stopped from outside: the BSP may have been about to start the CPU."""
    if explanation.status is not Status.MISSING_CPU or explanation.first(KernelGaveUp) is not None:
        return found
    if evidence.ending not in (Ending.STOPPED, Ending.UNKNOWN):
        return found
    bsp = explanation.cpus[0] if explanation.cpus else None
    busy = bsp is not None and bsp.state in (CpuState.RUNNING, CpuState.SPINNING)
    if busy and _held_up(found, explanation):
        return None  # that one is the cause, and this a consequence
    return _not_above(found, Certainty.LIKELY) if busy else found


def _held_up(found: Match, explanation: Explanation) -> bool:
    """Another CPU was sent its SIPI and is not up: the BSP may be waiting for that one first."""
    sent = {received.cpu for received in explanation.all(SipiReceived)}
    if found.cpu in sent:
        return False  # it is one of those, and what it lacks is known
    mode = explanation.cpus[0].mode if explanation.cpus else ""
    return any(
        view.index in sent
        and view.index != found.cpu
        and (view.arrived is False or view.arrived is None and view.mode != mode)
        for view in explanation.cpus
    )


def _full_or_unmapped(
    found: Match, evidence: Evidence, explanation: Explanation
) -> Optional[Match]:
    """A push that faults looks the same with a stack that was never mapped and with a full one."""
    drained = any(clue.clue is Clue.STACK_DRAINED for clue in explanation.all(Evident))
    told = match("stack-unmapped", explanation)
    if not drained or told is not None and told.certainty is not Certainty.POSSIBLE:
        return found
    return _not_above(found, Certainty.POSSIBLE)


def _gate(found: Match, evidence: Evidence, explanation: Explanation) -> Optional[Match]:
    """QEMU's error code does not tell the delivery of an interrupt from a far jump behind it."""
    if not isinstance(evidence.memory, NoMemory):
        return found
    came = {e.vector for e in evidence.events if e.kind is EventKind.HARDWARE_INTERRUPT}
    failed = explanation.all(DeliveryFailed, found.cpu)
    if any(f.interrupt and f.vector in came for f in failed):
        return _not_above(found, Certainty.LIKELY)
    return found


def _impossible(found: Match, evidence: Evidence, explanation: Explanation) -> Optional[Match]:
    """Bochs lets no such value pass: in a register that its log shows, a digit was changed."""
    written = explanation.first(BadControlWrite, found.cpu) is not None
    shown = evidence.emulator == "bochs" and isinstance(evidence.memory, NoMemory)
    return None if shown and not written else found


Doubt = Callable[[Match, Evidence, Explanation], Optional[Match]]
_DOUBTS: dict[str, Doubt] = {
    "selector-beyond-gdt": _selector,
    "null-pointer": _null,
    "gate-selector-bad": _gate,
    "ap-missing": _still_waiting,
    "no-sipi": _still_waiting,
    "init-not-sent": _still_waiting,
    "stack-unmapped": _full_or_unmapped,
    "control-reserved-bits": _impossible,
    "paging-without-protection": _impossible,
    "pcide-too-early": _impossible,
    "lme-changed-under-paging": _impossible,
    "pae-missing": _impossible,
    "long-mode-left": _impossible,
}
