# SPDX-License-Identifier: BSD-2-Clause
"""Descriptors from bytes, and the tables that hold them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from debug.evidence import TableRegister
from debug.x86.descriptors import (
    Gate,
    GateType,
    ReservedDescriptor,
    SegmentDescriptor,
    SystemDescriptor,
    SystemType,
    decode_descriptor,
)
from debug.x86.tables import lookup, read_gdt, read_idt, real_vector
from tests.python.x86.x86_machine import (
    CODE16,
    CODE64,
    DATA,
    GDT,
    TSS,
    TSS64,
    gate32,
    gate64,
    long_mode,
    words,
)


def encode(base: int, limit: int, access: int, nibble: int) -> bytes:
    """A descriptor by the manual's figure, field by field."""
    return bytes(
        (
            limit & 0xFF,
            limit >> 8 & 0xFF,
            base & 0xFF,
            base >> 8 & 0xFF,
            base >> 16 & 0xFF,
            access,
            nibble << 4 | limit >> 16 & 0xF,
            base >> 24,
        )
    )


@given(
    st.integers(0, 2**32 - 1),
    st.integers(0, 2**20 - 1),
    st.integers(0, 255),
    st.integers(0, 15),
)
def test_segments_come_back_as_they_were_made(
    base: int, limit: int, access: int, nibble: int
) -> None:
    found = decode_descriptor(encode(base, limit, access | 0x10, nibble))
    assert isinstance(found, SegmentDescriptor)
    assert found.base == base
    assert found.limit == (limit * 4096 + 4095 if nibble & 8 else limit)
    assert (found.type, found.dpl, found.present) == (access & 15, access >> 5 & 3, access >= 128)
    assert (found.big, found.long) == (bool(nibble & 4), bool(nibble & 2))
    segment = found.segment(8)
    assert (segment.type, segment.dpl, segment.present) == (found.type, found.dpl, found.present)
    assert (segment.long, segment.big) == (found.long, found.big)


@given(
    st.integers(0, 0xFFFF),
    st.integers(0, 2**64 - 1),
    st.sampled_from((0x8E, 0xEF, 0x0E)),
    st.integers(0, 7),
)
def test_gates_come_back_as_they_were_made(selector: int, offset: int, kind: int, ist: int) -> None:
    found = decode_descriptor(gate64(selector, offset, kind, ist), long_mode=True)
    assert isinstance(found, Gate)
    assert (found.selector, found.offset, found.ist) == (selector, offset, ist)
    assert (found.present, found.dpl) == (kind >= 128, kind >> 5 & 3)
    narrow = decode_descriptor(gate32(selector, offset & 0xFFFFFFFF, kind))
    assert isinstance(narrow, Gate)
    assert (narrow.offset, narrow.ist) == (offset & 0xFFFFFFFF, 0)


@given(st.binary(max_size=20), st.booleans())
def test_any_bytes_are_some_descriptor(data: bytes, long_mode: bool) -> None:
    found = decode_descriptor(data, long_mode)
    assert found.describe() and found.kind() and found.dpl in range(4)


def test_system_descriptors_are_wider_in_long_mode() -> None:
    data = words(TSS64, 0xFFFF8000)
    narrow, wide = decode_descriptor(data), decode_descriptor(data, True)
    assert isinstance(narrow, SystemDescriptor) and isinstance(wide, SystemDescriptor)
    assert (narrow.system, narrow.base) == (SystemType.TSS32, TSS)
    assert (wide.system, wide.base) == (SystemType.TSS64, 0xFFFF8000 << 32 | TSS)
    busy = decode_descriptor(words(TSS64 | 1 << 41, 0), True)
    assert isinstance(busy, SystemDescriptor) and busy.busy and not wide.busy
    task = words(0x0000_8500_0008_0000, 0)
    assert isinstance(decode_descriptor(task, True), ReservedDescriptor)
    gate = decode_descriptor(task)
    assert isinstance(gate, Gate) and gate.gate is GateType.TASK


def test_words_for_a_reader() -> None:
    def text(value: int) -> str:
        return decode_descriptor(words(value)).describe()

    assert text(CODE64) == "64-bit code, base 0x0, limit 0xffffffff, DPL 0, present"
    assert text(CODE16).startswith("16-bit code, base 0x0, limit 0xffff")
    assert text(DATA & ~(1 << 41)).startswith("data, read-only")
    assert text(CODE64 | 1 << 54).startswith("32-bit code with both L and D set")
    assert text(0) == "all zero"


def test_reading_the_gdt_and_the_idt() -> None:
    gdt = words(0, CODE64, DATA, TSS64, 0)
    memory = long_mode(gdt, gate64(8, 0xA000) * 3)
    entries = read_gdt(memory, memory.registers)
    assert [entry.index for entry in entries] == [0, 1, 2, 3]
    assert entries[3].size == 16 and entries[3].address == GDT + 24
    gates = read_idt(memory, memory.registers)
    assert [entry.name for entry in gates] == ["IDT[0]", "IDT[1]", "IDT[2]"]
    beyond = lookup(memory, memory.registers, 0x28)
    assert beyond is not None and beyond.beyond and beyond.descriptor is None
    assert beyond.describe() == "GDT[5] ends at byte 0x2f, beyond the limit 0x27"
    assert lookup(memory, memory.registers, 0x0C) is None  # LDTR is null


def test_the_last_descriptor_cut_by_the_limit() -> None:
    memory = long_mode(words(0, CODE64, DATA)[:-1])
    entry = lookup(memory, memory.registers, 0x10)
    assert entry is not None and entry.beyond


def test_real_mode_vectors() -> None:
    memory = long_mode(b"", ram={0x20: bytes.fromhex("a5fe00f0")}, cr0=0x10)
    found = real_vector(memory, TableRegister(0, 0x3FF), 8)
    assert found is not None and found.linear == 0xFFEA5
    assert real_vector(memory, TableRegister(0, 0x1F), 8) is None
