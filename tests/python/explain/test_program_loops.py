# SPDX-License-Identifier: BSD-2-Clause
"""A program's endless loop is no hang of the kernel below it, which gets its interrupts."""

from __future__ import annotations

from dataclasses import replace

from debug.evidence import EventKind, ExceptionEvent
from debug.report.diagnosis import Diagnosis, diagnose
from tests.python.evidence_builder import KERNEL, KERNEL_PHYSICAL, Machine, registers

ENABLED, MASKED = 0x202, 0x2


def stopped(
    rflags: int = ENABLED, cpl: int = 3, kind: EventKind = EventKind.HARDWARE_INTERRUPT
) -> Diagnosis:
    """The BSP jumps to itself, and one event was seen there."""
    machine = Machine()
    machine.ram.write(KERNEL_PHYSICAL + 0x3000, b"\xeb\xfe")
    there = registers(rip=KERNEL + 0x3000, rflags=rflags, cpl=cpl, rsp=KERNEL + 0x9000)
    machine.bsp = replace(machine.bsp, registers=there, halted=False, moved=False)
    machine.events.append(ExceptionEvent(kind, 0x20, there, cpu=0))
    return diagnose(machine.evidence())


def test_it_was_interrupted_and_went_on() -> None:
    found = stopped()
    assert found.status == "healthy"
    assert any("runs a program (CPL 3)" in note for note in found.explanation.notes)


def test_the_kernels_own_loop_is_another_matter() -> None:
    assert stopped(cpl=0).status == "hang"


def test_a_program_that_nothing_interrupts_holds_the_cpu_for_ever() -> None:
    assert stopped(rflags=MASKED).status == "hang"


def test_an_exception_is_no_sign_of_life() -> None:
    assert stopped(kind=EventKind.EXCEPTION).status == "hang"
