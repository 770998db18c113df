# SPDX-License-Identifier: BSD-2-Clause
"""An exception in real mode whose vector leads to an IRET, as a PC's BIOS leaves the unused ones."""

from __future__ import annotations

import struct
from dataclasses import replace

import pytest

from debug.evidence import Ending, TableRegister
from debug.report.diagnosis import Diagnosis, diagnose
from tests.python.evidence_builder import Machine, registers, segment

START, STACK, IRET_OF_BIOS = 0x7C00, 0x5000, 0xFFF53
BIOS = segment(0xF000, 0xF0000, 0xFFFF, 0x9B00)
OURS = segment(0, 0, 0xFFFF, 0x9B00)
UD2, NOP = b"\x0f\x0b", b"\x90\x90"
DOES_SOMETHING = b"\xfe\x06\x00\x05\xcf"  # inc byte [0x500]; iret


def real(code: bytes, handler: bytes = b"\xcf", inside: bool = True) -> Diagnosis:
    """The BSP at the handler of vector 6, entered from `code`, or at `code` itself."""
    machine = Machine()
    machine.ram.write(START, code)
    machine.ram.write(6 * 4, struct.pack("<HH", 0xFF53, 0xF000))
    machine.ram.write(IRET_OF_BIOS, handler)
    machine.ram.write(STACK, struct.pack("<3H", START, 0, 0x202))
    place = {"rip": 0xFF53, "cs": BIOS} if inside else {"rip": START, "cs": OURS}
    ss = segment(0, 0, 0xFFFF, 0x9300)
    regs = registers("real", rsp=STACK, ss=ss, rflags=0x2, idtr=TableRegister(0, 0x3FF), **place)
    machine.bsp = replace(machine.bsp, registers=regs, halted=False, moved=True)
    machine.ap = replace(machine.ap, waiting_for_sipi=True)
    machine.ending = Ending.STOPPED
    return diagnose(machine.evidence())


@pytest.mark.parametrize("inside", [True, False])
def test_it_is_told_from_either_end(inside: bool) -> None:
    found = real(UD2, inside=inside)
    assert found.status == "hang"
    assert [(c.row.id, c.certainty.value) for c in found.causes] == [
        ("real-mode-fault-loop", "certain"),
        ("unreachable-reached", "certain"),
    ]
    assert found.explanation.chain[0].rip == START


def test_a_handler_that_was_entered_by_int_goes_on() -> None:
    assert real(NOP).status != "hang"


@pytest.mark.parametrize("inside", [True, False])
def test_a_handler_that_does_something_may_go_on(inside: bool) -> None:
    rows = [c.row.id for c in real(UD2, DOES_SOMETHING, inside).causes]
    assert "real-mode-fault-loop" not in rows
