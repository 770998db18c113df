# SPDX-License-Identifier: BSD-2-Clause
"""EFER.LME that is 0: never set, or set in vain on a CPU that does not have it."""

from __future__ import annotations

from dataclasses import replace
from typing import Optional

import pytest

from debug.report.diagnosis import diagnose
from tests.python.evidence_builder import TRAMPOLINE, Machine, registers
from tests.python.failures.row_cases import lme

ECX = "b9800000c0"  # mov ecx, 0xc0000080
SETS = {
    "or eax": f"{ECX} 0f32 0d00010000 0f30",
    "bts": f"{ECX} 0f32 0fbae808 0f30",
    "or ah": f"{ECX} 0f32 80cc01 0f30",
    "a constant": f"{ECX} 31d2 b800010000 0f30",
}
DOES_NOT = {
    "another bit": f"{ECX} 0f32 83c801 0f30",
    "no write": f"{ECX} 0f32 0d00010000",
    "another MSR": "b91b000000 0f32 0d00010000 0f30",
    "nothing": "90",
}


def causes(code: str, model: Optional[bool]) -> dict[str, str]:
    """What is said of an AP that died behind MOV CR0 with EFER 0, this code before that."""
    machine: Machine = lme(0)
    data = bytes.fromhex(code)
    machine.ram.write(TRAMPOLINE + 0x17D - len(data), data)
    machine.ap = replace(machine.ap, long_mode=model)
    found = diagnose(machine.evidence()).causes
    return {cause.row.id: cause.certainty.value for cause in found}


@pytest.mark.parametrize("code", [*SETS.values(), *DOES_NOT.values()])
def test_a_model_without_long_mode(code: str) -> None:
    said = causes(code, False)
    assert next(iter(said.items())) == ("no-long-mode", "certain")
    assert "lme-missing" not in said


@pytest.mark.parametrize("code", SETS.values(), ids=SETS)
def test_a_write_that_had_no_effect(code: str) -> None:
    said = causes(code, None)
    assert next(iter(said.items())) == ("no-long-mode", "likely")
    assert "lme-missing" not in said


@pytest.mark.parametrize("code", DOES_NOT.values(), ids=DOES_NOT)
@pytest.mark.parametrize("model", [None, True])
def test_lme_was_never_set(code: str, model: Optional[bool]) -> None:
    said = causes(code, model)
    assert next(iter(said.items())) == ("lme-missing", "certain")
    assert "no-long-mode" not in said


def astray(cr3: int) -> dict[str, str]:
    """An AP of a kernel without lamps that has slid on in PAE paging; the BSP is in long mode."""
    machine = Machine().sipi()
    machine.ram.write(0x180000, bytes(range(1, 65)))
    regs = registers("prot32", rip=0x180000, cr0=0x80000011, cr3=cr3, cr4=0x20, efer=0)
    found = diagnose(machine.stop(regs, moved=True).evidence()).causes
    return {cause.row.id: cause.certainty.value for cause in found}


def test_an_ap_with_the_bsps_tables_wants_long_mode_wherever_it_is() -> None:
    assert astray(0x10000)["lme-missing"] == "likely"
    assert "lme-missing" not in astray(0x2F0000)
