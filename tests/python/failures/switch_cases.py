# SPDX-License-Identifier: BSD-2-Clause
"""The way to 64-bit code: the trampoline's page, the switches, the tables that are loaded there."""

from __future__ import annotations

import struct
from dataclasses import replace

from debug.evidence import Ending, EventKind, ExceptionEvent, TableRegister
from tests.python.evidence_builder import (
    GDT,
    KERNEL,
    NULL_IDT,
    PAGE,
    STACKS,
    TRAMPOLINE,
    Machine,
    registers,
    segment,
)
from tests.python.failures.row_cases import CODE, MOV_RAX_RBX, UNTIL_C, UNTIL_PG, Case, after_pg, at

TOP = STACKS + 5 * PAGE
IN_PROTECTED = (0x10, 0x11, 0x12, 0x13, 0x30)
MOV_CR0 = b"\x0f\x22\xc0\x90"


# The boot loader and the trampoline's page.


def without_image(mode: str, *, started: bool = False, ending: Ending = Ending.STOPPED) -> Machine:
    """The image's address holds other bytes, and CPU 0 runs something in `mode`."""
    machine = Machine()
    machine.ending = ending
    machine.absent_images = ("kernel.elf",)
    machine.ram.write(0x200000, b"\x90" * 64)
    there = registers(mode, rip=0x200010, rsp=0x7000)
    machine.bsp = replace(machine.bsp, registers=there, halted=False, moved=True)
    machine.stop(
        registers("real", rip=0xFFF0, cs=segment(0xF000, 0xFFFF0000, 0xFFFF, 0x9B00)),
        halted=True,
        waiting_for_sipi=True,
        moved=None,
    )
    return machine.sipi() if started else machine


def copied(offset: int, data: bytes) -> Machine:
    """An AP that died in a trampoline into which `data` was written after the copy."""
    image = bytes.fromhex("fafceb38") + bytes(range(1, 251)) + bytes(64)
    machine = at(b"\x90", *IN_PROTECTED).trace(0, (0xC6, 1))
    machine.ram.write(0x108000, image)
    machine.ram.write(TRAMPOLINE, image)
    machine.ram.write(TRAMPOLINE + offset, data)
    machine.symbols.known["trampoline_image"] = (KERNEL + 0x8000, len(image))
    machine.symbols.known["trampoline_image_end"] = (KERNEL + 0x8000 + len(image), 1)
    here = registers("prot32", rip=TRAMPOLINE + offset, idtr=NULL_IDT)
    return machine.kill(here, 6)


def truncated(**values: object) -> Machine:
    """The AP has come to zeros in the page whose first code it ran."""
    machine = at(bytes(0x100), *IN_PROTECTED, place=TRAMPOLINE + 0x200)
    return machine.stop(registers("prot32", rip=CODE, idtr=NULL_IDT, **values), moved=True)


def loads_from_page(data: bytes, behind: bytes = b"") -> Machine:
    """`lgdt [0x90]` of the AP's page loaded what is there, and the far jump was refused.

    From 0xc0 on there is no more than `behind`.
    """
    machine = at(bytes.fromhex("66 ea 80 80 00 00 08 00"), *IN_PROTECTED, place=TRAMPOLINE + 0x40)
    machine.ram.write(TRAMPOLINE, bytes.fromhex("0f 01 16 90 00"))
    machine.ram.write(TRAMPOLINE + 0x80, bytes(PAGE - 0x80))
    machine.ram.write(TRAMPOLINE + 0x90, data)
    machine.ram.write(TRAMPOLINE + 0xC0, behind)
    gdtr = TableRegister(int.from_bytes(data[2:], "little"), int.from_bytes(data[:2], "little"))
    regs = registers("prot16", rip=0x40, gdtr=gdtr, idtr=NULL_IDT)
    return machine.kill(regs, 13, 8)


# Real mode and the switches.


def again_in_real_mode(kind: EventKind, step: int = 0) -> Machine:
    """Vector 13 came 40 times to an AP in real mode, each time `step` bytes further on."""
    machine = at(b"\x67\x66\x8b\x03\x90", 0x10, 0x11, place=TRAMPOLINE + 0x40)
    code = segment(TRAMPOLINE >> 4, TRAMPOLINE, 0xFFFF, 0x9B00)
    here = registers("real", rip=0x40, cs=code, rflags=0x202, idtr=TableRegister(0, 0x3FF))
    machine.events += [
        ExceptionEvent(kind, 13, replace(here, rip=0x40 + number * step), None, None, 1)
        for number in range(40)
    ]
    return machine.stop(here)


def mov_cr0(mode: str, value: int, **values: object) -> Machine:
    """`mov cr0, eax` with this value, refused."""
    machine = at(MOV_CR0, *UNTIL_PG)
    fields = {"rip": CODE, "rax": value, "idtr": NULL_IDT, "cr3": 0x10000, **values}
    return machine.kill(registers(mode, **fields), 13, 0)


def from_real_mode(value: int) -> Machine:
    """`mov cr0, eax` in the trampoline's 16-bit code, refused."""
    machine = at(MOV_CR0, 0x10, 0x11, 0x12, place=TRAMPOLINE + 0x40)
    return machine.kill(registers("real", rip=0x40, rax=value, idtr=NULL_IDT), 13)


LONG_SEGMENT = segment(0x08, flags=0xE09B00)  # with D: 32-bit code, as long as LMA is 0
TO_LONG = {"cr4": 0x20, "efer": 0x100}


def in_compatibility_mode(code: bytes, cpl: int = 0) -> Machine:
    """This code, in a 32-bit segment with EFER.LMA=1, reads where nothing is mapped."""
    machine = at(b"\x90", *UNTIL_PG, 0x34, place=TRAMPOLINE + 0x3F0)
    machine.ram.write(TRAMPOLINE + 0x200, b"\x90" * 0x100)  # none of the page's other bytes
    machine.ram.write(CODE, code)
    machine.symbols.known = {}
    cs = segment(0x18 | cpl, flags=0xC09B00 | cpl << 13)
    regs = registers(rip=CODE, cs=cs, cpl=cpl, rcx=4, rbx=0x7000_0000, rsp=0x7000, idtr=NULL_IDT)
    return machine.kill(regs, 14, 4 if cpl else 0, 0x7000_0000)


# Tables and addresses that 64-bit code relies on.


def reads_parameter(code: bytes) -> Machine:
    """The trampoline's 64-bit code reads at 0x340, an offset of its page."""
    machine = at(code, *UNTIL_PG, 0x34, 0x60)
    machine.space.unmap(0)
    return machine.kill(registers(rip=CODE, rbx=0, rsp=0x7000, idtr=NULL_IDT), 14, 0, 0x340)


def loads_gdt(base: int, operand: int = 0x5000) -> Machine:
    """`lgdt [rbx]` of an operand with this base, refused."""
    machine = at(b"\x0f\x01\x13", *UNTIL_C, 0xA0)
    machine.ram.write(0x5000, struct.pack("<HQ", 0x1F, base))
    return machine.kill(registers(rip=CODE, rbx=operand, rsp=TOP - 16, idtr=NULL_IDT), 13, 0)


def uses_gdt(base: int) -> Machine:
    """QEMU loads any base; the first segment load then finds no table there."""
    machine = at(b"\x8e\xd8", *UNTIL_C, 0xA0)
    gdtr = TableRegister(base, 0x1F)
    regs = registers(rip=CODE, rax=0x10, rsp=TOP - 16, gdtr=gdtr, idtr=NULL_IDT)
    return machine.kill(regs, 14, 0, base + 0x10 & (1 << 64) - 1)


def pushes(top: int) -> Machine:
    """An AP with the tables of the boot, whose first push faults."""
    machine = at(b"\x50", *UNTIL_PG, 0x34, 0x60, 0x61, 0x62)
    machine.symbols.known["boot_pml4"] = (0x40000, PAGE)
    return machine.kill(registers(rip=CODE, cr3=0x40000, rsp=top, idtr=NULL_IDT), 14, 2, top - 8)


CASES = (
    # A kernel that is elsewhere runs; one that starts APs is somewhere.
    Case(
        "kernel-not-loaded",
        "likely",
        lambda: without_image("prot32"),
        lambda: without_image("long"),
    ),
    Case(
        "kernel-not-loaded",
        "likely",
        lambda: without_image("prot32"),
        lambda: without_image("prot32", started=True),
    ),
    # What restarts the machine is no loader that waits: the file is another kernel's.
    Case(
        "kernel-not-loaded",
        "likely",
        lambda: without_image("prot32"),
        lambda: without_image("prot32", ending=Ending.RESTARTED),
    ),
    # Addresses that are relocated, and fields that are empty in the image.
    Case(
        "trampoline-altered",
        "certain",
        lambda: copied(0x40, b"\xa5" * 16),
        lambda: copied(0x40, struct.pack("<Q", KERNEL + 0x1000)),
    ),
    Case(
        "trampoline-altered",
        "certain",
        lambda: copied(0x40, b"\xa5" * 16),
        lambda: copied(0x100, b"\xa5" * 16),
    ),
    # Code that was decoded in the wrong mode runs into zeros as well.
    Case(
        "trampoline-incomplete",
        "certain",
        truncated,
        lambda: truncated(cs=segment(0x18, flags=0x809B00)),
    ),
    # An operand that is there, and leads to where no GDT is.
    Case(
        "trampoline-incomplete",
        "likely",
        lambda: loads_from_page(bytes(6)),
        lambda: loads_from_page(struct.pack("<HI", 0x1F, 0x200000)),
    ),
    # The image goes on behind the zeros: it is whole, and the operand's address is wrong.
    Case(
        "trampoline-incomplete",
        "likely",
        lambda: loads_from_page(bytes(6), bytes(range(1, 49))),
        lambda: loads_from_page(bytes(6), bytes(range(1, 251))),
    ),
    Case(
        "trampoline-incomplete",
        "likely",
        lambda: loads_from_page(struct.pack("<HI", 0x1F, TRAMPOLINE + 0xA0)),
        lambda: loads_from_page(struct.pack("<HI", 0x1F, 0x200000)),
    ),
    # Vector 13 of a PIC that was not remapped is IRQ 5; a BIOS takes faults at many places.
    Case(
        "real-mode-fault-loop",
        "likely",
        lambda: again_in_real_mode(EventKind.EXCEPTION),
        lambda: again_in_real_mode(EventKind.HARDWARE_INTERRUPT),
    ),
    Case(
        "real-mode-fault-loop",
        "likely",
        lambda: again_in_real_mode(EventKind.EXCEPTION),
        lambda: again_in_real_mode(EventKind.EXCEPTION, step=2),
    ),
    # NW without CD is refused whatever PG and PE are.
    Case(
        "paging-without-protection",
        "certain",
        lambda: from_real_mode(0xE0000010),
        lambda: from_real_mode(0xA0000011),
    ),
    # In 64-bit mode CS.L is 1, and a MOV to CR0 is refused for other reasons.
    Case(
        "cs-long-at-paging",
        "certain",
        lambda: mov_cr0("prot32", 0x80010011, cs=LONG_SEGMENT, **TO_LONG),
        lambda: mov_cr0("long", 0xA0010013),
    ),
    # 0x40 to 0x4f are INC and DEC in 32-bit code, which is what belongs there before the far jump.
    Case(
        "compatibility-mode-left-on",
        "likely",
        lambda: in_compatibility_mode(b"\x48\x8b\x03\x48\x89\xc7\x48\x85\xc0"),
        lambda: in_compatibility_mode(b"\x8b\x03\x49\x75\xfb\x90"),
    ),
    Case(
        "compatibility-mode-left-on",
        "likely",
        lambda: in_compatibility_mode(b"\x48\x8b\x03\x48\x89\xc7\x48\x85\xc0"),
        lambda: in_compatibility_mode(b"\x8b\x03\x49\x8b\x03\x49\x8b\x03\x49\x8b\x03", cpl=3),
    ),
    # The page is in a register, which is what is wrong.
    Case(
        "link-address-used",
        "likely",
        lambda: reads_parameter(b"\x48\x8b\x04\x25\x40\x03\x00\x00"),
        lambda: reads_parameter(b"\x48\x8b\x83\x40\x03\x00\x00"),
    ),
    # The operand's own address is garbage; or the base is one, only that nothing is mapped there.
    Case(
        "pseudo-descriptor-bad",
        "certain",
        lambda: loads_gdt(0x6A5E_0000_0010_6000),
        lambda: loads_gdt(GDT, operand=0x6A5E_0000_0000_5000),
    ),
    Case(
        "pseudo-descriptor-bad",
        "certain",
        lambda: uses_gdt(0x6A5E_0000_0010_6000),
        lambda: uses_gdt(0x7000_0000),
    ),
    # What the kernel's own tables do not map either was not lost with them.
    Case(
        "cr3-of-boot-tables",
        "certain",
        lambda: pushes(TOP),
        lambda: pushes(STACKS + 0x9000),
    ),
)
