# SPDX-License-Identifier: BSD-2-Clause
"""A small machine in a dictionary: a GDT, an IDT, page tables and one CPU's registers."""

from __future__ import annotations

import struct
from dataclasses import replace
from typing import Any, Mapping, Optional

from debug.evidence import Registers, Segment, TableRegister
from debug.x86.linear import LinearMemory

GDT, IDT, TSS = 0x6000, 0x7000, 0x6800
TABLES = 0x1000  # PML4, PDPT, PD: the first 2 MiB, 4 KiB pages below

CODE32, DATA, CODE64 = 0x00CF9A000000FFFF, 0x00CF92000000FFFF, 0x00AF9A000000FFFF
CODE16, USER_DATA, USER_CODE64 = 0x00009A000000FFFF, 0x00CFF2000000FFFF, 0x00AFFA000000FFFF
TSS64 = 0x0000_8900_0000_0067 | TSS << 16


class Ram:
    """Bytes at physical addresses below 2 MiB; zero where nothing was put."""

    def __init__(self, parts: Mapping[int, bytes]) -> None:
        self.data = bytearray(2 << 20)
        for address, part in parts.items():
            self.data[address : address + len(part)] = part

    def read(self, physical: int, length: int) -> Optional[bytes]:
        part = bytes(self.data[physical : physical + length])
        return part if len(part) == length else None


def words(*values: int) -> bytes:
    return struct.pack(f"<{len(values)}Q", *values)


def gate64(selector: int, offset: int, kind: int = 0x8E, ist: int = 0) -> bytes:
    low = offset & 0xFFFF | selector << 16 | ist << 32 | kind << 40 | (offset >> 16 & 0xFFFF) << 48
    return words(low, offset >> 32)


def gate32(selector: int, offset: int, kind: int = 0x8E) -> bytes:
    return gate64(selector, offset, kind)[:8]


def page_tables(absent: tuple[int, ...] = ()) -> dict[int, bytes]:
    """4-level tables for the first 2 MiB, all pages but `absent` (page addresses) writable."""
    entries = [0 if page << 12 in absent else page << 12 | 7 for page in range(512)]
    return {
        0x1000: words(0x2007),
        0x2000: words(0x3007),
        0x3000: words(0x4007),
        0x4000: words(*entries),
    }


def long_mode(
    gdt: bytes,
    idt: bytes = b"",
    ram: Optional[Mapping[int, bytes]] = None,
    absent: tuple[int, ...] = (),
    cpl: int = 0,
    **registers: int,
) -> LinearMemory:
    """A CPU in 64-bit mode with CS 0x8, SS 0x10, TR 0x18 and RSP 0x9000."""
    parts = {**page_tables(absent), GDT: gdt, **({IDT: idt} if idt else {}), **(ram or {})}
    control = {"cr0": 0x80010011, "cr3": TABLES, "cr4": 0x620, "efer": 0xD01}
    control |= {name: value for name, value in registers.items() if name in control}
    general = {"rsp": 0x9000, "rbp": 0x9000}
    general |= {name: value for name, value in registers.items() if name[0] == "r"}
    data = Segment(0x10 | cpl, 0, 0xFFFF_FFFF, 0xC09300 | cpl << 13)
    segments = {name: data for name in ("ss", "ds", "es", "fs", "gs")}
    segments["cs"] = Segment(0x8 | cpl, 0, 0xFFFF_FFFF, 0xA09B00 | cpl << 13)
    segments["tr"] = Segment(0x18, TSS, 0x67, 0x8B00)
    segments["ldt"] = Segment(0, 0, 0, 0)
    gdtr, idtr = TableRegister(GDT, max(len(gdt) - 1, 0)), TableRegister(IDT, max(len(idt) - 1, 0))
    rip = registers.get("rip", 0xA000)
    cpu = Registers(rip, 2, general, control, segments, gdtr, idtr, cpl)
    return LinearMemory(Ram(parts), cpu)


def protected(gdt: bytes, idt: bytes = b"", **registers: int) -> LinearMemory:
    """A CPU in 32-bit protected mode without paging."""
    memory = long_mode(gdt, idt, None, (), 0, **registers)
    cpu = memory.registers
    code = Segment(0x8, 0, 0xFFFF_FFFF, 0xC09B00)
    control = {**cpu.control, "cr0": 0x11, "cr4": 0, "efer": 0}
    control |= {name: value for name, value in registers.items() if name in control}
    cpu = replace(cpu, control=control, segments={**cpu.segments, "cs": code})
    return replace(memory, registers=cpu)


def with_registers(memory: LinearMemory, **changes: Any) -> LinearMemory:
    return replace(memory, registers=replace(memory.registers, **changes))
