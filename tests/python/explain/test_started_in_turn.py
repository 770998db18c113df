# SPDX-License-Identifier: BSD-2-Clause
"""Kernels that start one AP after the other, and stacks that two of their CPUs share."""

from __future__ import annotations

import struct
from dataclasses import replace

from debug.evidence import Cpu
from debug.report.diagnosis import Diagnosis, diagnose
from tests.python.evidence_builder import KERNEL, NULL_IDT, PAGE, Machine, registers

LOOP = KERNEL + 0x4000
TABLE = 0x42000  # the AP's PD for the higher half, where its stack comes to


def named(found: Diagnosis) -> list[tuple[str, str]]:
    return [(cause.row.id, cause.certainty.value) for cause in found.causes]


def held_up(up: bool, bsp_waits: bool = True) -> Diagnosis:
    """CPU 1 was started, CPU 2 was not; `up`: CPU 1 idles."""
    machine = Machine().sipi()
    machine.expected = 3
    machine.ram.write(0x104000, bytes.fromhex("f3 90 eb fc"))  # pause; jmp
    if bsp_waits:
        here = registers(rip=LOOP, rsp=KERNEL + 0x9000)
        machine.bsp = replace(machine.bsp, registers=here, halted=False)
    if not up:
        machine.stop(registers(rip=LOOP, rsp=KERNEL + 0x20000))
    evidence = machine.evidence()
    parked = registers("prot32", rip=0xFD09A)
    third = Cpu(2, parked, apic_id=2, halted=True, executed=True)
    return diagnose(replace(evidence, cpus=(*evidence.cpus, third)))


def test_a_cpu_whose_turn_did_not_come_was_not_forgotten() -> None:
    found = held_up(up=False)
    assert found.status == "missing-cpu"
    assert dict(named(found)).get("no-sipi") == "possible"
    assert dict(named(held_up(up=True, bsp_waits=False)))["no-sipi"] in ("likely", "certain")


def returned_to_0(shared: bool) -> Diagnosis:
    machine = Machine().sipi()
    machine.space.unmap(0)
    machine.ram.write(0x104000, bytes.fromhex("f3 90 eb fc"))
    machine.ram.write(0x109E00, struct.pack("<Q", 0x1234567) * 64)
    machine.stop(registers(rip=LOOP, rsp=KERNEL + (0x9800 if shared else 0x20000)))
    regs = registers(rip=0, rsp=KERNEL + 0x9F00, idtr=NULL_IDT)
    return diagnose(machine.kill(regs, 14, 0x10, 0, cpu=0).evidence())


def test_a_return_to_0_on_a_stack_that_another_cpu_uses() -> None:
    found = named(returned_to_0(shared=True))
    assert ("entry-null", "possible") in found and "stack-shared" in dict(found)
    assert named(returned_to_0(shared=False))[0] == ("entry-null", "certain")


def grown(words: bytes) -> Diagnosis:
    """An AP's stack, in the kernel's image, has come down to the AP's own page tables."""
    machine = Machine().sipi()
    machine.space.map(KERNEL + 0x80000, TABLE)
    space = machine.ap_space
    space.next = TABLE - PAGE  # the PDPT for the higher half, then its PD
    space.map(KERNEL, 0x100000, 16)
    assert space.entry_address(KERNEL, 1) & -PAGE == TABLE
    machine.ram.write(TABLE, words)
    regs = registers(rip=KERNEL + 0x1000, rsp=KERNEL + 0x80000, cr3=0x40000, idtr=NULL_IDT)
    return diagnose(machine.kill(regs, 14, 2, KERNEL + 0x7FFF8).evidence())


def test_a_stack_that_grew_into_the_page_tables() -> None:
    returns = struct.pack("<Q", KERNEL + 0x1234) * 512
    assert named(grown(returns))[0] == ("stack-into-tables", "likely")
    assert "stack-into-tables" not in dict(named(grown(bytes(PAGE))))


def pushes(code_mapped: bool) -> Diagnosis:
    """An AP's first push fails; its tables map the code that makes it, or nothing any more."""
    machine = Machine().sipi()
    machine.ram.write(0x101000, b"\x50")  # push rax
    if code_mapped:
        machine.ap_space.map(KERNEL, 0x100000, 8)
    regs = registers(rip=KERNEL + 0x1000, rsp=KERNEL + 0x30000, cr3=0x40000, idtr=NULL_IDT)
    return diagnose(machine.kill(regs, 14, 2, KERNEL + 0x2FFF8).evidence())


def test_tables_that_were_cleared_in_use_do_not_make_a_stack_wrong() -> None:
    assert ("stack-unmapped", "certain") in named(pushes(code_mapped=True))
    assert ("stack-unmapped", "certain") not in named(pushes(code_mapped=False))
