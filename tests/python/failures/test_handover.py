# SPDX-License-Identifier: BSD-2-Clause
"""Where a trampoline without lamps sends its CPU, followed through registers and memory."""

from __future__ import annotations

import struct

import pytest

from debug.evidence import TableRegister
from debug.report.diagnosis import diagnose
from tests.python.evidence_builder import CODE32, NULL_IDT, TRAMPOLINE, Machine, registers

FIELDS, ENTRY = 0x9000, 0x500000
START32 = TRAMPOLINE + 0x40
BY_REGISTER = bytes.fromhex(
    "b800900000 83c004 8b08 83c110 01d9 ffe1"
)  # 01d9: ebx is 0 where it is known
LONG_WAY = bytes.fromhex("31db bc00700000 b800900000 83c004 8b08 01d9 ffe1")
BY_MEMORY = bytes.fromhex("8ed8 0f20c0 0f22c0 ff1504900000")  # mov ds; mov cr0; call [0x9004]
IN_A_LOOP = bytes.fromhex("8b0d04900000 f390 833d0890000000 74f5 ffe1")  # ECX is read before it
CODE = bytes.fromhex("b801000000 cd10 ebfe")
HEADER = struct.pack("<III", 0x1BADB002, 3, 0xE4524FFB)


def trampoline(way: bytes, to: int) -> Machine:
    """A page whose far jump leads to this code, and the fields that it may read."""
    machine = Machine().sipi()
    machine.ram.write(TRAMPOLINE, bytes(0x200))
    machine.ram.write(TRAMPOLINE, b"\xfa\x0f\x01\x1e\0\0")  # cli; an lgdt
    machine.ram.write(TRAMPOLINE + 9, b"\xea" + struct.pack("<IH", START32, CODE32))
    machine.ram.write(START32, way)
    machine.ram.write(FIELDS, struct.pack("<IIIQ", 0, to, 1, 0))
    return machine


def sent(way: bytes, to: int, there: bytes, rip: int) -> Machine:
    """An AP left the page by this code, to where `there` is, and dies at `rip`."""
    machine = trampoline(way, to)
    machine.ram.write(to, there)
    return machine.kill(registers("prot32", rip=rip, rsp=0x7000, idtr=NULL_IDT), 6)


def first(machine: Machine) -> tuple[str, str]:
    cause = diagnose(machine.evidence()).causes[0]
    return cause.row.id, cause.certainty.value


@pytest.mark.parametrize("way", [LONG_WAY, BY_MEMORY])
def test_an_entry_that_is_the_images_header(way: bytes) -> None:
    broken = sent(way, ENTRY, HEADER + CODE, ENTRY + len(HEADER))
    assert first(broken) == ("entry-no-code", "likely")
    text = " ".join(diagnose(broken.evidence()).causes[0].match.evidence)
    assert "a Multiboot header" in text and f"{ENTRY:#x}" in text
    assert ("read at 0x9004" in text) == (way is BY_MEMORY)
    assert first(sent(way, ENTRY, CODE, ENTRY + 5))[0] != "entry-no-code"


def test_zeros_at_the_entry() -> None:
    assert first(sent(LONG_WAY, ENTRY, b"", ENTRY + 0x2000)) == ("entry-no-code", "likely")


def test_zeros_that_the_cpu_ran_through_into_something_else() -> None:
    """It took a header for code, and loaded a GDTR from nowhere: not the GDT is wrong."""
    machine = trampoline(LONG_WAY, ENTRY)
    machine.ram.write(ENTRY + 0x100000, HEADER + bytes.fromhex("8ed8"))  # mov ds, eax
    here = {"rip": ENTRY + 0x10000C, "rax": 0x10, "rsp": 0x7000}
    nowhere = TableRegister(0, 0)
    machine.kill(registers("prot32", idtr=NULL_IDT, gdtr=nowhere, **here), 13, 0x10)
    cause = diagnose(machine.evidence()).causes[0]
    assert (cause.row.id, cause.certainty.value) == ("entry-no-code", "likely")
    assert any("zeros up to 0x600000, where a Multiboot" in line for line in cause.match.evidence)
    assert not any("no GDT was loaded" in line for line in cause.match.evidence)


def test_what_the_code_takes_from_elsewhere_is_not_known() -> None:
    """EBX was never set, and a loop may have changed ECX: nothing is said of the target."""
    for way in (BY_REGISTER, IN_A_LOOP):
        rows = [c.row.id for c in diagnose(sent(way, ENTRY, b"", ENTRY + 8).evidence()).causes]
        assert rows and "entry-no-code" not in rows


def test_a_cpu_that_did_not_come_from_there() -> None:
    rows = diagnose(sent(LONG_WAY, ENTRY, HEADER, ENTRY - 0x1000).evidence()).causes
    assert "entry-no-code" not in [cause.row.id for cause in rows]


def test_an_entry_of_0_leads_into_the_vectors() -> None:
    assert first(sent(BY_MEMORY, 0, struct.pack("<I", 0xF000FF53) * 64, 9)) == (
        "entry-null",
        "likely",
    )
