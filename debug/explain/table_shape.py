# SPDX-License-Identifier: BSD-2-Clause
"""Page tables looked at as a whole: the mistakes that one failed walk does not show.

[SDM 3A "4-Level Paging and 5-Level Paging", "Initializing IA-32e Mode"]
"""

from __future__ import annotations

from dataclasses import replace
from typing import Optional

from debug.evidence import Registers
from debug.explain import roots
from debug.explain.context import PAGE, Machine
from debug.explain.findings import PageFault, Role
from debug.explain.findings.tables import (
    Cr3FrameNumber,
    Cr3Misaligned,
    EdgeOfMap,
    LevelSkipped,
    LevelsMismatch,
    PagesNotLarge,
    RootIsPdpt,
    SlotBeside,
    TablesAbsent,
    UpperHalfLost,
)
from debug.explain.model import Finding
from debug.x86.canonical import MASK64
from debug.x86.linear import tables_of
from debug.x86.modes import PagingMode
from debug.x86.page_entries import Reason, formats
from debug.x86.paging import READ, Tables, read_entry, translate
from debug.x86.registers import Cr4

_ADDRESS = 0x000F_FFFF_FFFF_F000
_CACHE_BITS = 0x18  # PWT and PCD: no part of the address either, and harmless
_LARGE = 1 << 21
_NEAR = 512  # pages: so far below a fault the end of a mapping is looked for


def findings(
    machine: Machine, cpu: Optional[int], registers: Registers, fault: PageFault
) -> tuple[Finding, ...]:
    """What the tables behind a page fault look like."""
    tables = tables_of(registers)
    if tables is None or tables.mode is PagingMode.NONE:
        return ()
    found: list[Finding] = []
    if _absent(machine, tables):
        bsp = machine.bsp.registers.get("cr3") if machine.bsp is not None else None
        return (TablesAbsent(cpu, tables.cr3, bsp),)
    beside = _beside(machine, cpu, registers, fault)
    found += [beside] if beside is not None else []
    if tables.mode not in (PagingMode.LEVEL4, PagingMode.LEVEL5):
        return tuple(found)
    found += _halved(machine, cpu, registers, fault)
    if (number := _frame_number(machine, cpu, registers, tables, fault)) is not None:
        return (number,)
    for one in (
        _misaligned(machine, cpu, tables, fault),
        _skipped(machine, cpu, tables),
        _root_is_pdpt(machine, cpu, tables, fault),
        _levels(machine, cpu, tables, fault),
        _not_large(machine, cpu, registers, fault),
        _edge(machine, cpu, registers, fault),
    ):
        if one is not None:
            found.append(one)
    return tuple(found)


def _halved(
    machine: Machine, cpu: Optional[int], registers: Registers, fault: PageFault
) -> list[UpperHalfLost]:
    """A pointer of a kernel in the top 2 GiB that went through 32 bits."""
    high = 0xFFFF_FFFF << 32
    if fault.role not in (Role.FETCH, Role.DATA) or not 1 << 31 <= fault.address < 1 << 32:
        return []
    if fault.walk_succeeds or machine.maps(registers, high | fault.address) is not True:
        return []
    code = (fault.rip or 0, *(cpu.registers.rip or 0 for cpu in machine.cpus))
    if not any(rip >= high | 1 << 31 for rip in code):
        return []
    bases = (("GS", registers.get("gs_base")), ("FS", registers.get("fs_base")))
    segment = fault.instruction.partition(":")[0][-2:].upper()
    named = [name for name, base in bases if name == segment and (base or 0) >> 31 == 1]
    fetch = fault.role is Role.FETCH
    return [UpperHalfLost(cpu, fault.address, fetch, f"{named[0]} base" if named else "")]


def _beside(
    machine: Machine, cpu: Optional[int], registers: Registers, fault: PageFault
) -> Optional[Finding]:
    """The empty entry of the topmost table has a neighbour that is present, and alone."""
    tables = tables_of(registers)
    walk = machine.linear(registers).walk(fault.address)
    if walk is None or tables is None or len(walk.entries) != 1 or walk.entries[0].raw:
        return None
    if fault.role not in (Role.FETCH, Role.STACK) or fault.after_paging:
        return None
    size = 4 if tables.mode is PagingMode.PAGING32 else 8
    data = machine.physical(tables.root, PAGE)
    if data is None or tables.mode is PagingMode.PAE:
        return None
    words = [int.from_bytes(data[at : at + size], "little") for at in range(0, PAGE, size)]
    index = fault.address >> (22 if size == 4 else 39) & len(words) - 1
    near = [at for at in (index - 1, index + 1) if 0 < at < len(words) and words[at] & 1]
    far = [at for at in range(max(index - 8, 1), min(index + 9, len(words))) if words[at] & 1]
    if len(near) != 1 or far != near or words[near[0]] & _ADDRESS == tables.root:
        return None  # a table that maps itself is no kernel's half
    name = walk.entries[0].name
    return SlotBeside(cpu, fault.address, name, near[0], words[near[0]])


def _frame_number(
    machine: Machine,
    cpu: Optional[int],
    registers: Registers,
    tables: Tables,
    fault: PageFault,
) -> Optional[Finding]:
    """CR3 shifted left by 12 bits would be tables that map the code."""
    meant = tables.cr3 << 12
    if not 0 < tables.cr3 < 1 << 20 or fault.rip is None:
        return None
    if roots.built(machine.evidence, tables.cr3):
        return None  # tables of its own
    if translate(machine.evidence.memory, tables, fault.rip).physical is not None:
        return None
    walk = translate(machine.evidence.memory, replace(tables, cr3=meant), fault.rip)
    if walk.physical is None or machine.physical(walk.physical, 1) is None:
        return None
    return Cr3FrameNumber(cpu, tables.cr3, meant)


def _absent(machine: Machine, tables: Tables) -> bool:
    """No RAM at CR3: it can't be read, or every byte reads as ff."""
    if not machine.has_memory:
        return False
    data = machine.physical(tables.root, PAGE)
    return data is None or not data.strip(b"\xff")


def _word(machine: Machine, address: int) -> Optional[int]:
    data = machine.physical(address, 8)
    return None if data is None else int.from_bytes(data, "little")


def _misaligned(
    machine: Machine, cpu: Optional[int], tables: Tables, fault: PageFault
) -> Optional[Finding]:
    """Nothing but PWT and PCD belongs into the low bits, unless CR4.PCIDE is set."""
    low = tables.cr3 & 0xFFF
    if not low & ~_CACHE_BITS & 0xFFF and low != 0x10 or tables.cr4 & Cr4.PCIDE:
        return None
    start = tables.cr3 & 0x000F_FFFF_FFFF_FFFF
    index = fault.address >> 39 & 511
    meant = _word(machine, start + 8 * index)
    taken = _word(machine, (start & ~0xFFF) + 8 * index)
    fits = meant is not None and bool(meant & 1) and not (taken or 0) & 1
    if low == 0x10 and not fits:
        return None
    return Cr3Misaligned(cpu, tables.cr3, start & ~0xFFF, fits)


def _skipped(machine: Machine, cpu: Optional[int], tables: Tables) -> Optional[Finding]:
    """A row of pages 2 MiB apart is a page directory; pages of 1 GiB lie 1 GiB apart."""
    if tables.mode is not PagingMode.LEVEL4:
        return None
    root = machine.physical(tables.root, PAGE)
    if root is None:
        return None
    looked = 0
    for index in range(512):
        raw = int.from_bytes(root[index * 8 : index * 8 + 8], "little")
        if not raw & 1 or raw & 0x80 or looked == 16:
            continue
        looked += 1
        table = raw & _ADDRESS
        data = machine.physical(table, PAGE)
        if data is None:
            continue
        words = [int.from_bytes(data[at : at + 8], "little") for at in range(0, PAGE, 8)]
        for one, two in zip(words, words[1:]):
            pages = one & two & 0x81 == 0x81
            if pages and (two & _ADDRESS) - (one & _ADDRESS) == _LARGE:
                return LevelSkipped(cpu, tables.cr3, f"PML4[{index}]", table, one, two)
    return None


def _root_is_pdpt(
    machine: Machine, cpu: Optional[int], tables: Tables, fault: PageFault
) -> Optional[Finding]:
    """Only one of its entries may be in use: then no neighbour tells."""
    rip = fault.rip
    if tables.mode is not PagingMode.LEVEL4 or fault.walk_succeeds or rip is None:
        return None
    as_pdpt = (_as_pdpt(machine, tables, address) == address for address in (fault.address, rip))
    return RootIsPdpt(cpu, tables.cr3, fault.address, rip) if all(as_pdpt) else None


def _as_pdpt(machine: Machine, tables: Tables, address: int) -> Optional[int]:
    """The physical address that the table at CR3 maps a linear one to, if it is a PDPT."""
    layout, table = formats(tables.mode), tables.root
    for level in layout.levels[1:] if not address >> 39 else ():
        memory = machine.evidence.memory
        entry, fault = read_entry(memory, tables, layout, level, table, address, READ)
        if entry is None or fault is not None:
            return None
        if entry.leaf:
            return entry.target + address % entry.page_size(tables.mode)
        table = entry.target
    return None


def _not_large(
    machine: Machine, cpu: Optional[int], registers: Registers, fault: PageFault
) -> Optional[Finding]:
    """Page tables lie a page apart, or anywhere; large pages lie one behind the other."""
    walk = machine.linear(registers).walk(fault.address)
    if walk is None or fault.walk_succeeds:
        return None
    above = next((e.raw & _ADDRESS for e in walk.entries if e.level == "PDPT"), None)
    used = next((e for e in walk.entries if e.level == "PD"), None)
    data = machine.physical(above, PAGE) if above is not None else None
    if data is None or used is None:
        return None
    words = [int.from_bytes(data[at : at + 8], "little") for at in range(0, PAGE, 8)]
    at = words.index(used.raw)
    one, two = words[at : at + 2] if at < 511 else words[at - 1 : at + 1]
    if one & 0x81 != 1 or two & 0x81 != 1 or (two & _ADDRESS) - (one & _ADDRESS) != _LARGE:
        return None
    return PagesNotLarge(cpu, f"PD[{min(at, 510)}]", one, two, _LARGE)


def _levels(
    machine: Machine, cpu: Optional[int], tables: Tables, fault: PageFault
) -> Optional[Finding]:
    """The same CR3 with one level more or less maps what faulted, and there is memory there."""
    if fault.walk_succeeds or translate(machine.evidence.memory, tables, fault.address).physical:
        return None  # it is mapped: the access is what was refused
    if fault.rip is not None and translate(machine.evidence.memory, tables, fault.rip).physical:
        return None  # the code is mapped with these levels, and runs
    other = replace(tables, cr4=tables.cr4 ^ int(Cr4.LA57))
    walk = translate(machine.evidence.memory, other, fault.address)
    if walk.physical is None or machine.physical(walk.physical, 1) is None:
        return None
    if (
        fault.rip is not None
        and translate(machine.evidence.memory, other, fault.rip).physical is None
    ):
        return None  # then the code that faulted would not be mapped
    la57 = bool(tables.cr4 & Cr4.LA57)
    return LevelsMismatch(cpu, la57, fault.address)


def _edge(
    machine: Machine, cpu: Optional[int], registers: Registers, fault: PageFault
) -> Optional[Finding]:
    """The first page below that is mapped, if it is near and what faulted has a name."""
    if fault.reason is not Reason.NOT_PRESENT or fault.depth not in (1, 2, 3):
        return None
    symbol = machine.symbol(fault.address)
    at = fault.address & ~(PAGE - 1)
    if machine.maps(registers, at + PAGE & MASK64) is not False:
        return None  # a hole, such as a guard page
    for _ in range(_NEAR):
        below = at - PAGE & MASK64
        mapped = machine.maps(registers, below)
        if mapped is None:
            return None
        if mapped:
            before = machine.maps(registers, below - PAGE & MASK64)
            if not before:
                return None
            return EdgeOfMap(cpu, fault.address, at, str(symbol) if symbol is not None else "")
        at = below
    return None
