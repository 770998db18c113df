# SPDX-License-Identifier: BSD-2-Clause
"""A kernel that wants a feature of the CPU, and halts without a word where it is not there."""

from __future__ import annotations

from dataclasses import replace

from debug.report.diagnosis import Diagnosis, diagnose
from tests.python.evidence_builder import KERNEL, KERNEL_PHYSICAL, Machine, registers

CODE = KERNEL + 0x3000
# mov eax, 1; cpuid; and ecx, 200000h; cmp ecx, 200000h; jne err; ret; err: cli; hlt; jmp err
REFUSES = "b8 01 00 00 00 0f a2 81 e1 00 00 20 00 81 f9 00 00 20 00 75 01 c3 fa f4 eb fc"
OTHER = REFUSES.replace("75 01", "75 00")  # the jump leads to the RET


def halts(code: str) -> Diagnosis:
    """The BSP halts behind this code; of two CPUs, both were to come up."""
    machine = Machine()
    machine.expected = 2
    machine.ram.write(KERNEL_PHYSICAL + 0x3000, bytes.fromhex(code))
    here = registers(rip=CODE + 24, rsp=KERNEL + 0x9000)
    machine.bsp = replace(machine.bsp, registers=here, halted=True)
    return diagnose(machine.stop(registers("prot32", rip=0xFD09A), halted=True).evidence())


def test_a_halt_that_a_test_of_cpuid_leads_to() -> None:
    cause = halts(REFUSES).causes[0]
    assert (cause.row.id, cause.certainty.value) == ("cpu-lacks-feature", "likely")
    assert any("leaf 0x1" in line and "0x200000" in line for line in cause.match.evidence)


def test_another_halt_in_the_same_function() -> None:
    for code in (OTHER, REFUSES.replace("0f a2", "0f a3")):
        assert "cpu-lacks-feature" not in [cause.row.id for cause in halts(code).causes]
