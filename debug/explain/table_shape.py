# SPDX-License-Identifier: BSD-2-Clause
"""Page tables looked at as a whole: the mistakes that one failed walk does not show.

[SDM 3A "4-Level Paging and 5-Level Paging", "Initializing IA-32e Mode"]
"""

from __future__ import annotations

from dataclasses import replace
from typing import Optional

from debug.evidence import Registers
from debug.explain.context import PAGE, Machine
from debug.explain.findings import PageFault
from debug.explain.findings.tables import (
    Cr3Misaligned,
    EdgeOfMap,
    LevelSkipped,
    LevelsMismatch,
    TablesAbsent,
)
from debug.explain.model import Finding
from debug.x86.canonical import MASK64
from debug.x86.linear import tables_of
from debug.x86.modes import PagingMode, paging_mode_of
from debug.x86.page_entries import Reason
from debug.x86.paging import Tables, translate
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
    if tables is None or paging_mode_of(registers) not in (PagingMode.LEVEL4, PagingMode.LEVEL5):
        return ()
    found: list[Finding] = []
    if _absent(machine, tables):
        bsp = machine.bsp.registers.get("cr3") if machine.bsp is not None else None
        return (TablesAbsent(cpu, tables.cr3, bsp),)
    for one in (
        _misaligned(machine, cpu, tables, fault),
        _skipped(machine, cpu, tables),
        _levels(machine, cpu, tables, fault),
        _edge(machine, cpu, registers, fault),
    ):
        if one is not None:
            found.append(one)
    return tuple(found)


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


def _levels(
    machine: Machine, cpu: Optional[int], tables: Tables, fault: PageFault
) -> Optional[Finding]:
    """The same CR3 with one level more or less maps what faulted, and there is memory there."""
    if fault.walk_succeeds:
        return None
    other = replace(tables, cr4=tables.cr4 ^ int(Cr4.LA57))
    walk = translate(machine.evidence.memory, other, fault.address)
    if walk.physical is None or machine.physical(walk.physical, 1) is None:
        return None
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
