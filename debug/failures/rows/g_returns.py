# SPDX-License-Identifier: BSD-2-Clause
"""Handlers that end otherwise than by IRET."""

from __future__ import annotations

from typing import Optional

from debug.evidence import Evidence
from debug.explain.findings import FatalException, FrameLeft, GateOfAnotherKind
from debug.explain.model import Explanation, Status
from debug.failures import chapters
from debug.failures.row import Match, Place, Row, certain, likely


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


ROWS = (
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
        chapters.EXCEPTIONS,
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
        chapters.EXCEPTIONS,
        ("IDT-11",),
        _left,
        over=("halted-forever",),
    ),
)
