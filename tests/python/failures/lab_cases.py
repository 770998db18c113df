# SPDX-License-Identifier: BSD-2-Clause
"""Rows that labs provoke, on machines built here: each with a near miss, which no lab can be."""

from __future__ import annotations

import struct
from dataclasses import replace
from typing import Callable

from debug.evidence import TableRegister
from tests.python.evidence_builder import (
    GDT,
    IDT,
    KERNEL,
    NULL_IDT,
    PAGE,
    STACKS,
    Machine,
    registers,
    segment,
)
from tests.python.failures.row_cases import (
    CODE,
    MOV_RAX_RBX,
    OTHER_PANIC,
    UNTIL_C,
    UNTIL_PG,
    Case,
    at,
    ended,
    refused,
    says,
)

TOP = STACKS + 5 * PAGE
CODE_L_D = 0x00EF9B000000FFFF


def load(selector: int, descriptor: int, vector: int = 13, register: int = 0xD8) -> Machine:
    """`mov sreg, ax` in 64-bit code, refused; DS, or SS with 0xd0."""
    machine = at(bytes((0x8E, register)), *UNTIL_PG, 0x34, 0x60)
    machine.ram.write(GDT + 0x18, struct.pack("<Q", descriptor))
    regs = registers(rip=CODE, rax=selector, rsp=TOP - 16, idtr=NULL_IDT)
    return machine.kill(regs, vector, selector & ~3)


def far_jump_to_64(descriptor: int) -> Machine:
    """`jmp selector:offset` in compatibility mode, refused."""
    machine = at(b"\xea" + struct.pack("<IH", 0x8300, 0x18), *UNTIL_PG, 0x34)
    machine.ram.write(GDT + 0x18, struct.pack("<Q", descriptor))
    cs = segment(0x20, flags=0xC09B00)
    vector = 13 if descriptor >> 47 & 1 else 11
    return machine.kill(registers(rip=CODE, cs=cs, rsp=0x7000, idtr=NULL_IDT), vector, 0x18)


def load_ss_in_32(selector: int) -> Machine:
    """`mov ss, ax` in 32-bit code."""
    machine = at(b"\x8e\xd0", 0x10, 0x11, 0x12, 0x13, 0x30)
    regs = registers("prot32", rip=CODE, rax=selector, rsp=0x7000, idtr=NULL_IDT)
    return machine.kill(regs, 13, selector & ~3)


READ_ONLY, ABSENT, WRITABLE = 0x00CF9F000000FFFF, 0x00CF13000000FFFF, 0x00CF93000000FFFF
EXECUTE_ONLY = 0x00CF99000000FFFF


def to_cr4(value: int) -> Machine:
    machine = at(b"\x0f\x22\xe0", *UNTIL_C, 0xA0)
    return machine.kill(registers(rip=CODE, rax=value, rsp=TOP - 16, idtr=NULL_IDT), 13, 0)


def to_efer(value: int) -> Machine:
    machine = at(b"\x0f\x30", *UNTIL_C, 0xA0)
    regs = registers(rip=CODE, rcx=0xC0000080, rax=value, rsp=TOP - 16, idtr=NULL_IDT)
    return machine.kill(regs, 13, 0)


def to_xcr0(value: int) -> Machine:
    machine = at(b"\x0f\x01\xd1", *UNTIL_C, 0xA0)
    regs = registers(rip=CODE, rax=value, rcx=0, rdx=0, cr4=0x40620, rsp=TOP - 16, idtr=NULL_IDT)
    return machine.kill(regs, 13, 0)


def reads(address: int, vector: int, *stages: int) -> Machine:
    """`mov rax, [rbx]` at an address that is refused, in C code."""
    machine = at(b"\x90", *stages)
    machine.ram.write(0x101000, MOV_RAX_RBX)
    regs = registers(rip=KERNEL + 0x1000, rbx=address, rsp=TOP - 16, idtr=NULL_IDT)
    return machine.kill(regs, vector, 0, address if vector == 14 else None)


def large(entry: int) -> Machine:
    """A read through a page directory's entry that maps 2 MiB."""
    machine = at(MOV_RAX_RBX, *UNTIL_C, 0xA0)
    machine.space.set(0x4000_0000, entry, level=1)
    regs = registers(rip=CODE, rbx=0x4000_0000, rsp=TOP - 16, idtr=NULL_IDT)
    return machine.kill(regs, 14, 9, 0x4000_0000)


def with_task(limit: int, ist: int) -> Machine:
    """#BP through a gate that names IST 1, in a TSS with this limit and stack."""
    machine = at(b"\xcc\x90", *UNTIL_C, 0xA0)
    low, high = struct.unpack("<QQ", machine.ram.read(IDT + 3 * 16, 16) or bytes(16))
    machine.ram.write(IDT + 3 * 16, struct.pack("<QQ", low | 1 << 32, high))
    machine.ram.write(0x5000, bytes(0x68))
    machine.ram.write(0x5000 + 36, struct.pack("<Q", ist))
    task = segment(0x20, 0x5000, limit, 0x8B00)
    return machine.kill(registers(rip=CODE + 1, rsp=TOP - 16, tr=task), 3)


def all_spin(places: tuple[int, int], name: str = "meet") -> Machine:
    """Both CPUs in a loop with PAUSE, at these offsets of one function or of two."""
    machine = Machine()
    for place in places:
        machine.ram.write(0x101000 + place, b"\xf3\x90\xeb\xfc")
    machine.symbols.known = {name: (KERNEL + 0x1000, 0x80), "other": (KERNEL + 0x1080, 0x80)}
    there = registers(rip=KERNEL + 0x1000 + places[0], rflags=2, rsp=KERNEL + 0x9000)
    machine.bsp = replace(machine.bsp, registers=there, halted=False)
    return machine.stop(registers(rip=KERNEL + 0x1000 + places[1], rflags=2, rsp=TOP - 16))


def halts(flags: int) -> Machine:
    """An AP that the BSP misses stands at HLT in C."""
    machine = at(b"\xf4", *UNTIL_C, 0xA0).trace(0, (0xC6, 1))
    machine.ram.write(0x101000, b"\xf4\xeb\xfd")
    regs = registers(rip=KERNEL + 0x1001, rflags=flags, rsp=TOP - 16)
    return machine.stop(regs, halted=True)


def idles(idtr: TableRegister) -> Machine:
    machine = Machine().boot_trace().trace(1, *UNTIL_C, 0xA0, 0xA4)
    there = registers(rip=KERNEL + 2, rflags=0x202, rsp=TOP - 16, idtr=idtr)
    return machine.stop(there, halted=True)


def nested(*codes: tuple[int, int] | int) -> Callable[[], Machine]:
    """The kernel's stages on its way out."""

    def machine() -> Machine:
        made = says("panic: no root file system")()
        return made.trace(0, 0xB0, 0xB8, *codes)

    return machine


CASES = (
    Case(
        "code-segment-l-and-d",
        "certain",
        lambda: far_jump_to_64(CODE_L_D),
        lambda: far_jump_to_64(ABSENT | 0x08 << 40),
    ),
    Case(
        "data-segment-type", "certain", lambda: load(0x18, EXECUTE_ONLY), lambda: load(0x18, ABSENT)
    ),
    Case(
        "data-segment-not-present",
        "certain",
        lambda: load(0x18, ABSENT, 11),
        lambda: load(0x18, EXECUTE_ONLY),
    ),
    Case(
        "data-segment-beyond-gdt",
        "certain",
        lambda: load(0x48, WRITABLE),
        lambda: load(0x18, EXECUTE_ONLY),
    ),
    Case(
        "data-segment-privilege",
        "certain",
        lambda: load(0x13, WRITABLE, register=0xD0),
        lambda: load(0x18, EXECUTE_ONLY),
    ),
    Case("stack-segment-null", "certain", lambda: load_ss_in_32(0), lambda: load_ss_in_32(0x48)),
    Case("cr4-unsupported", "likely", lambda: to_cr4(0x620 | 1 << 21), lambda: to_cr4(0x620)),
    Case("long-mode-left", "certain", lambda: to_cr4(0x600), lambda: to_cr4(0x620)),
    Case("lme-changed-under-paging", "certain", lambda: to_efer(0xC00), lambda: to_efer(0xD00)),
    Case("xcr0-invalid", "certain", lambda: to_xcr0(5), lambda: to_efer(0xC00)),
    Case(
        "sign-extension-lost",
        "certain",
        lambda: reads(0x0000_8000_0010_6000, 13, *UNTIL_C, 0xA0),
        lambda: reads(0x0100_8000_0010_6000, 13, *UNTIL_C, 0xA0),
    ),
    Case("large-page-misaligned", "certain", lambda: large(0x1F0083), lambda: large(0x200083)),
    Case(
        "tss-limit-too-small",
        "certain",
        lambda: with_task(0x20, TOP),
        lambda: with_task(0x67, 0x7000_0000),
    ),
    Case("ist-empty", "certain", lambda: with_task(0x67, 0), lambda: with_task(0x67, 0x7000_0000)),
    Case("mov-to-cs", "certain", lambda: refused(b"\x8e\xc8"), lambda: refused(b"\x0f\x0b")),
    Case(
        "feature-not-enabled",
        "certain",
        lambda: refused(b"\xf3\x48\x0f\xae\xd8"),  # wrgsbase rax
        lambda: refused(b"\xf3\x48\x0f\xae\xd8", cr4=0x10620),
    ),
    Case(
        "instruction-unsupported",
        "likely",
        lambda: refused(b"\x0f\xc7\xf0"),  # rdrand eax
        lambda: refused(b"\x90\x90"),
    ),
    Case(
        "barrier-never-opens",
        "likely",
        lambda: all_spin((0, 0x10)),
        lambda: all_spin((0, 0x90)),
    ),
    Case(
        "delay-never-ends",
        "likely",
        lambda: all_spin((0, 0x90), "udelay"),
        lambda: all_spin((0, 0x90)),
    ),
    Case("ap-halted-early", "certain", lambda: halts(2), lambda: halts(0x202)),
    Case(
        "ap-without-idt",
        "certain",
        lambda: idles(NULL_IDT),
        lambda: idles(TableRegister(IDT, 0xFFF)),
    ),
    Case("panic-in-panic", "certain", nested(0xE1, 0xE3), OTHER_PANIC),
    Case("double-fault-reported", "likely", nested((0xE0, 8), 0xE1), nested((0xE0, 13), 0xE1)),
    Case("interrupt-not-expected", "likely", nested((0xE0, 0x2F), 0xE1), nested((0xE0, 13), 0xE1)),
    Case("ipi-not-answered", "certain", nested((0xE5, 1), 0xE1), OTHER_PANIC),
    Case("timer-never-ticks", "certain", lambda: ended(0x1E), lambda: ended(0x17)),
    Case("selftest-failed", "certain", lambda: ended(0x11), lambda: ended(0x17)),
    Case("boot-loader-unknown", "certain", lambda: ended(0x14), lambda: ended(0x17)),
    Case("apic-mode-missing", "certain", lambda: ended(0x19), lambda: ended(0x17)),
)
