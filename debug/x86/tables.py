# SPDX-License-Identifier: BSD-2-Clause
"""Entries of the GDT, the LDT and the IDT, read as the CPU reads them.

[SDM 3A "Segment Descriptor Tables", "Interrupt Descriptor Table"]
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

from debug.evidence import Registers, TableRegister
from debug.x86.canonical import MASK64
from debug.x86.descriptors import Descriptor, decode_descriptor, descriptor_size
from debug.x86.linear import LinearReader
from debug.x86.modes import MASK32, Mode, mode_of


@dataclass(frozen=True)
class TableEntry:
    """One entry; `descriptor` is None where it lies beyond the limit or can't be read."""

    table: str  # "GDT", "LDT", "IDT"
    index: int
    address: int  # linear
    limit: int  # of the table
    size: int  # bytes that the entry takes
    descriptor: Optional[Descriptor]

    @property
    def beyond(self) -> bool:
        """Whether the entry is not wholly within the table's limit."""
        return self.index * (self.size if self.table == "IDT" else 8) + self.size - 1 > self.limit

    @property
    def name(self) -> str:
        return f"{self.table}[{self.index}]"

    def describe(self) -> str:
        """The entry in one line."""
        if self.beyond:
            last = self.index * (self.size if self.table == "IDT" else 8) + self.size - 1
            return f"{self.name} ends at byte {last:#x}, beyond the limit {self.limit:#x}"
        if self.descriptor is None:
            return f"{self.name} at {self.address:#x} could not be read"
        return f"{self.name} at {self.address:#x}: {self.descriptor.describe()}"


def is_null(selector: int) -> bool:
    """Whether a selector is null: index 0 of the GDT with any RPL."""
    return selector & 0xFFFC == 0


def descriptor_table(registers: Registers, selector: int) -> Optional[TableRegister]:
    """The table that `selector` is looked up in; None when its register is unknown or null."""
    if not selector & 4:
        return registers.gdtr
    ldt = registers.segments.get("ldt")
    if ldt is None or is_null(ldt.selector):
        return None
    return TableRegister(ldt.base, ldt.limit)


def lookup(
    reader: LinearReader, registers: Registers, selector: int, system: bool = False
) -> Optional[TableEntry]:
    """The entry that `selector` names; None when the table's register is unknown or null.

    `system`: the caller needs a TSS, LDT or gate, which takes 16 bytes in long mode.
    """
    table = descriptor_table(registers, selector)
    if table is None:
        return None
    long_mode = mode_of(registers).long
    mask = MASK64 if long_mode else MASK32
    index = selector >> 3 & 0x1FFF
    address = table.base + index * 8 & mask
    name = "LDT" if selector & 4 else "GDT"
    entry = TableEntry(name, index, address, table.limit, 8, None)
    if entry.beyond:
        return entry
    data = reader(address, 8)
    if data is None:
        return entry
    size = descriptor_size(int.from_bytes(data, "little"), long_mode) if system else 8
    if size == 16:
        entry = TableEntry(name, index, address, table.limit, 16, None)
        upper = None if entry.beyond else reader(address + 8 & mask, 8)
        if upper is None:
            return entry
        data += upper
    descriptor = decode_descriptor(data, long_mode)
    return TableEntry(name, index, address, table.limit, size, descriptor)


def gate_entry(reader: LinearReader, registers: Registers, vector: int) -> Optional[TableEntry]:
    """The IDT entry of `vector` (0 to 255) in protected or long mode; None if IDTR is unknown."""
    table = registers.idtr
    if table is None:
        return None
    long_mode = mode_of(registers).long
    size = 16 if long_mode else 8
    address = table.base + vector * size & (MASK64 if long_mode else MASK32)
    entry = TableEntry("IDT", vector, address, table.limit, size, None)
    data = None if entry.beyond else reader(address, size)
    if data is None:
        return entry
    descriptor = decode_descriptor(data, long_mode)
    return TableEntry("IDT", vector, address, table.limit, size, descriptor)


def read_gdt(
    reader: LinearReader, registers: Registers, max_entries: int = 8192
) -> tuple[TableEntry, ...]:
    """All entries of the GDT within its limit; a 16-byte descriptor is one entry.

    Empty when GDTR is unknown; an unreadable entry ends the list.
    """
    table, entries, index = registers.gdtr, [], 0
    if table is None:
        return ()
    while index < min(max_entries, 8192) and index * 8 + 7 <= table.limit:
        entry = lookup(reader, registers, index << 3, system=True)
        if entry is None:
            break
        entries.append(entry)
        if entry.descriptor is None:
            break
        index += entry.size // 8
    return tuple(entries)


def read_idt(
    reader: LinearReader, registers: Registers, max_entries: int = 256
) -> tuple[TableEntry, ...]:
    """All gates of the IDT within its limit; empty when IDTR is unknown or in real mode.

    An unreadable gate ends the list.
    """
    entries: list[TableEntry] = []
    if mode_of(registers) in (Mode.REAL, Mode.UNKNOWN):
        return ()
    for vector in range(min(max_entries, 256)):
        entry = gate_entry(reader, registers, vector)
        if entry is None or entry.beyond:
            break
        entries.append(entry)
        if entry.descriptor is None:
            break
    return tuple(entries)


@dataclass(frozen=True)
class RealVector:
    """One entry of the real-mode interrupt vector table."""

    number: int
    segment: int
    offset: int

    @property
    def linear(self) -> int:
        return (self.segment << 4) + self.offset


def real_vector(reader: LinearReader, table: TableRegister, number: int) -> Optional[RealVector]:
    """The real-mode handler of vector `number`; None beyond IDTR's limit or where unreadable."""
    if number * 4 + 3 > table.limit:
        return None
    data = reader(table.base + number * 4 & MASK32, 4)
    if data is None or len(data) != 4:
        return None
    return RealVector(number, data[2] | data[3] << 8, data[0] | data[1] << 8)
