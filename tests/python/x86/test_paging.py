# SPDX-License-Identifier: BSD-2-Clause
"""The page walker on tables that no emulator would run, and on any memory at all."""

from __future__ import annotations

import itertools
import struct
from typing import Mapping, Optional

import pytest
from hypothesis import given
from hypothesis import strategies as st

from debug.evidence import Registers
from debug.x86.exceptions import describe_page_fault
from debug.x86.linear import LinearMemory, linear_reader
from debug.x86.mappings import mappings
from debug.x86.modes import PagingMode
from debug.x86.page_entries import Reason, bits_text
from debug.x86.paging import Access, Tables, translate, walk

PG, PAE, LA57, PSE = 0x80000001, 1 << 5, 1 << 12, 1 << 4
WP, NXE, LMA, SMEP, SMAP = 1 << 16, 1 << 11, 0x500, 1 << 20, 1 << 21
NX = 1 << 63


class Words:
    """Sparse physical memory of 8-byte words; zero where nothing was put."""

    def __init__(self, words: Mapping[int, int], end: int = 1 << 52) -> None:
        self.words, self.end = words, end

    def read(self, physical: int, length: int) -> Optional[bytes]:
        if physical + length > self.end:
            return None
        first = physical & ~7
        data = b"".join(
            struct.pack("<Q", self.words.get(at, 0)) for at in range(first, physical + length, 8)
        )
        return data[physical - first :][:length]


class Noise:
    """Memory that repeats one pattern for ever."""

    def __init__(self, pattern: bytes) -> None:
        self.pattern = pattern

    def read(self, physical: int, length: int) -> Optional[bytes]:
        if not self.pattern:
            return None
        turn = physical % len(self.pattern)
        return (self.pattern * (length // len(self.pattern) + 2))[turn : turn + length]


def chain(pte: int = 0x9003, pde: int = 0x4003, pdpte: int = 0x3003, pml4e: int = 0x2003) -> Words:
    """4-level tables at 0x1000 with one path: every index is 1."""
    return Words({0x1008: pml4e, 0x2008: pdpte, 0x3008: pde, 0x4008: pte})


ADDRESS = 1 << 39 | 1 << 30 | 1 << 21 | 1 << 12 | 0x123


def go(
    memory: Words, access: Access = Access(), efer: int = LMA | NXE, cr0: int = PG, cr4: int = PAE
) -> Optional[tuple[str, Reason, Optional[int], Optional[int]]]:
    fault = walk(memory, cr0, 0x1000, cr4, efer, ADDRESS, access, maxphyaddr=40, pdpe1gb=True).fault
    return None if fault is None else (fault.level, fault.reason, fault.vector, fault.error_code)


READ, WRITE, FETCH = Access(), Access(write=True), Access(fetch=True)
USER, USER_WRITE = Access(user=True), Access(write=True, user=True)


@pytest.mark.parametrize(
    "memory, access, efer, cr0, cr4, expected",
    [
        (chain(), READ, LMA, PG, PAE, None),
        (chain(pte=0), READ, LMA, PG, PAE, ("PT", Reason.NOT_PRESENT, 14, 0)),
        (chain(pde=0), WRITE, LMA, PG, PAE, ("PD", Reason.NOT_PRESENT, 14, 2)),
        (chain(pdpte=0), USER_WRITE, LMA, PG, PAE, ("PDPT", Reason.NOT_PRESENT, 14, 6)),
        (chain(pml4e=0), FETCH, LMA, PG, PAE, ("PML4", Reason.NOT_PRESENT, 14, 0)),
        (chain(pml4e=0), FETCH, LMA | NXE, PG, PAE, ("PML4", Reason.NOT_PRESENT, 14, 0x10)),
        (chain(pte=0x9003 | NX), READ, LMA, PG, PAE, ("PT", Reason.NX_WITHOUT_NXE, 14, 9)),
        (chain(pte=0x9003 | NX), WRITE, LMA, PG, PAE, ("PT", Reason.NX_WITHOUT_NXE, 14, 0xB)),
        (chain(pde=0x4003 | NX), FETCH, LMA | NXE, PG, PAE, ("PD", Reason.NO_EXECUTE, 14, 0x11)),
        (chain(pte=0x9003 | NX), READ, LMA | NXE, PG, PAE, None),
        (chain(pte=0x9001), WRITE, LMA, PG, PAE, None),
        (chain(pte=0x9001), WRITE, LMA, PG | WP, PAE, ("PT", Reason.WRITE_PROTECTED, 14, 3)),
        (chain(pde=0x4001), WRITE, LMA, PG | WP, PAE, ("PD", Reason.WRITE_PROTECTED, 14, 3)),
        (chain(), USER, LMA, PG, PAE, ("PML4", Reason.USER_SUPERVISOR, 14, 5)),
        (chain(0x9007, 0x4007, 0x3007, 0x2007), USER_WRITE, LMA, PG, PAE, None),
        (
            chain(0x9005, 0x4007, 0x3007, 0x2007),
            USER_WRITE,
            LMA,
            PG,
            PAE,
            ("PT", Reason.WRITE_PROTECTED, 14, 7),
        ),
        (
            chain(0x9007, 0x4007, 0x3007, 0x2007),
            FETCH,
            LMA,
            PG,
            PAE | SMEP,
            ("PT", Reason.SMEP, 14, 0x11),
        ),
        (
            chain(0x9007, 0x4007, 0x3007, 0x2007),
            READ,
            LMA,
            PG,
            PAE | SMAP,
            ("PT", Reason.SMAP, 14, 1),
        ),
        (chain(0x9007, 0x4007, 0x3007, 0x2007), Access(ac=True), LMA, PG, PAE | SMAP, None),
        (chain(0x9007, 0x4007, 0x3003, 0x2007), READ, LMA, PG, PAE | SMAP, None),
        (chain(pml4e=0x2083), READ, LMA, PG, PAE, ("PML4", Reason.PS_MISPLACED, 14, 9)),
        (chain(pde=0x203083), READ, LMA, PG, PAE, ("PD", Reason.MISALIGNED_LARGE_PAGE, 14, 9)),
        (
            chain(pdpte=0x2000_0083),
            READ,
            LMA,
            PG,
            PAE,
            ("PDPT", Reason.MISALIGNED_LARGE_PAGE, 14, 9),
        ),
        (chain(pte=0x9003 | 1 << 40), READ, LMA, PG, PAE, ("PT", Reason.RESERVED_BIT, 14, 9)),
        (chain(pte=0x9003 | 1 << 60), READ, LMA, PG, PAE, None),
    ],
)
def test_four_levels(
    memory: Words, access: Access, efer: int, cr0: int, cr4: int, expected: object
) -> None:
    assert go(memory, access, efer, cr0, cr4) == expected


def test_the_result_and_its_sizes() -> None:
    small = walk(chain(), PG, 0x1000, PAE, LMA, ADDRESS)
    assert (small.physical, small.page_size) == (0x9123, 0x1000)
    assert [entry.name for entry in small.entries] == ["PML4[1]", "PDPT[1]", "PD[1]", "PT[1]"]
    assert small.entries[3].address == 0x4008 and small.entries[3].raw == 0x9003
    middle = walk(chain(pde=0x600083), PG, 0x1000, PAE, LMA, ADDRESS)
    assert (middle.physical, middle.page_size) == (0x601123, 1 << 21)
    huge = walk(chain(pdpte=0x8000_0083), PG, 0x1000, PAE, LMA, ADDRESS)
    assert (huge.physical, huge.page_size) == (0x8020_1123, 1 << 30)
    assert huge.notes == ("a 1 GiB page: a CPU without PDPE1GB refuses it",)
    refused = walk(chain(pdpte=0x8000_0083), PG, 0x1000, PAE, LMA, ADDRESS, pdpe1gb=False)
    assert refused.fault is not None and refused.fault.reason is Reason.PS_MISPLACED


def test_a_report_can_say_which_entry_and_why() -> None:
    result = walk(chain(pde=0x203083), PG, 0x1000, PAE, LMA, ADDRESS)
    lines = result.describe()
    assert lines[0] == "PML4[1] at 0x1008 is 0x2003: table 0x2000, P RW"
    assert lines[-1] == "PD[1] is 0x203083: bit 13 set, but the page must be aligned to 2 MiB"


@pytest.mark.parametrize(
    "address, bits, canonical",
    [
        (0x0000_7FFF_FFFF_FFFF, PAE, True),
        (0x0000_8000_0000_0000, PAE, False),
        (0xFFFF_8000_0000_0000, PAE, True),
        (0xFFFF_7FFF_FFFF_FFFF, PAE, False),
        (0x0000_8000_0000_0000, PAE | LA57, True),
        (0x0100_0000_0000_0000, PAE | LA57, False),
        (0xFF00_0000_0000_0000, PAE | LA57, True),
    ],
)
def test_canonical_addresses(address: int, bits: int, canonical: bool) -> None:
    fault = walk(Words({}), PG, 0x1000, bits, LMA, address).fault
    assert fault is not None
    assert (fault.reason is Reason.NON_CANONICAL) is not canonical
    assert (fault.vector, fault.error_code) == ((14, 0) if canonical else (13, 0))


def test_a_table_outside_memory_is_unknown_not_absent() -> None:
    result = walk(Words({}, end=0x1000), PG, 0x5000, PAE, LMA, 0)
    assert not result.known and result.fault is not None
    assert (result.fault.reason, result.fault.vector) == (Reason.UNREADABLE, None)


def test_32_bit_paging() -> None:
    memory = Words({0x1000: 0x0040_0083 << 32 | 0x2003, 0x2000: 0x7003 << 32 | 0x6001})
    assert walk(memory, PG, 0x1000, PSE, 0, 0x0000_0ABC).physical == 0x6ABC
    assert walk(memory, PG, 0x1000, PSE, 0, 0x0000_1ABC).physical == 0x7ABC
    large = walk(memory, PG, 0x1000, PSE, 0, 0x0047_1234)
    assert (large.physical, large.page_size) == (0x0047_1234, 1 << 22)
    assert walk(memory, PG, 0x1000, 0, 0, 0x0047_1234).physical is None  # PS means nothing
    assert walk(memory, PG, 0x1000, PSE, 0, 1 << 40 | 0xABC).physical == 0x6ABC
    high = Words({0x1000: 0x0000_0000_0000_2083})  # PSE-36: bit 13 is address bit 32
    assert walk(high, PG, 0x1000, PSE, 0, 0).physical == 1 << 32


def test_reserved_bits_of_a_4_mib_page() -> None:
    def fault(entry: int, bits: int) -> Optional[Reason]:
        found = walk(Words({0x1000: entry}), PG, 0x1000, PSE, 0, 0, maxphyaddr=bits).fault
        assert found is None or found.error_code == 9
        return None if found is None else found.reason

    assert fault(0x83 | 1 << 21, 40) is Reason.MISALIGNED_LARGE_PAGE
    assert fault(0x83 | 1 << 17, 36) is Reason.RESERVED_BIT  # address bit 36
    assert fault(0x83 | 1 << 16, 36) is None
    assert fault(0x83 | 1 << 13, 32) is Reason.RESERVED_BIT


def test_pae_directory_pointers_are_checked_when_they_are_loaded() -> None:
    good = Words({0x1000: 0x2001, 0x2000: 0x0000_0083})
    assert walk(good, PG, 0x1000, PAE, 0, 0x1234).physical == 0x1234
    fault = walk(Words({0x1000: 0x2003}), PG, 0x1000, PAE, 0, 0x1234).fault
    assert fault is not None
    assert (fault.level, fault.reason) == ("PDPT", Reason.RESERVED_BIT)
    assert (fault.vector, fault.error_code) == (13, 0)


def test_reading_through_the_tables_crosses_pages() -> None:
    words = {0x1000: 0x2003, 0x2000: 0x3003, 0x3000: 0x4003, 0x4000: 0x9003, 0x4008: 0x7003}
    memory = Words({**words, 0x9FF8: 0x1122334455667788, 0x7000: 0x99})
    control = {"cr0": PG, "cr3": 0x1000, "cr4": PAE, "efer": LMA}
    registers = Registers(control=control)
    read = linear_reader(memory, registers)
    assert read(0xFFE, 4) == bytes.fromhex("22119900")
    assert read(0x1FFE, 4) is None
    linear = LinearMemory(memory, registers)
    found = linear.first_fault(0x1FFE, 4)
    assert found is not None and found.address == 0x2000
    assert linear.first_fault(0xFFE, 4) is None
    assert linear_reader(memory, Registers())(0, 4) is None
    assert linear_reader(memory, Registers(control={"cr0": 0x11}))(0x7000, 1) == b"\x99"


def test_tables_that_contain_themselves_end() -> None:
    memory = Noise(struct.pack("<Q", 0x1003))
    tables = Tables(PG, 0x1000, PAE, LMA)
    assert len(list(mappings(memory, tables, max_tables=10))) == 7 * 512
    listed = list(itertools.islice(mappings(memory, tables), 2000))
    assert len({item.linear for item in listed}) == 2000


MODES = st.sampled_from(((PSE, 0), (PAE, 0), (PAE, LMA), (PAE | LA57, LMA), (0, 0), (SMEP, LMA)))
UINT64 = st.integers(0, 2**64 - 1)


@given(
    st.binary(max_size=64),
    MODES,
    UINT64,
    UINT64,
    st.builds(Access, st.booleans(), st.booleans(), st.booleans(), st.booleans()),
    st.sampled_from((0, NXE, NXE | 1)),
    st.one_of(st.none(), st.integers(-1, 70)),
    st.sampled_from((None, True, False)),
)
def test_any_memory_gives_an_answer(
    pattern: bytes,
    mode: tuple[int, int],
    cr3: int,
    address: int,
    access: Access,
    efer: int,
    bits: Optional[int],
    huge: Optional[bool],
) -> None:
    tables = Tables(PG | WP, cr3, mode[0] | SMAP, mode[1] | efer, bits, huge)
    result = translate(Noise(pattern), tables, address, access)
    assert (result.fault is None) == (result.physical is not None)
    assert len(result.entries) <= 5
    assert all(isinstance(line, str) for line in result.describe())
    if result.fault is not None and result.fault.vector == 14:
        code = result.fault.error_code
        assert code is not None and bool(code & 2) == access.write
        assert bool(code & 1) == (result.fault.reason is not Reason.NOT_PRESENT)
        assert describe_page_fault(code)
    if result.physical is not None:
        assert result.physical < 1 << 52
    list(itertools.islice(mappings(Noise(pattern), tables, 3), 3000))


def test_modes_and_bits_by_name() -> None:
    assert Tables(PG, 0, PAE, LMA).mode is PagingMode.LEVEL4
    assert Tables(PG, 0, PAE | LA57, LMA).mode is PagingMode.LEVEL5
    assert Tables(PG, 0, PAE | LA57, 0).mode is PagingMode.PAE
    assert Tables(1, 0, PAE, 0x100).mode is PagingMode.NONE
    assert bits_text(1 << 63) == "bit 63"
    assert bits_text(0xFF << 13 | 1) == "bits 20:13, 0"
