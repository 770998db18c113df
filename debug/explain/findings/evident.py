# SPDX-License-Identifier: BSD-2-Clause
"""Facts that a log proves without any memory: by its registers, or in the emulator's own words."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from debug.explain.model import Finding


class Proof(Enum):
    """How much a fact proves by itself."""

    ALONE = "alone"  # the architecture leaves nothing else
    FITS = "fits"  # everything seen fits, something else is conceivable
    HINT = "hint"  # one of several explanations


class Clue(Enum):
    """What was found; the value is a short name for tests."""

    # in the emulator's words
    STACK_OF_TSS = "stack-of-tss"  # SS0, ESP0, RSP0 or an IST was refused
    TSS_REFUSED = "tss-refused"  # no TSS, or one that is too short
    GATE_MISSING = "gate-missing"  # an interrupt has no valid gate
    IDT_SHORT = "idt-short"
    GATE_EMPTY = "gate-empty"  # the gate of an exception is none
    GATE_CODE = "gate-code"  # the selector in a gate was refused
    SEGMENT_END = "segment-end"  # an access beyond a segment's limit
    RETURN_FRAME = "return-frame"  # IRET or a far return refused what it popped
    CODE_TYPE = "code-type"  # a far transfer to what is no code segment
    CODE_PRIVILEGE = "code-privilege"
    CODE_ABSENT = "code-absent"
    CODE_L_AND_D = "code-l-and-d"
    CODE_NULL = "code-null"
    DATA_TYPE = "data-type"
    DATA_PRIVILEGE = "data-privilege"
    DATA_ABSENT = "data-absent"
    STACK_NULL_SELECTOR = "stack-null-selector"
    BEYOND_GDT = "beyond-gdt"
    TSS_BUSY = "tss-busy"
    TSS_DESCRIPTOR = "tss-descriptor"
    # by registers
    NO_TSS = "no-tss"
    TSS_UNMAPPED = "tss-unmapped"
    GDT_ASTRAY = "gdt-astray"
    CODE_REFUSED = "code-refused"
    GDT_NULL = "gdt-null"
    GDT_AT_ZERO = "gdt-at-zero"
    GDT_EMPTY = "gdt-empty"
    TABLES_AT_ZERO = "tables-at-zero"
    COMPATIBILITY = "compatibility"
    L_BIT_MISSING = "l-bit-missing"
    CR3_MISALIGNED = "cr3-misaligned"
    CODE_LOST_WITH_CR3 = "code-lost-with-cr3"
    CODE_LOST_WITH_PG = "code-lost-with-pg"
    LME_NOT_SET = "lme-not-set"
    STACK_ZERO = "stack-zero"
    STACK_UNMAPPED = "stack-unmapped"
    USER_STACK_UNMAPPED = "user-stack-unmapped"
    STACK_DRAINED = "stack-drained"
    INTERRUPTS_NEST = "interrupts-nest"
    STACK_IN_CODE = "stack-in-code"
    SLIDE = "slide"
    IVT_POINTER = "ivt-pointer"
    LOW_TARGET = "low-target"
    NULL_SEGMENT = "null-segment"
    MMIO = "mmio"
    FRAME_AS_POINTER = "frame-as-pointer"
    HIGH_ENTRY = "high-entry"
    HIGH_FETCH = "high-fetch"
    DIVIDE = "divide"
    SSE_OFF = "sse-off"
    NOT_CODE = "not-code"
    POINTER = "pointer"
    NOT_CANONICAL = "not-canonical"


@dataclass(frozen=True)
class Evident(Finding):
    """One such fact, with the lines that show it."""

    clue: Clue
    proof: Proof
    lines: tuple[str, ...]

    def sentences(self) -> tuple[str, ...]:
        return self.lines
