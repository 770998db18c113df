# SPDX-License-Identifier: BSD-2-Clause
"""A BSP in real mode with a GDT loaded: PE was forgotten, or a loader calls the BIOS."""

from __future__ import annotations

import struct
from dataclasses import replace

from debug.evidence import Ending, TableRegister
from debug.report.diagnosis import diagnose
from tests.python.evidence_builder import DESCRIPTORS, Machine, registers, segment

TABLE = 0x8300
INTO_32 = bytes.fromhex("0f 22 c0 66 ea ef 82 00 00 08 00")  # mov cr0, eax; ljmpl 8, 0x82ef
INTO_16 = bytes.fromhex("0f 22 c0 66 ea 40 83 00 00 00 00")  # mov cr0, eax; ljmpl 0, 0x8340
NORMAL = bytes.fromhex("ea 05 7c 00 00")  # a boot sector's own: jmp 0:7c05


def rows(*code: bytes) -> list[str]:
    """The causes for a BSP at 8389H, where the code around its GDT is this."""
    machine = Machine()
    machine.ending = Ending.UNKNOWN
    machine.ram.write(TABLE, struct.pack("<4Q", *DESCRIPTORS))
    machine.ram.write(0x8200, bytes(0x100))
    machine.ram.write(0x82E5, b"\x90".join(code))
    here = registers(
        "real", rip=0x8389, cs=segment(0, 0, 0xFFFF, 0x9B00), gdtr=TableRegister(TABLE, 0x1F)
    )
    machine.bsp = replace(machine.bsp, registers=here, halted=False, moved=True)
    return [cause.row.id for cause in diagnose(machine.evidence()).causes]


def test_a_far_jump_into_the_gdt_was_taken_without_pe() -> None:
    assert rows(INTO_32) == ["protection-not-enabled"]
    assert rows(INTO_32, NORMAL) == ["protection-not-enabled"]


def test_code_that_leaves_protected_mode_on_purpose_is_none() -> None:
    assert "protection-not-enabled" not in rows(INTO_32, INTO_16)
