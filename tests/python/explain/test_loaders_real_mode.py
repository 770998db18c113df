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


def met_in_bios(interrupted_at: int, code: bytes, flags: int = 0x202) -> str:
    """The state of a BSP met in the BIOS's handler, one word deep, of an interrupt of this code."""
    machine = Machine()
    machine.ending = Ending.STOPPED
    machine.ram.write(interrupted_at - 1, code)
    machine.ram.write(0x7BF8, struct.pack("<4H", 0, interrupted_at, 0, flags))
    here = registers(
        "real",
        rip=0xFEA6,
        rsp=0x7BF8,
        cs=segment(0xF000, 0xF0000, 0xFFFF, 0x9B00),
        ss=segment(0, 0, 0xFFFF, 0x9300),
    )
    machine.bsp = replace(machine.bsp, registers=here, halted=False, moved=True)
    return diagnose(replace(machine.evidence(), cpus=(machine.bsp,))).explanation.headline


def test_a_kernel_that_rests_while_the_bios_counts_ticks_is_no_firmware() -> None:
    assert met_in_bios(0x7C1A, b"\xf4\xeb\xfd") == "healthy: 1 of 1 CPUs online"


def test_what_calls_the_bios_or_can_not_be_interrupted_does_not_rest() -> None:
    for found in (met_in_bios(0x7C1A, b"\x16\xeb\xfd"), met_in_bios(0x7C1A, b"\xf4", flags=2)):
        assert "still in its firmware" in found
