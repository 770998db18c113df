# SPDX-License-Identifier: BSD-2-Clause
"""A CPU's linear memory: physical memory seen through its page tables."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Callable, Optional

from debug.evidence import Fragment, Memory, Registers
from debug.x86.canonical import MASK64
from debug.x86.modes import MASK32, PagingMode, paging_mode_of
from debug.x86.page_entries import Reason
from debug.x86.paging import READ, Access, Tables, Walk, translate

LinearReader = Callable[[int, int], Optional[bytes]]

_CHUNK = 4096  # the smallest page: a chunk within one never needs a second walk
MAX_READ = 1 << 20  # bytes: no caller has a reason for more, a hostile length may ask for it


def tables_of(
    registers: Registers, maxphyaddr: Optional[int] = None, pdpe1gb: Optional[bool] = None
) -> Optional[Tables]:
    """The CPU's page tables; None when a register that selects them is unknown."""
    mode = paging_mode_of(registers)
    if mode is None:
        return None
    cr0, cr3, cr4, efer = (registers.get(name) for name in ("cr0", "cr3", "cr4", "efer"))
    if cr0 is None or (cr3 is None and mode is not PagingMode.NONE):
        return None
    return Tables(cr0, cr3 or 0, cr4 or 0, efer or 0, maxphyaddr, pdpe1gb)


@dataclass(frozen=True)
class LinearMemory:
    """Linear memory of one CPU.  Calling it reads: `LinearMemory(memory, registers)(address, 8)`."""

    memory: Memory
    registers: Registers
    maxphyaddr: Optional[int] = None
    pdpe1gb: Optional[bool] = None
    seen: tuple[Fragment, ...] = ()  # linear memory that was shown, for where none can be read

    @cached_property
    def tables(self) -> Optional[Tables]:
        return tables_of(self.registers, self.maxphyaddr, self.pdpe1gb)

    def __call__(self, address: int, length: int) -> Optional[bytes]:
        """`length` bytes at a linear address, permissions ignored; None where not readable."""
        return self.read(address, length)

    def read(self, address: int, length: int) -> Optional[bytes]:
        """`length` bytes at a linear address, permissions ignored; None where not readable."""
        tables = self.tables
        if not 0 <= length <= MAX_READ:
            return None
        if tables is None:
            return self._shown(address, length)
        mask = MASK64 if tables.mode.linear_bits > 32 else MASK32
        data = bytearray()
        while len(data) < length:
            at = address + len(data) & mask
            count = min(length - len(data), _CHUNK - at % _CHUNK)
            found = translate(self.memory, tables, at)
            physical = _physical(found)
            part = None if physical is None else self.memory.read(physical, count)
            if part is None or len(part) != count:
                return (
                    self._shown(address, length) if found.fault is None or _unread(found) else None
                )
            data += part
        return bytes(data)

    def _shown(self, address: int, length: int) -> Optional[bytes]:
        """The bytes from a fragment that holds all of them."""
        for one in self.seen:
            if one.address <= address and address + length <= one.address + len(one.data):
                return one.data[address - one.address :][:length]
        return None

    def some(self, address: int, length: int) -> bytes:
        """Up to `length` bytes: fewer where a page, or what was shown, ends before."""
        data = self.read(address, length)
        within = _CHUNK - address % _CHUNK
        if data is None and within < length:
            data = self.read(address, within)
        if data is None:
            ends = (one.address + len(one.data) - address for one in self.seen)
            known = max((end for end in ends if 0 < end < length), default=0)
            data = self.read(address, known) if known else None
        return data or b""

    def walk(self, address: int, access: Access = READ) -> Optional[Walk]:
        """The walk for `address`; None when the CPU's page tables are unknown."""
        tables = self.tables
        return None if tables is None else translate(self.memory, tables, address, access)

    def first_fault(self, address: int, length: int, access: Access = READ) -> Optional[Walk]:
        """The first page of a range whose walk faults; None when all of it may be accessed.

        A range whose tables can't be read gives a walk that is not `known`; unknown registers
        give None too: ask `tables` first.
        """
        tables = self.tables
        if tables is None:
            return None
        mask = MASK64 if tables.mode.linear_bits > 32 else MASK32
        done, end = 0, min(max(length, 1), MAX_READ)
        while done < end:
            at = address + done & mask
            found = translate(self.memory, tables, at, access)
            if found.fault is not None:
                return found
            done += _CHUNK - at % _CHUNK
        return None


def _unread(found: Walk) -> bool:
    return found.fault is not None and found.fault.reason is Reason.UNREADABLE


def _physical(found: Walk) -> Optional[int]:
    """The physical address of a page that is present, whatever the permissions."""
    if found.physical is not None:
        return found.physical
    if found.page_size is None or not found.entries:
        return None
    return found.entries[-1].target + found.address % found.page_size


def linear_reader(memory: Memory, registers: Registers) -> LinearReader:
    """A function (linear address, length) → bytes or None through the CPU's page tables.

    Permissions are ignored, presence and reserved bits are not.
    """
    return LinearMemory(memory, registers).read
