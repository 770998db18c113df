# SPDX-License-Identifier: BSD-2-Clause
"""What looks like the proof of one defect and has another explanation, each beside the real one."""

from __future__ import annotations

from dataclasses import replace

import pytest

from debug.evidence import EventKind, ExceptionEvent, IpiEvent, IpiKind
from debug.report.diagnosis import Diagnosis, diagnose
from tests.python.evidence_builder import (
    KERNEL,
    KERNEL_PHYSICAL,
    NULL_IDT,
    STACKS,
    Machine,
    registers,
)

FIRMWARE = IpiEvent(IpiKind.SIPI, 0, None, "all-but-self", vector=0x10, by_firmware=True)


def named(machine: Machine) -> tuple[str, dict[str, str]]:
    """(status, each row with its certainty, best first)."""
    found: Diagnosis = diagnose(machine.evidence())
    return found.status, {cause.row.id: cause.certainty.value for cause in found.causes}


def alone(code: str, halted: bool = False) -> Machine:
    """The BSP stands in this code, and the firmware parked the AP."""
    machine = Machine()
    machine.ram.write(KERNEL_PHYSICAL + 0x3000, bytes.fromhex(code))
    here = registers(rip=KERNEL + 0x3000, rsp=KERNEL + 0x9000)
    machine.bsp = replace(machine.bsp, registers=here, halted=halted, moved=False)
    machine.ipis.append(FIRMWARE)
    return machine.stop(registers("prot32", rip=0xFD09A), halted=True)


def test_a_kernel_that_starts_no_cpu_and_hangs_misses_no_sipi() -> None:
    """`-smp 2` is in many people's scripts, whatever their kernel does with it."""
    status, causes = named(alone("f3 90 eb fc"))
    assert status == "hang" and causes["no-sipi"] == "possible"
    assert "no-sipi" not in named(alone("eb fe", halted=True))[1]
    begun = alone("f3 90 eb fc")
    begun.ipis.append(IpiEvent(IpiKind.INIT, 0, 1))
    assert named(begun)[1]["no-sipi"] in ("likely", "certain")
    asked = alone("f3 90 eb fc")
    asked.expected = 2
    assert named(asked)[1]["no-sipi"] in ("likely", "certain")


PREPARED = (
    "[ OK ] double fault handler installed on IST 1",
    "kernel panic screen ready",
    "unhandled exception handlers: 32 registered",
    "Installing double fault handler",
    "Testing double fault... ",
    "Double fault stack: 0xffff800000012000",
)
REPORTED = (
    "DOUBLE FAULT at 0xffffffff80001234",
    "double fault",
    "Unhandled exception: page fault",
    "In double fault handler",
    "PANIC: paging not enabled",
    "panic: GDT already loaded",
    "Kernel panic - not syncing: no root file system was mapped",
)


@pytest.mark.parametrize("line", PREPARED)
def test_a_boot_that_prepares_for_a_panic_has_none(line: str) -> None:
    machine = Machine()
    machine.console = f"{line}\nready\n"
    assert named(machine) == ("healthy", {})


@pytest.mark.parametrize("line", REPORTED)
def test_a_panic_is_one_whatever_it_speaks_of(line: str) -> None:
    machine = Machine()
    machine.console = f"{PREPARED[0]}\n{line}\n"
    assert named(machine) == ("panic", {"kernel-panic": "certain"})


def test_words_about_a_guard_page_explain_no_jump() -> None:
    def died(console: str) -> dict[str, str]:
        machine = Machine()
        machine.console = console
        lost = registers(rip=KERNEL + 0x200000, rsp=STACKS + 0x4800, idtr=NULL_IDT)
        return named(machine.kill(lost, 14, 0x10, KERNEL + 0x200000))[1]

    assert "stack-overflow" not in died("stack ready, guard page at 0xffffffffc0000000\n")
    assert died("stack overflow\n")["stack-overflow"] == "possible"
