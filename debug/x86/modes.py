# SPDX-License-Identifier: BSD-2-Clause
"""Which mode a CPU is in, derived from its registers alone.

[SDM 3A "Modes of Operation", "Mode Switching"; SDM 3A "Paging Modes and Control Bits"]
"""

from __future__ import annotations

from enum import Enum
from typing import Optional

from debug.evidence import Registers
from debug.x86.canonical import MASK64
from debug.x86.registers import Cr0, Cr4, Efer, Rflags

MASK32 = 0xFFFF_FFFF


class Mode(Enum):
    """An execution mode; the value is what a report prints."""

    REAL = "real mode"
    PROTECTED16 = "16-bit protected mode"
    PROTECTED32 = "32-bit protected mode"
    VM86 = "virtual-8086 mode"
    COMPAT16 = "16-bit compatibility mode"
    COMPAT32 = "32-bit compatibility mode"
    LONG64 = "64-bit mode"
    UNKNOWN = "unknown mode"

    @property
    def long(self) -> bool:
        """Whether EFER.LMA=1: descriptors and gates have their long-mode formats."""
        return self in (Mode.COMPAT16, Mode.COMPAT32, Mode.LONG64)

    @property
    def protected(self) -> bool:
        """Whether selectors name descriptors."""
        return self in (Mode.PROTECTED16, Mode.PROTECTED32) or self.long


class PagingMode(Enum):
    """A paging mode; the value is what a report prints."""

    NONE = "no paging"
    PAGING32 = "32-bit paging"
    PAE = "PAE paging"
    LEVEL4 = "4-level paging"
    LEVEL5 = "5-level paging"

    @property
    def linear_bits(self) -> int:
        """Width of a linear address in bits."""
        return {PagingMode.LEVEL4: 48, PagingMode.LEVEL5: 57}.get(self, 32)


def mode_of(registers: Registers) -> Mode:
    """The CPU's mode; UNKNOWN when the registers that decide it are not known.

    Only CR0, EFER, RFLAGS.VM and the hidden part of CS are asked.  Without EFER, paging that is
    off, or on without PAE, proves EFER.LMA=0; an instruction pointer above 4 GiB proves 64-bit
    mode, and so does a dump with R15 and CS.L=1: emulators show R8 to R15 of 64-bit code alone.
    """
    cr0 = registers.get("cr0")
    if cr0 is None:
        return Mode.LONG64 if _is_wide(registers) else Mode.UNKNOWN
    if not cr0 & Cr0.PE:
        return Mode.REAL
    code = registers.segments.get("cs")
    active = long_mode_active(registers)
    if active is None:
        beyond = registers.rip is not None and registers.rip > MASK32 or _is_wide(registers)
        return Mode.LONG64 if beyond else Mode.UNKNOWN
    if active:
        if code is None:
            return Mode.UNKNOWN
        if code.long:
            return Mode.LONG64
        return Mode.COMPAT32 if code.big else Mode.COMPAT16
    if registers.rflags is not None and registers.rflags & Rflags.VM:
        return Mode.VM86
    if code is None:
        return Mode.UNKNOWN
    return Mode.PROTECTED32 if code.big else Mode.PROTECTED16


def _is_wide(registers: Registers) -> bool:
    """Whether the registers are shown as those of 64-bit code."""
    code = registers.segments.get("cs")
    return code is not None and code.long and "r15" in registers.general


def long_mode_active(registers: Registers) -> Optional[bool]:
    """EFER.LMA; with EFER unknown, False where paging is off or does without PAE, else None."""
    efer = registers.get("efer")
    if efer is not None:
        return bool(efer & Efer.LMA)
    cr0, cr4 = registers.get("cr0"), registers.get("cr4")
    if cr0 is not None and not cr0 & Cr0.PG:
        return False
    if cr0 is not None and cr4 is not None and not cr4 & Cr4.PAE:
        return False
    return None


def code_width(registers: Registers) -> Optional[int]:
    """The default operand size of the code: 16, 32 or 64 bits; None if the mode is unknown.

    In real mode the hidden D bit of CS decides, as after a return from protected mode with a
    32-bit code segment.
    """
    mode = mode_of(registers)
    if mode is Mode.UNKNOWN:
        return None
    if mode is Mode.LONG64:
        return 64
    if mode is Mode.VM86:
        return 16
    code = registers.segments.get("cs")
    return 32 if code is not None and code.big else 16


def stack_width(registers: Registers) -> Optional[int]:
    """The width of the stack pointer in bits: 64 in 64-bit mode, else from the B bit of SS."""
    mode = mode_of(registers)
    if mode is Mode.UNKNOWN:
        return None
    if mode is Mode.LONG64:
        return 64
    if mode is Mode.VM86:
        return 16
    stack = registers.segments.get("ss")
    return 32 if stack is not None and stack.big else 16


def segment_base(registers: Registers, name: str) -> Optional[int]:
    """The base that addresses through segment `name` get; None if unknown.

    In 64-bit mode only FS and GS have one.  [SDM 1 "Segment Registers in 64-Bit Mode"]
    """
    segment = registers.segments.get(name)
    if mode_of(registers) is Mode.LONG64:
        if name not in ("fs", "gs"):
            return 0
        base = registers.control.get(f"{name}_base")
        if base is not None:
            return base
    return segment.base if segment is not None else None


def linear(registers: Registers, segment: str, offset: int) -> Optional[int]:
    """The linear address of `segment`:`offset`; None when the segment's base is unknown."""
    base = segment_base(registers, segment)
    if base is None:
        return None
    return base + offset & (MASK64 if mode_of(registers) is Mode.LONG64 else MASK32)


def linear_pc(registers: Registers) -> Optional[int]:
    """The linear address of the next instruction; None when CS or RIP is unknown."""
    return None if registers.rip is None else linear(registers, "cs", registers.rip)


def linear_sp(registers: Registers) -> Optional[int]:
    """The linear address that the stack pointer names; None when SS or RSP is unknown."""
    pointer, width = registers.get("rsp"), stack_width(registers)
    if pointer is None or width is None:
        return None
    return linear(registers, "ss", pointer & (1 << width) - 1)


def privilege(registers: Registers) -> Optional[int]:
    """The current privilege level: 0 in real mode, 3 in virtual-8086 mode; None if unknown."""
    if registers.cpl is not None:
        return registers.cpl
    mode = mode_of(registers)
    if mode is Mode.REAL:
        return 0
    if mode is Mode.VM86:
        return 3
    stack = registers.segments.get("ss")
    if stack is not None:
        return stack.dpl
    code = registers.segments.get("cs")
    return code.selector & 3 if code is not None else None


def paging_mode(cr0: int, cr4: int, efer: int) -> PagingMode:
    """The paging mode that CR0.PG, CR4.PAE, EFER.LMA and CR4.LA57 select."""
    if not cr0 & Cr0.PG:
        return PagingMode.NONE
    if not cr4 & Cr4.PAE:
        return PagingMode.PAGING32
    if not efer & Efer.LMA:
        return PagingMode.PAE
    return PagingMode.LEVEL5 if cr4 & Cr4.LA57 else PagingMode.LEVEL4


def paging_mode_of(registers: Registers) -> Optional[PagingMode]:
    """The CPU's paging mode; None when a register that decides it is unknown."""
    cr0, cr4, efer = (registers.get(name) for name in ("cr0", "cr4", "efer"))
    if cr0 is None:
        return None
    if not cr0 & Cr0.PG:
        return PagingMode.NONE
    if cr4 is None or (efer is None and cr4 & Cr4.PAE):
        return None
    return paging_mode(cr0, cr4, efer or 0)


def describe_mode(registers: Registers) -> str:
    """The mode with the bits that prove it, for a person: `64-bit mode (PE=1 LMA=1 CS.L=1)`."""
    mode, cr0 = mode_of(registers), registers.get("cr0")
    if cr0 is None:
        return f"{mode.value} (CR0 is not known)"
    facts = [f"PE={cr0 & 1}", f"PG={cr0 >> 31 & 1}"]
    active, code = long_mode_active(registers), registers.segments.get("cs")
    if cr0 & Cr0.PE:
        facts.append("LMA=?" if active is None else f"LMA={int(active)}")
        if code is not None:
            if active:
                facts.append(f"CS.L={int(code.long)}")
            facts.append(f"CS.D={int(code.big)}")
        else:
            facts.append("CS=?")
    if registers.smm:
        facts.append("SMM=1")
    return f"{mode.value} ({' '.join(facts)})"
