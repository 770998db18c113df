# SPDX-License-Identifier: BSD-2-Clause
"""Bochs logs a page fault with the address behind its instruction, where that accesses data."""

from __future__ import annotations

from dataclasses import replace

from debug.evidence import EventKind, ExceptionEvent, Registers
from debug.report.diagnosis import diagnose
from tests.python.evidence_builder import KERNEL, KERNEL_PHYSICAL, PAGE, Machine, registers

CODE = "65 48 8b 04 25 00 00 00 00 48 8b 50 08"  # mov rax, gs:[0]; mov rdx, [rax + 8]
BEHIND = KERNEL + 0x3009


def first_step(named: bool, cr2: int = 0, rip: int = BEHIND) -> tuple[int, str]:
    """RIP and text of the instruction that the first exception of an AP is explained by."""
    machine = Machine().boot_trace().sipi().trace(1, 0x10, 0xA0)
    machine.emulator = "bochs"
    machine.ram.write(KERNEL_PHYSICAL + 0x3000, bytes.fromhex(CODE))
    if named:
        machine.symbols.known["ap_entry"] = (KERNEL + 0x3000, PAGE)
    fault = Registers(rip=rip)
    machine.events = [
        ExceptionEvent(EventKind.EXCEPTION, 14, fault, 0, cr2, 1, while_delivering=-1, tick=tick)
        for tick in (5, 9)
    ]
    machine.expected = 2
    now = registers(rip=KERNEL + 0x2000, rsp=KERNEL + 0x9000, gs_base=0)
    machine.stop(now, moved=True)
    machine.bsp = replace(machine.bsp, registers=registers(rip=KERNEL + 2, rflags=0x202))
    step = diagnose(machine.evidence()).explanation.chain[0]
    return step.rip or 0, step.instruction


def test_the_instruction_before_is_counted_from_the_start_of_its_function() -> None:
    assert first_step(named=True) == (KERNEL + 0x3000, "mov rax, qword ptr gs:[0]")


def test_without_a_symbol_no_instruction_is_accused() -> None:
    assert first_step(named=False) == (BEHIND, "")


def test_a_fetch_names_its_own_address() -> None:
    assert first_step(named=True, cr2=BEHIND)[0] == BEHIND
