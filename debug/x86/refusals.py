# SPDX-License-Identifier: BSD-2-Clause
"""The answer of every check that a CPU makes: what it refuses, and what it raises.

A check returns a Refusal, an Undecided where the evidence does not reach, or None when the CPU
goes on.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Optional, Union

from debug.x86.exceptions import PF, vector
from debug.x86.paging import Walk


class Check(Enum):
    """Which check failed; the value is a short name for reports and tests."""

    # a selector or descriptor
    NULL_SELECTOR = "null-selector"
    NO_TABLE = "no-ldt"
    BEYOND_LIMIT = "beyond-table-limit"
    WRONG_TABLE = "not-in-gdt"
    TABLE_UNMAPPED = "table-unmapped"
    WRONG_TYPE = "wrong-type"
    PRIVILEGE = "privilege"
    NOT_PRESENT = "not-present"
    LONG_AND_BIG = "both-l-and-d"
    NOT_64BIT = "not-64-bit-code"
    BUSY = "tss-busy"
    UPPER_HALF = "upper-half-type"
    OFFSET = "offset-beyond-limit"
    NON_CANONICAL = "non-canonical"
    # delivery through the IDT
    IDT_LIMIT = "idt-limit"
    GATE_TYPE = "gate-type"
    GATE_PRIVILEGE = "gate-privilege"
    GATE_NOT_PRESENT = "gate-not-present"
    TSS_MISSING = "no-tss"
    TSS_LIMIT = "tss-limit"
    TSS_UNMAPPED = "tss-unmapped"
    STACK_SELECTOR = "stack-selector"
    STACK_NON_CANONICAL = "stack-non-canonical"
    STACK_LIMIT = "stack-limit"
    STACK_UNMAPPED = "stack-unmapped"
    # a write to a control register or MSR
    RESERVED_BITS = "reserved-bits"
    PG_WITHOUT_PE = "pg-without-pe"
    NW_WITHOUT_CD = "nw-without-cd"
    PAE_MISSING = "pae-missing"
    LONG_CODE = "cs-l-at-paging"
    TSS16 = "16-bit-tss"
    PDPTE_RESERVED = "pdpte-reserved"
    LEAVES_LONG_MODE = "leaves-long-mode"
    LA57_CHANGED = "la57-changed"
    PCIDE = "pcide"
    LME_CHANGED = "lme-changed"
    # an instruction
    CPL = "cpl-not-0"
    MODE = "not-in-this-mode"
    MISALIGNED = "misaligned"
    SEGMENT_LIMIT = "segment-limit"


@dataclass(frozen=True)
class Refusal:
    """The first check that fails, and the exception that hardware raises for it."""

    check: Check
    sentence: str
    vector: int
    error_code: Optional[int] = None
    cr2: Optional[int] = None  # of a page fault
    walk: Optional[Walk] = None  # of a page fault

    @property
    def raises(self) -> str:
        """`#GP(0x10)`, `#PF(0x2) CR2=0xfff8`."""
        text = vector(self.vector).mnemonic
        if self.error_code is not None:
            text += f"({self.error_code:#x})" if self.error_code else "(0)"
        return text + (f" CR2={self.cr2:#x}" if self.cr2 is not None else "")


@dataclass(frozen=True)
class Undecided:
    """The check could not be made: what is not known."""

    sentence: str


Verdict = Union[Refusal, Undecided, None]


def page_refusal(check: Check, what: str, found: Walk) -> Union[Refusal, Undecided]:
    """The refusal for a walk with a fault during an access to `what`."""
    fault = found.fault
    if fault is None or fault.vector is None:
        reason = fault.sentence if fault else "no fault"
        return Undecided(f"{what} at {found.address:#x} could not be read: {reason}")
    sentence = f"{what} at {found.address:#x} is not accessible: {fault.sentence}"
    cr2 = found.address if fault.vector == PF else None
    return Refusal(check, sentence, fault.vector, fault.error_code, cr2, found)
