# SPDX-License-Identifier: BSD-2-Clause
"""An AP that was sent to an empty page and ran through its zeros into the trampoline behind it."""

from __future__ import annotations

import pytest

from debug.evidence import TableRegister
from debug.report.diagnosis import Diagnosis, diagnose
from tests.python.evidence_builder import NULL_IDT, PAGE, Machine, registers, segment

EMPTY, CODE = 0x8000, 0x9000
# cli; lgdt [0x8080]; mov eax, cr0; or al, 1; mov cr0, eax; ljmp 8:0x8040
TRAMPOLINE = bytes.fromhex("fa 0f01168080 0f20c0 0c01 0f22c0 66ea408000000800")
AT_THE_JUMP = 14


def died(page: bytes) -> Diagnosis:
    """The AP dies at the far jump, with CR0.PE set and the GDTR that zeros make; CS is the SIPI's."""
    machine = Machine()
    machine.ram.write(EMPTY, page)
    machine.ram.write(CODE, TRAMPOLINE)
    code = segment(EMPTY >> 4, EMPTY, 0xFFFF, 0x9B00)
    there = registers(
        "prot16",
        rip=PAGE + AT_THE_JUMP,
        cs=code,
        gdtr=TableRegister(0, 0),
        idtr=NULL_IDT,
    )
    return diagnose(machine.kill(there, 13, 8).evidence())


def test_the_vector_is_the_cause_and_not_the_gdt() -> None:
    causes = died(bytes(PAGE)).causes
    assert [(c.row.id, c.certainty.value) for c in causes][:1] == [("sipi-wrong-vector", "certain")]
    assert "gdt-base-wrong" not in [c.row.id for c in causes]
    assert f"code that looks like a trampoline is at {CODE:#x}" in causes[0].match.evidence


@pytest.mark.parametrize("page", [TRAMPOLINE, b"\xfa\xb8\x00\x00\x8e\xd8\xeb\x00"])
def test_a_page_with_code_is_not_called_empty(page: bytes) -> None:
    rows = [c.row.id for c in died(page + bytes(PAGE - len(page))).causes]
    assert "sipi-wrong-vector" not in rows and "trampoline-not-copied" not in rows
