# SPDX-License-Identifier: BSD-2-Clause
"""A machine that prints up to the moment when it is stopped is alive, and no more is said."""

from __future__ import annotations

from dataclasses import replace

import pytest

from debug.evidence import Ending, EventKind, ExceptionEvent, IpiEvent, IpiKind
from debug.report.diagnosis import Diagnosis, diagnose
from tests.python.evidence_builder import (
    KERNEL,
    PAGE,
    RESET_IDT,
    STACKS,
    TRAMPOLINE,
    Machine,
    registers,
    segment,
)

SWITCH = bytes.fromhex("fa 0f01168080 0f20c0 0c01 0f22c0 66ea188000000800")  # a trampoline's code


def prints(quiet: float | None = 0.1) -> Machine:
    """CPU 0 of a kernel without lamps works; CPU 1 is where the firmware left it."""
    machine = Machine()
    machine.ram.write(TRAMPOLINE, bytes(PAGE))
    machine.ram.write(0x101000, b"\x90" * 64)
    there = registers(rip=KERNEL + 0x1010, rflags=2, rsp=KERNEL + 0x9000)
    machine.bsp = replace(machine.bsp, registers=there, halted=False, moved=True)
    machine.ipis.append(IpiEvent(IpiKind.SIPI, 0, None, "all-but-self", 0x10, by_firmware=True))
    machine.console, machine.quiet = "one more line\nand half", quiet
    in_rom = registers("real", rip=0xD09A, cs=segment(0xF000, 0xF0000, 0xFFFF, 0x9B00))
    return machine.stop(replace(in_rom, idtr=RESET_IDT), halted=True)


def told(machine: Machine) -> tuple[Diagnosis, str]:
    diagnosis = diagnose(machine.evidence())
    return diagnosis, " ".join(diagnosis.explanation.notes)


def test_alive() -> None:
    diagnosis, notes = told(prints())
    assert (diagnosis.status, diagnosis.causes) == ("healthy", ())
    assert 'still running and printing when it was stopped, at last "one more line"' in notes
    assert "--until" in notes


@pytest.mark.parametrize("quiet", [None, 30.0])
def test_what_printed_once_is_not_known_to_be_alive(quiet: float | None) -> None:
    diagnosis, notes = told(prints(quiet))
    assert diagnosis.status == "unknown" and "still running" not in notes


def test_what_ended_by_itself_was_not_stopped() -> None:
    machine = prints()
    machine.ending = Ending.EXITED
    assert "still running" not in told(machine)[1]


def test_with_a_trampoline_that_nobody_was_started_in_it_is_not_called_healthy() -> None:
    machine = prints()
    machine.ram.write(TRAMPOLINE, SWITCH)
    diagnosis, notes = told(machine)
    assert diagnosis.status == "unknown" and "still running and printing" in notes
    assert diagnosis.explanation.headline.startswith("the machine was still running and printing")


def test_an_ap_that_was_sent_for_and_did_not_come_is_missing() -> None:
    diagnosis, notes = told(prints().sipi(to=1))
    assert diagnosis.status == "missing-cpu" and "still running" not in notes


def test_a_cpu_that_stands_still_is_not_at_work() -> None:
    machine = prints()
    machine.bsp = replace(machine.bsp, moved=False)
    diagnosis, notes = told(machine)
    assert diagnosis.status != "healthy" and "still running" not in notes


def test_what_the_user_awaited_and_did_not_see_comes_first() -> None:
    evidence = replace(prints().evidence(), unseen="log.n:")
    diagnosis = diagnose(evidence)
    assert diagnosis.status == "unknown"
    assert "which --until awaits, did not appear" in diagnosis.explanation.headline
    notes = " ".join(diagnosis.explanation.notes)
    assert "still running and printing" in notes and "nothing wrong" not in notes


def test_a_bsp_at_work_beside_idle_aps_is_healthy() -> None:
    """The samples meet it at two places, and the AP at one."""
    machine = Machine()
    machine.ram.write(0x101200, b"\x90" * 64)
    there = registers(rip=KERNEL + 0x1200, rflags=0x202, rsp=KERNEL + 0x9000)
    machine.bsp = replace(machine.bsp, registers=there, halted=False, moved=True)
    assert diagnose(machine.evidence()).status == "healthy"
    fault = replace(there, rip=KERNEL + 0x1204)
    for at in range(20):
        event = ExceptionEvent(EventKind.EXCEPTION, 14, fault, 2, 0x7000_0000 + at * PAGE, 0)
        machine.events.append(event)
    assert diagnose(machine.evidence()).status == "unknown"  # each is handled, it may not come on


def test_a_loop_around_mwait_is_idle() -> None:
    machine = Machine()
    machine.ram.write(0x101200, bytes.fromhex("0f01c8 0f01c9 ebf8"))  # monitor; mwait; jmp
    there = registers(rip=KERNEL + 0x1203, rflags=0x202, rsp=STACKS + 5 * PAGE - 16)
    machine.stop(there, moved=False)
    diagnosis = diagnose(machine.evidence())
    assert (diagnosis.status, diagnosis.causes) == ("healthy", ())
    assert diagnosis.explanation.cpus[1].doing.startswith("idle: MWAIT")
