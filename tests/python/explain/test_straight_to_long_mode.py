# SPDX-License-Identifier: BSD-2-Clause
"""Kernels that go from real mode to long mode with one MOV to CR0, and 32-bit ones with PAE."""

from __future__ import annotations

import struct
from dataclasses import replace

import pytest

from debug.evidence import EventKind, ExceptionEvent, IpiEvent, IpiKind, Registers
from debug.report.diagnosis import diagnose
from tests.python.evidence_builder import (
    CODE32,
    GDT,
    KERNEL,
    KERNEL_PHYSICAL,
    LARGE,
    NULL_IDT,
    PAGE,
    PRESENT,
    STACKS,
    TRAMPOLINE,
    WRITE,
    Machine,
    registers,
    segment,
)

START = 0x9000
LONG = {"cr0": 0x80000011, "cr3": 0x10000, "cr4": 0x20, "efer": 0x500}
NO_LONG_CODE = (0, 0x00CF9B000000FFFF, 0x00CF93000000FFFF)
FLAT = segment(CODE32, flags=0xCF9B00 & 0xF0FF00)


def rows(machine: Machine) -> list[tuple[str, str]]:
    causes = diagnose(machine.evidence()).causes
    return [(cause.row.id, cause.certainty.value) for cause in causes]


def stops(code: str, regs: Registers) -> Machine:
    """The BSP halts behind the HLT that begins this code, with interrupts off."""
    machine = Machine()
    machine.ram.write(START - 1, bytes.fromhex(code))
    machine.bsp = replace(machine.bsp, registers=replace(regs, rip=START))
    return machine


@pytest.mark.parametrize("flags", (0xCF9B00, 0x0F9B00))
def test_a_gdt_without_any_64_bit_code_segment(flags: int) -> None:
    regs = registers("prot32", cs=segment(0x8, flags=flags & 0xF0FF00), **LONG)
    machine = stops("f4 eb fd", regs)
    assert "code-segment-l-missing" not in [row for row, _ in rows(machine)]
    machine.ram.write(GDT, struct.pack("<3Q", *NO_LONG_CODE) + bytes(8))
    assert rows(machine)[0] == ("code-segment-l-missing", "likely")


def test_no_far_jump_at_all() -> None:
    """CS is real mode's, and the CPU halts where 16-bit code leads it."""
    regs = registers("prot16", cs=segment(0, 0, 0xFFFF, 0x9B00), **LONG)
    assert rows(stops("f4 eb fd", regs))[0] == ("far-jump-missing", "likely")
    jumps = stops("f4 90 ea 00 91 08 00", regs)  # jmp 0x8:0x9100
    assert rows(jumps)[0][0] != "far-jump-missing"


def test_a_mov_to_cr0_that_qemu_ignores_is_no_forgotten_pe() -> None:
    regs = registers("real", cs=segment(0x8, 0x80, 0xFFFF, 0x9B00), efer=0x500)
    machine = stops("f4 eb fd", regs)
    machine.ram.write(START - 0x40, bytes.fromhex("0f 22 c0 ea 7f 8f 08 00"))
    found = [row for row, _ in rows(machine)]
    assert found[0] == "pae-missing" and "protection-not-enabled" not in found


def test_bochs_says_what_a_mov_to_cr0_lacks_in_real_mode_too() -> None:
    """The BIOS's handler takes it; RIP and CR0 look as if PE had been forgotten."""
    regs = registers("real", cs=segment(0xF000, 0xF0000, 0xFFFF, 0x9B00), efer=0x100)
    machine = stops("f4 eb fd", regs)
    machine.emulator = "bochs"
    words = "SetCR0: attempt to enter x86-64 long mode without enabling CR4.PAE !"
    event = ExceptionEvent(EventKind.EXCEPTION, 13, regs, None, None, 0, reason=words)
    machine.events.append(event)
    assert rows(machine)[0] == ("pae-missing", "certain")


def restarts(source: int, shorthand: str) -> list[str]:
    """The BSP dies in the firmware, after this INIT of a CPU."""
    machine = Machine()
    machine.ipis = [IpiEvent(IpiKind.INIT, source, None, shorthand=shorthand)]
    regs = registers("prot32", rip=0xEFAAD, cs=FLAT, idtr=NULL_IDT)
    return [row for row, _ in rows(machine.kill(regs, 3, cpu=0))]


def test_an_ap_that_runs_the_bsps_code_restarts_the_bsp() -> None:
    assert restarts(1, "all-but-self")[0] == "init-hits-sender"
    assert "init-hits-sender" not in restarts(0, "all-but-self")


def with_pae_tables(cr4: int, top: int = 0) -> Machine:
    """An AP of a 32-bit kernel dies where its PAE tables map it, and 32-bit paging does not."""
    machine = Machine()
    large = (number << 21 | LARGE | WRITE | PRESENT for number in range(512))
    machine.ram.write(0x1000, struct.pack("<4Q", 0x2000 | top | PRESENT, 0, 0, 0))
    machine.ram.write(0x2000, struct.pack("<512Q", *large))
    machine.ram.write(START, bytes.fromhex("8b 43 10 0f 22 d8 89 c4"))
    regs = registers("prot32", rip=START, cs=FLAT, cr0=0x80000011, cr3=0x1000, cr4=cr4)
    return machine.kill(regs, 14, 0, START)


def test_32_bit_paging_over_pae_tables() -> None:
    assert rows(with_pae_tables(0))[0] == ("pae-missing", "likely")
    fine = [row for row, _ in rows(with_pae_tables(0x20))]
    assert "pae-missing" not in fine and "lme-missing" not in fine


def test_a_32_bit_kernel_with_pae_wants_no_long_mode() -> None:
    """Its page directory, taken for a PDPT, would map the same with one page of 1 GiB."""
    found = [row for row, _ in rows(with_pae_tables(0x20, WRITE))]
    assert "lme-missing" not in found


def test_a_far_pointer_that_was_not_copied() -> None:
    """Its selector is 0, and so is the GDT's limit: the trampoline ends before its data."""
    machine = Machine()
    machine.ram.write(START, bytes.fromhex("66 ff 2e 00 91"))  # jmp dword far [0x9100]
    regs = registers("prot16", rip=START, cs=segment(0, 0, 0xFFFF, 0x9B00), gdtr=NULL_IDT)
    assert rows(machine.kill(regs, 13, 0))[0] == ("far-jump-null", "certain")


def calls_nothing(caller: int) -> Machine:
    """The AP's first fetch fails, and on its stack is the return address of a `call rax` there."""
    machine = Machine()
    machine.symbols.known = {}
    machine.ram.write(caller if caller < KERNEL else caller - KERNEL + KERNEL_PHYSICAL, b"\xff\xd0")
    top = STACKS + 2 * PAGE - 8
    machine.ram.write(0x300FF8, struct.pack("<Q", caller + 2))
    return machine.kill(registers(rip=0x4010142D, rsp=top, idtr=NULL_IDT), 14, 0x10, 0x4010142D)


def test_an_entry_that_the_trampoline_calls_and_nobody_maps() -> None:
    assert rows(calls_nothing(TRAMPOLINE + 0x80))[0] == ("entry-unmapped", "certain")
    assert rows(calls_nothing(KERNEL + 0x2000))[0][0] != "entry-unmapped"


def test_an_entry_of_32_bits() -> None:
    machine = Machine()
    machine.symbols.known = {}
    regs = registers(rip=0x80002000, rsp=STACKS + 2 * PAGE, idtr=NULL_IDT)
    assert rows(machine.kill(regs, 14, 0x10, 0x80002000))[0] == ("entry-truncated", "likely")
