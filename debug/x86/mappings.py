# SPDX-License-Identifier: BSD-2-Clause
"""Everything that a set of page tables maps, in address order.

The list is as long as a guest makes it (tables that contain themselves map without end), so it is
lazy and the number of tables that are read is bounded.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Iterator

from debug.evidence import Memory
from debug.x86.canonical import canonical
from debug.x86.modes import PagingMode
from debug.x86.page_entries import Level, base_of, formats, offending_bits
from debug.x86.paging import Tables
from debug.x86.registers import Cr4


@dataclass(frozen=True)
class Mapping:
    """One page: `size` bytes at `linear` are at `physical`."""

    linear: int
    physical: int
    size: int
    entry: int  # the leaf entry's raw value
    writable: bool  # of all levels
    user: bool
    executable: bool


class _Budget:
    """How many more tables may be read."""

    def __init__(self, tables: int) -> None:
        self.left = tables


def mappings(memory: Memory, tables: Tables, max_tables: int = 100_000) -> Iterator[Mapping]:
    """Each valid leaf of `tables`, lowest linear address first.

    Entries with reserved bits and tables that can't be read are left out; after `max_tables`
    tables the list ends.  Nothing without paging.
    """
    if tables.mode is not PagingMode.NONE:
        budget = _Budget(max_tables)
        yield from _table(memory, tables, 0, tables.root, 0, (True, True, True), budget)


def _table(
    memory: Memory,
    tables: Tables,
    depth: int,
    table: int,
    prefix: int,
    rights: tuple[bool, bool, bool],
    budget: _Budget,
) -> Iterator[Mapping]:
    layout = formats(tables.mode)
    level = layout.levels[depth]
    size = layout.entry_bytes
    if budget.left <= 0:
        return
    budget.left -= 1
    data = memory.read(table, size << level.index_bits)
    if data is None or len(data) != size << level.index_bits:
        return
    for index in range(1 << level.index_bits):
        raw = int.from_bytes(data[index * size : index * size + size], "little")
        if not raw & 1:
            continue
        large = _is_large(tables, level, raw)
        bits, nxe = tables.physical_bits, tables.nxe
        if offending_bits(tables.mode, level, raw, large, bits, nxe, tables.pdpe1gb):
            continue
        linear = prefix | index << level.shift
        target = base_of(tables.mode, level, raw, large, bits)
        merged = _merge(tables, level, rights, raw)
        if large or level.shift == 12:
            wide = tables.mode in (PagingMode.LEVEL4, PagingMode.LEVEL5)
            address = canonical(linear, tables.mode.linear_bits) if wide else linear
            yield Mapping(address, target, 1 << level.shift, raw, *merged)
        else:
            yield from _table(memory, tables, depth + 1, target, linear, merged, budget)


def _is_large(tables: Tables, level: Level, raw: int) -> bool:
    allowed = tables.mode is not PagingMode.PAGING32 or bool(tables.cr4 & Cr4.PSE)
    return bool(raw & 0x80) and level.may_be_large and allowed


def _merge(
    tables: Tables, level: Level, rights: tuple[bool, bool, bool], raw: int
) -> tuple[bool, bool, bool]:
    if not level.rights:
        return rights
    writable, user, executable = rights
    barred = tables.mode is not PagingMode.PAGING32 and bool(raw >> 63)
    return writable and bool(raw & 2), user and bool(raw & 4), executable and not barred
