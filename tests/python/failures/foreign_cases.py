# SPDX-License-Identifier: BSD-2-Clause
"""Kernels without lamps, of other people: machines with one mistake, and their near misses."""

from __future__ import annotations

import struct
from dataclasses import replace

from debug.evidence import LocalApic, Pic, TableRegister
from tests.python.evidence_builder import (
    CODE32,
    CODE64,
    DATA,
    IDT,
    KERNEL,
    KERNEL_PHYSICAL,
    NULL_IDT,
    PAGE,
    STACKS,
    Machine,
    registers,
    segment,
)
from tests.python.explain.test_handlers_that_stop import halts_for_a_read, system_call
from tests.python.failures.row_cases import Case

FLAT = segment(CODE32, flags=0xCF9B00 & 0xF0FF00)
START = 0x7C00
MASKED, ENABLED = 0x2, 0x202


def jumps_near(*, far: bool) -> Machine:
    """The BSP sets PE and goes on to 32-bit code, in real mode's code segment or in another."""
    machine = Machine()
    code = bytes.fromhex("0f 22 c0 eb 0b") + bytes(11) + bytes.fromhex("66 b8 10 00 8e d8 0f 04")
    machine.ram.write(START, code)
    real = segment(0, 0, 0xFFFF, 0x9B00)
    mode = "prot32" if far else "prot16"
    regs = registers(mode, rip=START + 22, cs=FLAT if far else real, idtr=NULL_IDT)
    return machine.kill(regs, 6, cpu=0)


def returns_through(kind: int) -> Machine:
    """IRET of 32-bit code, after an interrupt that a gate of this type delivered."""
    machine = Machine()
    machine.ram.write(IDT, struct.pack("<Q", 0x8000 | CODE32 << 16 | kind << 40))
    machine.ram.write(START, b"\xcf")
    machine.ram.write(0x9000, struct.pack("<4I", 0x81234, 0x8, 0x202, 0))
    regs = registers("prot32", rip=START, cs=FLAT, rsp=0x9000, idtr=TableRegister(IDT, 7))
    return machine.kill(regs, 13, 0x8, cpu=0)


def halts_above(*words: int, rflags: int = MASKED) -> Machine:
    """The BSP halts, with these words on top of its stack."""
    machine = Machine()
    machine.ram.write(KERNEL_PHYSICAL + 0x8000, struct.pack(f"<{len(words)}Q", *words))
    regs = registers(rip=KERNEL + 2, rflags=rflags, rsp=KERNEL + 0x8000)
    machine.bsp = replace(machine.bsp, registers=regs)
    return machine


def frame_without_rip() -> Machine:
    return halts_above(CODE64, ENABLED, KERNEL + 0x8020, DATA, 0)


def whole_frame() -> Machine:
    """A handler that halts: its frame is complete."""
    return halts_above(KERNEL + 1, CODE64, ENABLED, KERNEL + 0x8028, DATA)


def maps_low(flags: int) -> Machine:
    """Paging was just turned on, with tables whose directory has 2 MiB from one entry to the next."""
    machine = Machine()
    root, pdpt, directory = 0x700000, 0x701000, 0x702000
    machine.ram.write(root, struct.pack("<Q", pdpt | 3))
    machine.ram.write(pdpt, struct.pack("<Q", directory | 3))
    for index in range(512):
        machine.ram.write(directory + index * 8, struct.pack("<Q", index << 21 | flags))
    machine.ram.write(0x300000, b"\x0f\x22\xc0\xea")
    cs = segment(CODE32, flags=0xC09B00)
    regs = registers(rip=0x300003, cs=cs, cr3=root, idtr=NULL_IDT, efer=0x500)
    return machine.kill(regs, 14, 0, 0x300003, cpu=0)


def leads_to_a_table() -> Machine:
    """The same directory, whose one entry leads to a page table that is empty."""
    machine = maps_low(2)
    machine.ram.write(0x702008, struct.pack("<Q", 0x703003))
    return machine


def waits(rflags: int) -> Machine:
    """The BSP alone, in a loop that reads memory; the AP was never started."""
    machine = Machine()
    machine.ram.write(KERNEL_PHYSICAL + 0x3000, bytes.fromhex("8b 05 fa 0f 00 00 85 c0 74 f6"))
    here = registers(rip=KERNEL + 0x3000, rflags=rflags, rsp=KERNEL + 0x9000)
    machine.bsp = replace(machine.bsp, registers=here, halted=False, moved=False)
    parked = registers("prot32", rip=0xFD09A)
    return machine.stop(parked, halted=True)


def sleeps(code: str, imr: int = 0xFF, timer: int = 0x10000, started: int = 0) -> Machine:
    """The BSP alone, with interrupts on, waits in HLT or in a loop that reads memory."""
    machine = waits(ENABLED)
    machine.ram.write(KERNEL_PHYSICAL + 0x3000, bytes.fromhex(code))
    apic = LocalApic(
        apic_id=0, svr=0x1FF, lvt={"lint0": 0x700, "timer": timer}, timer_initial=started
    )
    regs = replace(machine.bsp.registers, rip=KERNEL + 0x3001)
    halted = code.startswith("f4")
    machine.bsp = replace(machine.bsp, registers=regs, halted=halted, apic=apic)
    if not halted:
        regs = replace(regs, rip=KERNEL + 0x3000)
        machine.bsp = replace(machine.bsp, registers=regs)
    machine.pics = (Pic(0x20, imr, 0, 1), Pic(0x28, 0xFF, 0, 0))
    machine.io_apics = ((1 << 16,) * 24,)
    return machine


SPIN_ON_FLAG = "8b 05 fa 0f 00 00 85 c0 74 f6"  # mov eax, [flag]; test eax, eax; jz
HALT_ON_FLAG = "f4 8b 05 f9 0f 00 00 85 c0 74 f5"  # the same behind a hlt
IDLE = "f4 eb fd"  # hlt; jmp


def points_to(cr3: int) -> Machine:
    """Paging was just turned on with this CR3; tables that map the code are at 0x10000."""
    machine = Machine()
    machine.ram.write(0x8100, b"\x0f\x22\xc0\xea")
    cs = segment(CODE32, flags=0xC09B00)
    regs = registers(rip=0x8103, cs=cs, cr3=cr3, idtr=NULL_IDT, efer=0x500)
    return machine.kill(regs, 14, 0, 0x8103, cpu=0)


def jumps_high(slot: int, entry: int = 0x83) -> Machine:
    """32-bit paging: 4 MiB at this entry of the directory, and the code is at 3 GiB, entry 768."""
    machine = Machine()
    root = 0x700000
    machine.ram.write(root, struct.pack("<I", 0x83))
    machine.ram.write(root + slot * 4, struct.pack("<I", entry))
    paging = {"cr0": 0x80000011, "cr3": root, "cr4": 0x10}
    regs = registers("prot32", rip=0xC0101234, cs=FLAT, idtr=NULL_IDT, rsp=0x9000, **paging)
    return machine.kill(regs, 14, 0, 0xC0101234, cpu=0)


def irets(code: str) -> Machine:
    """The BSP returns from a handler, by IRETD or by IRETQ that is refused for another reason."""
    machine = Machine()
    machine.ram.write(KERNEL_PHYSICAL + 0x3000, bytes.fromhex(code))
    frame = (KERNEL + 1, CODE64, ENABLED, KERNEL + 0x8028, DATA)
    machine.ram.write(KERNEL_PHYSICAL + 0x8000, struct.pack("<5Q", *frame))
    regs = registers(rip=KERNEL + 0x3000, rsp=KERNEL + 0x8000, idtr=NULL_IDT)
    return machine.kill(regs, 13, 0, cpu=0)


def calls(number: int) -> Machine:
    """INT n in protected mode, with the IDT register as the BIOS left it."""
    machine = Machine()
    machine.ram.write(START, bytes((0xCD, number)))
    regs = registers("prot32", rip=START, cs=FLAT, idtr=TableRegister(0, 0x3FF), rsp=0x9000)
    return machine.kill(regs, 13, number * 8 + 2, cpu=0)


def with_gdt(*words: int) -> Machine:
    """MOV SS is refused, and this is in the GDT."""
    machine = Machine()
    table = 0x120000
    machine.space.map(table, table)
    machine.ram.write(table, struct.pack(f"<{len(words)}I", *words))
    machine.space.map(0x110000, 0x110000)
    machine.ram.write(0x110000, b"\x8e\xd0")
    gdtr = TableRegister(table, len(words) * 4 - 1)
    regs = registers("prot32", rip=0x110000, cs=FLAT, idtr=NULL_IDT, rsp=table, rax=0x10)
    return machine.kill(replace(regs, gdtr=gdtr), 13, 0x10, cpu=0)


def recurses(*, room: bool) -> Machine:
    """40 frames of 16 bytes, of calls at one place; below them a guard page, or room for more."""
    machine = Machine()
    stack = STACKS + PAGE
    machine.ram.write(KERNEL_PHYSICAL + 0x2100, bytes.fromhex("e8 fb ff ff ff"))  # call itself
    rsp = stack + (PAGE if room else 0)
    physical = 0x300000 + rsp - stack
    machine.ram.write(physical, struct.pack("<2Q", 7, KERNEL + 0x2105) * 40)
    cr2 = rsp - 8
    if room:
        machine.space.map(rsp - PAGE, 0x300000)
        cr2 = 0x7000000000
    return machine.kill(registers(rip=KERNEL + 0x2100, rsp=rsp), 14, 2, cr2)


CASES = (
    Case(
        "recursion-without-end",
        "likely",
        lambda: recurses(room=False),
        lambda: recurses(room=True),
    ),
    Case(
        "stack-into-tables",
        "likely",
        lambda: with_gdt(0x110123, 0x202, 0x10, 0x110456, 8, 0x110789),
        lambda: with_gdt(0, 0, 0xFFFF, 0x00CF9A00, 0xFFFF, 0),
    ),
    Case("iret-without-rex", "certain", lambda: irets("cf"), lambda: irets("48 cf")),
    Case("bios-call-in-protected-mode", "certain", lambda: calls(0x10), lambda: calls(0x80)),
    Case("far-jump-missing", "likely", lambda: jumps_near(far=False), lambda: jumps_near(far=True)),
    Case("gate-kind-wrong", "likely", lambda: returns_through(0x86), lambda: returns_through(0x8E)),
    Case("handler-left-by-ret", "certain", frame_without_rip, whole_frame),
    Case("large-page-bit-missing", "certain", lambda: maps_low(3), leads_to_a_table),
    Case("waits-with-interrupts-off", "likely", lambda: waits(MASKED), lambda: waits(ENABLED)),
    Case(
        "interrupt-cannot-come",
        "likely",
        lambda: sleeps(HALT_ON_FLAG),
        lambda: sleeps(HALT_ON_FLAG, imr=0xFE),
    ),
    Case(
        "interrupt-cannot-come",
        "likely",
        lambda: sleeps(SPIN_ON_FLAG, timer=0x20),
        lambda: sleeps(SPIN_ON_FLAG, timer=0x20020, started=1000),
    ),
    Case("interrupt-cannot-come", "likely", lambda: sleeps(HALT_ON_FLAG), lambda: sleeps(IDLE)),
    Case("table-slot-wrong", "likely", lambda: jumps_high(767), lambda: jumps_high(765)),
    Case(
        "present-bit-missing",
        "likely",
        lambda: jumps_high(768, 0x82),
        lambda: jumps_high(768, 0),
    ),
    Case(
        "higher-half-unmapped",
        "certain",
        lambda: jumps_high(768, 0),
        lambda: jumps_high(768, 0x82),
    ),
    Case(
        "handler-gave-up",
        "certain",
        lambda: halts_for_a_read(frame=True),
        lambda: halts_for_a_read(frame=False),
    ),
    Case("gate-privilege", "certain", lambda: system_call(0), lambda: system_call(3)),
    Case("cr3-frame-number", "certain", lambda: points_to(0x10), lambda: points_to(0x11)),
)
