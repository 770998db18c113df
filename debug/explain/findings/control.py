# SPDX-License-Identifier: BSD-2-Clause
"""Facts about control registers and CPU modes."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Optional

from debug.explain.model import Finding
from debug.x86.refusals import Check


@dataclass(frozen=True)
class BadControlWrite(Finding):
    """A write to a control register or MSR that hardware refuses."""

    check: Optional[Check]  # None: the exception was seen, its reason could not be derived
    register: str  # "cr0", "cr4", "efer", "msr 0x802"
    value: Optional[int]
    sentence: str
    rip: Optional[int] = None

    def sentences(self) -> tuple[str, ...]:
        return (self.sentence,)


@dataclass(frozen=True)
class LongModeMissing(Finding):
    """Paging was turned on with tables for long mode, but EFER.LME is 0.

    The CPU then walks a PML4 as PAE or 32-bit tables [SDM 3A "Initializing IA-32e Mode"].
    """

    cr3: int
    efer: int
    pae: bool
    works_as_long: bool  # the same CR3 maps the instruction when walked with four levels
    as_bsp: bool = False  # the BSP walks this very CR3 with four levels
    model: Optional[bool] = None  # whether this CPU model has long mode; None: not known
    in_vain: Optional[int] = None  # where the code behind it executed WRMSR with LME=1

    def sentences(self) -> tuple[str, ...]:
        walked = "PAE" if self.pae else "32-bit"
        lines = [
            f"paging is on and EFER is {self.efer:#x}: LME=0, CR3 {self.cr3:#x} is walked as"
            f" {walked} paging"
        ]
        if self.works_as_long:
            lines.append("walked with four levels, the same tables map the instruction")
        if self.as_bsp:
            lines.append("the BSP is in long mode with the same CR3")
        if self.in_vain is not None:
            lines.append(f"WRMSR at {self.in_vain:#x} sets EFER.LME, which is still 0")
        if self.model is False:
            lines.append("this CPU model has no long mode: CPUID 80000001H EDX bit 29 is 0")
        return tuple(lines)


class ModeTrapKind(Enum):
    """A CPU in a mode that its code was not written for."""

    COMPAT_NOT_64 = "compat-not-64"  # 64-bit code with CS.L=0 and LMA=1
    NO_LONG_SEGMENT = "no-long-segment"  # LMA=1, CS.L=0, and the GDT has no 64-bit code segment
    CODE16_NOT_32 = "code16-not-32"  # CS.D=0 in protected mode
    LONG_BEFORE_LMA = "long-before-lma"  # CS.L=1 while LMA=0
    NO_FAR_JUMP = "no-far-jump"  # PE=1, and CS is real mode's still
    STALE_SEGMENTS = "stale-segments"  # protected mode with real-mode data segments


@dataclass(frozen=True)
class ModeTrap(Finding):
    """The hidden part of a segment register does not match the code that runs."""

    kind: ModeTrapKind
    selector: int
    sentence: str

    def sentences(self) -> tuple[str, ...]:
        return (self.sentence,)
