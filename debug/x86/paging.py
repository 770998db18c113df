# SPDX-License-Identifier: BSD-2-Clause
"""The page walk: what a CPU does with a linear address, entry by entry.

Reads the tables from physical memory and answers as hardware does, whatever an emulator does:
reserved bits, permissions and canonical form count.  Never raises on any memory.
Protection keys and shadow stacks are not looked at.

[SDM 3A "Paging": "32-Bit Paging", "PAE Paging", "4-Level Paging and 5-Level Paging",
"Access Rights", "Page-Fault Exceptions"]
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Optional

from debug.evidence import Memory
from debug.x86.canonical import is_canonical
from debug.x86.exceptions import GP, PF, PageFaultCode
from debug.x86.modes import MASK32, PagingMode, paging_mode
from debug.x86.page_entries import (
    ARCHITECTURAL_MAXPHYADDR,
    Entry,
    Format,
    Level,
    Reason,
    base_of,
    bits_text,
    formats,
    offending_bits,
    size_text,
)
from debug.x86.registers import Cr0, Cr4, Efer


@dataclass(frozen=True)
class Access:
    """One memory access, as far as paging asks about it."""

    write: bool = False
    user: bool = False  # CPL 3, and not an implicit system access such as a descriptor fetch
    fetch: bool = False
    ac: bool = False  # RFLAGS.AC with an explicit supervisor access: SMAP does not apply

    def describe(self) -> str:
        """The access in words."""
        what = "instruction fetch" if self.fetch else "write" if self.write else "read"
        return f"{'user' if self.user else 'supervisor'} {what}"


READ = Access()
WRITE = Access(write=True)
FETCH = Access(fetch=True)


@dataclass(frozen=True)
class Fault:
    """Why a walk ended without a physical address, and what hardware raises for it.

    `vector` is 14, except 13 for a non-canonical address (12 through SS: the caller knows) and for
    PAE's directory pointers, which are checked when CR3 or CR0 is loaded.  `vector` and
    `error_code` are None where the memory could not be read: nothing is known then.
    """

    level: str  # "PML4" …; "" when no table was asked
    reason: Reason
    sentence: str
    vector: Optional[int]
    error_code: Optional[int]


@dataclass(frozen=True)
class Walk:
    """One translation."""

    mode: PagingMode
    address: int  # linear
    access: Access
    entries: tuple[Entry, ...] = ()
    physical: Optional[int] = None
    page_size: Optional[int] = None  # bytes; None without paging
    fault: Optional[Fault] = None
    writable: Optional[bool] = None  # R/W of all levels, where a page was found
    user: Optional[bool] = None  # U/S of all levels
    executable: Optional[bool] = None  # no level has NX set
    notes: tuple[str, ...] = ()  # what hardware may refuse but this walk could not know

    @property
    def known(self) -> bool:
        """Whether memory could be read as far as the walk went."""
        return self.fault is None or self.fault.reason is not Reason.UNREADABLE

    @property
    def present(self) -> bool:
        """Whether a page was found, permissions aside."""
        return self.page_size is not None or self.mode is PagingMode.NONE

    def describe(self) -> tuple[str, ...]:
        """One line for each entry, then the result."""
        lines = [entry.describe() for entry in self.entries]
        if self.fault is not None:
            lines.append(self.fault.sentence)
        elif self.physical is not None:
            size = f" in a {size_text(self.page_size)} page" if self.page_size else ""
            lines.append(f"{self.address:#x} is physical {self.physical:#x}{size}")
        return (*lines, *self.notes)


@dataclass(frozen=True)
class Tables:
    """The registers that select and govern a set of page tables.

    `maxphyaddr` (bits) and `pdpe1gb` come from CPUID; None where it is not known: then only what
    no CPU accepts is refused.
    """

    cr0: int
    cr3: int
    cr4: int
    efer: int
    maxphyaddr: Optional[int] = None
    pdpe1gb: Optional[bool] = None

    @cached_property
    def mode(self) -> PagingMode:
        return paging_mode(self.cr0, self.cr4, self.efer)

    @cached_property
    def nxe(self) -> bool:
        return bool(self.efer & Efer.NXE)

    @cached_property
    def physical_bits(self) -> int:
        known = self.maxphyaddr if self.maxphyaddr is not None else ARCHITECTURAL_MAXPHYADDR
        return min(max(known, 32), ARCHITECTURAL_MAXPHYADDR)

    @cached_property
    def root(self) -> int:
        """The physical address of the topmost table."""
        if self.mode is PagingMode.PAGING32:
            return self.cr3 & 0xFFFF_F000
        if self.mode is PagingMode.PAE:
            return self.cr3 & 0xFFFF_FFE0
        return self.cr3 & (1 << self.physical_bits) - 0x1000

    def code(self, access: Access, extra: PageFaultCode) -> int:
        """The #PF error code for `access`, with P and RSVD from `extra`.

        The fetch bit is only reported where fetches can be forbidden.
        """
        code = int(extra)
        code |= int(PageFaultCode.W) if access.write else 0
        code |= int(PageFaultCode.U) if access.user else 0
        nx = bool(self.cr4 & Cr4.PAE) and self.nxe
        if access.fetch and (nx or self.cr4 & Cr4.SMEP):
            code |= int(PageFaultCode.I)
        return code


def walk(
    memory: Memory,
    cr0: int,
    cr3: int,
    cr4: int,
    efer: int,
    address: int,
    access: Access = READ,
    maxphyaddr: Optional[int] = None,
    pdpe1gb: Optional[bool] = None,
) -> Walk:
    """Translate the linear `address` for `access`, as hardware does with these registers."""
    return translate(memory, Tables(cr0, cr3, cr4, efer, maxphyaddr, pdpe1gb), address, access)


def translate(memory: Memory, tables: Tables, address: int, access: Access = READ) -> Walk:
    """`walk` with the registers in one value."""
    mode = tables.mode
    if mode is PagingMode.NONE:
        address &= MASK32
        return Walk(mode, address, access, physical=address)
    if mode in (PagingMode.LEVEL4, PagingMode.LEVEL5):
        if not is_canonical(address, mode.linear_bits):
            sentence = f"{address:#x} is not canonical for {mode.linear_bits}-bit linear addresses"
            fault = Fault("", Reason.NON_CANONICAL, sentence, GP, 0)
            return Walk(mode, address, access, fault=fault)
    else:
        address &= MASK32
    return _descend(memory, tables, address, access)


def _descend(memory: Memory, tables: Tables, address: int, access: Access) -> Walk:
    mode, layout = tables.mode, formats(tables.mode)
    table, entries, notes = tables.root, [], []
    for level in layout.levels:
        entry, fault = read_entry(memory, tables, layout, level, table, address, access)
        if entry is not None:
            entries.append(entry)
        if fault is not None:
            return Walk(mode, address, access, tuple(entries), fault=fault)
        assert entry is not None  # an entry without a fault, or a fault
        if entry.leaf:
            if level.name == "PDPT" and tables.pdpe1gb is None:
                notes.append("a 1 GiB page: a CPU without PDPE1GB refuses it")
            return _finish(tables, address, access, entries, notes)
        table = entry.target
    raise AssertionError("the last level of every format is a leaf")


def read_entry(
    memory: Memory,
    tables: Tables,
    layout: Format,
    level: Level,
    table: int,
    address: int,
    access: Access,
) -> tuple[Optional[Entry], Optional[Fault]]:
    """The entry of `level` in the table at physical `table` that `address` selects."""
    index = address >> level.shift & (1 << level.index_bits) - 1
    where = table + index * layout.entry_bytes
    data = memory.read(where, layout.entry_bytes)
    name = f"{level.name}[{index}]"
    if data is None or len(data) != layout.entry_bytes:
        sentence = f"{name} at {where:#x} could not be read"
        return None, Fault(level.name, Reason.UNREADABLE, sentence, None, None)
    raw = int.from_bytes(data, "little")
    large = bool(raw & 0x80) and level.may_be_large and _large_pages(tables)
    large = large and not (level.name == "PDPT" and tables.pdpe1gb is False)
    leaf = large or level.shift == 12
    target = base_of(tables.mode, level, raw, large, tables.physical_bits)
    entry = Entry(level.name, index, where, raw, leaf, large, target, level.rights)
    if not raw & 1:
        sentence = f"{name} is {raw:#x}: not present"
        code = tables.code(access, PageFaultCode(0))
        return entry, Fault(level.name, Reason.NOT_PRESENT, sentence, PF, code)
    offence = offending_bits(
        tables.mode, level, raw, large, tables.physical_bits, tables.nxe, tables.pdpe1gb
    )
    if offence is None:
        return entry, None
    reason, bits, why = offence
    sentence = f"{name} is {raw:#x}: {bits_text(bits)} {why}"
    if not level.rights:  # PAE's directory pointers are checked when they are loaded
        return entry, Fault(level.name, reason, sentence, GP, 0)
    code = tables.code(access, PageFaultCode.P | PageFaultCode.RSVD)
    return entry, Fault(level.name, reason, sentence, PF, code)


def _large_pages(tables: Tables) -> bool:
    return tables.mode is not PagingMode.PAGING32 or bool(tables.cr4 & Cr4.PSE)


def _finish(
    tables: Tables, address: int, access: Access, entries: list[Entry], notes: list[str]
) -> Walk:
    leaf = entries[-1]
    size = leaf.page_size(tables.mode)
    rights = [entry for entry in entries if entry.rights]
    fault = _permission(tables, access, rights)
    wide = tables.mode is not PagingMode.PAGING32
    return Walk(
        tables.mode,
        address,
        access,
        tuple(entries),
        physical=None if fault else leaf.target + address % size,
        page_size=size,
        fault=fault,
        writable=all(entry.raw & 2 for entry in rights),
        user=all(entry.raw & 4 for entry in rights),
        executable=not (wide and any(entry.raw >> 63 for entry in rights)),
        notes=tuple(notes),
    )


def _permission(tables: Tables, access: Access, rights: list[Entry]) -> Optional[Fault]:
    """The right that `access` lacks, if any [SDM 3A "Determination of Access Rights"]."""

    def refuse(entry: Entry, reason: Reason, why: str) -> Fault:
        sentence = f"{entry.name} is {entry.raw:#x}: {why}"
        code = tables.code(access, PageFaultCode.P)
        return Fault(entry.level, reason, sentence, PF, code)

    closed = next((entry for entry in rights if not entry.raw & 4), None)
    fixed = next((entry for entry in rights if not entry.raw & 2), None)
    wide = tables.mode is not PagingMode.PAGING32
    barred = next((entry for entry in rights if wide and entry.raw >> 63), None)
    leaf = rights[-1]
    if access.user and closed is not None:
        return refuse(closed, Reason.USER_SUPERVISOR, "U/S=0, a supervisor page")
    if access.fetch:
        if barred is not None:
            return refuse(barred, Reason.NO_EXECUTE, "NX=1 (bit 63), not executable")
        if not access.user and closed is None and tables.cr4 & Cr4.SMEP:
            return refuse(leaf, Reason.SMEP, "a user page, and CR4.SMEP=1 forbids to execute it")
        return None
    if not access.user and closed is None and tables.cr4 & Cr4.SMAP and not access.ac:
        return refuse(leaf, Reason.SMAP, "a user page, and CR4.SMAP=1 forbids to touch it")
    if access.write and fixed is not None and (access.user or tables.cr0 & Cr0.WP):
        why = "R/W=0, read-only" + ("" if access.user else " and CR0.WP=1")
        return refuse(fixed, Reason.WRITE_PROTECTED, why)
    return None
