# SPDX-License-Identifier: BSD-2-Clause
"""The formats of paging-structure entries in the four paging modes.

[SDM 3A "Paging": the figures "Formats of CR3 and Paging-Structure Entries" and the tables of
each entry; "Reserved bits"]
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, IntFlag
from typing import Optional

from debug.x86.modes import PagingMode
from debug.x86.registers import named_bits

ARCHITECTURAL_MAXPHYADDR = 52  # bits: no CPU has more
FRAME = 0x000F_FFFF_FFFF_F000  # an entry's address
IGNORED_HIGH = 0x7FF0_0000_0000_0000  # bits of an entry that software uses at most, NX apart


class Reason(Enum):
    """Why a walk ended in a fault."""

    NOT_PRESENT = "not present"
    RESERVED_BIT = "reserved bit set"
    NX_WITHOUT_NXE = "bit 63 set while EFER.NXE=0"
    PS_MISPLACED = "PS set where no page can be"
    MISALIGNED_LARGE_PAGE = "large page not aligned"
    WRITE_PROTECTED = "write to a read-only page"
    USER_SUPERVISOR = "user access to a supervisor page"
    NO_EXECUTE = "fetch from a no-execute page"
    SMEP = "supervisor fetch from a user page"
    SMAP = "supervisor access to a user page"
    NON_CANONICAL = "address not canonical"
    UNREADABLE = "table could not be read"


class EntryFlag(IntFlag):
    """The low bits of an entry, and NX."""

    P = 1 << 0
    RW = 1 << 1
    US = 1 << 2
    PWT = 1 << 3
    PCD = 1 << 4
    A = 1 << 5
    D = 1 << 6
    PS = 1 << 7  # PAT in an entry that maps a 4 KiB page
    G = 1 << 8
    NX = 1 << 63


@dataclass(frozen=True)
class Level:
    """One level of a paging mode."""

    name: str
    shift: int  # of the address bits that index the table
    index_bits: int
    may_be_large: bool = False
    rights: bool = True  # the entry has R/W and U/S


@dataclass(frozen=True)
class Format:
    """A paging mode's levels, topmost first."""

    entry_bytes: int
    levels: tuple[Level, ...]


@dataclass(frozen=True)
class Entry:
    """One entry that a walk went through."""

    level: str
    index: int
    address: int  # physical
    raw: int
    leaf: bool  # maps a page
    large: bool  # maps a page larger than 4 KiB
    target: int  # physical address of the page or of the next table
    rights: bool = True

    @property
    def name(self) -> str:
        return f"{self.level}[{self.index}]"

    @property
    def flags(self) -> EntryFlag:
        return EntryFlag(self.raw & int(~EntryFlag(0)))

    def page_size(self, mode: PagingMode) -> int:
        """The size in bytes of the page that a leaf of `mode` maps."""
        level = next(level for level in formats(mode).levels if level.name == self.level)
        return 1 << level.shift

    def describe(self) -> str:
        """`PML4[511] at 0x101ff8 is 0x102023: table 0x102000, P RW A`."""
        head = f"{self.name} at {self.address:#x} is {self.raw:#x}"
        if not self.raw & 1:
            return f"{head}: not present"
        what = "page" if self.leaf else "table"
        bits = self.raw & (0x8000_0000_0000_01FF if self.large else 0x8000_0000_0000_017F)
        if not self.rights:
            bits &= ~0x8000_0000_0000_01E6
        return f"{head}: {what} {self.target:#x}, {named_bits(bits, EntryFlag)}"


_PT = Level("PT", 12, 9)
_PD = Level("PD", 21, 9, may_be_large=True)
_PDPT = Level("PDPT", 30, 9, may_be_large=True)
_PML4 = Level("PML4", 39, 9)
_PML5 = Level("PML5", 48, 9)

_FORMATS = {
    PagingMode.NONE: Format(8, ()),
    PagingMode.PAGING32: Format(4, (Level("PD", 22, 10, may_be_large=True), Level("PT", 12, 10))),
    PagingMode.PAE: Format(8, (Level("PDPT", 30, 2, rights=False), _PD, _PT)),
    PagingMode.LEVEL4: Format(8, (_PML4, _PDPT, _PD, _PT)),
    PagingMode.LEVEL5: Format(8, (_PML5, _PML4, _PDPT, _PD, _PT)),
}


def formats(mode: PagingMode) -> Format:
    """The levels of `mode`; none without paging."""
    return _FORMATS[mode]


def _span(high: int, low: int) -> int:
    """A mask of the bits `high` down to `low`; 0 when there are none."""
    return (1 << high + 1) - (1 << low) if high >= low else 0


def base_of(mode: PagingMode, level: Level, raw: int, large: bool, physical_bits: int) -> int:
    """The physical address in an entry, reserved bits left out."""
    if mode is PagingMode.PAGING32:
        if large:  # PSE-36: bits 20:13 are address bits 39:32
            return (raw & 0xFFC0_0000 | _pse36(raw) << 32) & (1 << max(physical_bits, 32)) - 1
        return raw & 0xFFFF_F000
    low = level.shift if large else 12
    return raw & _span(physical_bits - 1, low)


def _pse36(raw: int) -> int:
    return raw >> 13 & 0xFF


def offending_bits(
    mode: PagingMode,
    level: Level,
    raw: int,
    large: bool,
    physical_bits: int,
    nxe: bool,
    pdpe1gb: Optional[bool],
) -> Optional[tuple[Reason, int, str]]:
    """The first reserved bits that a present entry has set: (reason, mask, why); None if none."""
    if mode is PagingMode.PAGING32:
        return _offending32(raw, large, physical_bits)
    checks = [
        (Reason.NX_WITHOUT_NXE, 0 if nxe else 1 << 63, "set, and EFER.NXE=0 makes it reserved"),
        (
            Reason.RESERVED_BIT,
            _span(51, physical_bits),
            f"set, above the CPU's {physical_bits} physical address bits",
        ),
    ]
    if mode is PagingMode.PAE:
        checks.append((Reason.RESERVED_BIT, _span(62, 52), "set, reserved in PAE paging"))
    if not level.rights:  # a directory pointer of PAE: bits 2:1, 8:5 and 63:M
        # Bit 5 is let pass: TCG sets it, as an accessed bit, after the check has been made.
        checks[0] = (Reason.RESERVED_BIT, 1 << 63, "set, reserved in a directory pointer")
        checks.append((Reason.RESERVED_BIT, 0x1C6, "set, reserved in a directory pointer"))
    elif level.name in ("PML5", "PML4"):
        why = f"(PS) set, but a {level.name} entry can't map a page"
        checks.append((Reason.PS_MISPLACED, 0x80, why))
    elif level.name == "PDPT" and pdpe1gb is False:
        checks.append((Reason.PS_MISPLACED, 0x80, "(PS) set, but this CPU has no 1 GiB pages"))
    elif large:
        why = f"set, but the page must be aligned to {size_text(1 << level.shift)}"
        checks.append((Reason.MISALIGNED_LARGE_PAGE, _span(level.shift - 1, 13), why))
    for reason, mask, why in checks:
        if raw & mask:
            return reason, raw & mask, why
    return None


def _offending32(raw: int, large: bool, physical_bits: int) -> Optional[tuple[Reason, int, str]]:
    if not large:
        return None
    if raw & 1 << 21:
        return Reason.MISALIGNED_LARGE_PAGE, 1 << 21, "set, reserved in an entry for 4 MiB"
    beyond = raw & _span(20, 13 + min(max(physical_bits - 32, 0), 8))
    if beyond:
        why = f"set, above the CPU's {physical_bits} physical address bits"
        return Reason.RESERVED_BIT, beyond, why
    return None


def bits_text(mask: int) -> str:
    """`bit 63`, `bits 20:13` or `bits 51:40, 12`: the set bits of a mask in words."""
    runs, bit = [], mask.bit_length() - 1
    while bit >= 0:
        if mask >> bit & 1:
            low = bit
            while low and mask >> (low - 1) & 1:
                low -= 1
            runs.append(str(bit) if low == bit else f"{bit}:{low}")
            bit = low
        bit -= 1
    return ("bit " if mask & mask - 1 == 0 else "bits ") + ", ".join(runs)


def size_text(size: Optional[int]) -> str:
    """A page size in words."""
    for unit, name in ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")):
        if size and size >= unit:
            return f"{size // unit} {name}"
    return f"{size} bytes"
