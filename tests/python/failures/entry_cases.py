# SPDX-License-Identifier: BSD-2-Clause
"""C code on its first CPUs: what it is handed, what it relies on, how it is left."""

from __future__ import annotations

import struct
from dataclasses import replace
from typing import Optional

from debug.evidence import Ending, LocalApic, TableRegister
from tests.python.evidence_builder import (
    IDT,
    KERNEL,
    NULL_IDT,
    PAGE,
    STACKS,
    Machine,
    registers,
    segment,
)
from tests.python.failures.row_cases import CODE, MOV_RAX_RBX, UNTIL_C, UNTIL_PG, Case, at

TOP = STACKS + 5 * PAGE
ENTRY = KERNEL + 0x1000
ENTRY_PHYSICAL = 0x101000


# What the entry is handed.


def dereferences(address: int, *stages: int, cr3: int = 0x10000) -> Machine:
    """The first code of the entry in C reads at this address, which faults."""
    machine = at(b"\x90", *UNTIL_C, *stages)
    machine.symbols.files["ap_entry"] = "ap.c"
    machine.ram.write(ENTRY_PHYSICAL, b"\x48\x8b\x07")  # mov rax, [rdi]
    machine.ap_space.map(KERNEL, 0x100000, 8)  # of the kernel's image the code alone
    regs = registers(rip=ENTRY, rdi=address, rsp=TOP - 16, cr3=cr3, idtr=NULL_IDT)
    return machine.kill(regs, 14, 0, address)


def returned_to(code: bytes, rsp: int) -> Machine:
    """32-bit code whose tables map 4 GiB has returned to where these bytes are."""
    machine = at(code, *UNTIL_PG)
    machine.ap_space.map(0xFFFFF000, 0xFFFFF000, 1)
    flat = segment(0x18, flags=0xC09B00)
    return machine.kill(registers(rip=CODE, rsp=rsp, cs=flat, idtr=NULL_IDT), 6)


# What it relies on.


VECTORS = 0xF000FF53F000FF53


def follows(pointer: int, page_0: bytes) -> Machine:
    """`mov rax, [rbx]` with a pointer that is not canonical, and page 0 as it is."""
    machine = at(MOV_RAX_RBX, *UNTIL_C, 0xA0)
    machine.ram.write(0, page_0)
    regs = registers(rip=CODE, rbx=pointer, rsp=TOP - 16, gs_base=0, idtr=NULL_IDT)
    return machine.kill(regs, 13, 0)


IVT = struct.pack("<Q", VECTORS) * 128


def bases(gs: int, other: int, cpl: int = 0) -> Machine:
    """`mov rax, gs:[0x28]` faults with these two bases of GS."""
    machine = at(b"\x65\x48\x8b\x04\x25\x28\x00\x00\x00", *UNTIL_C, 0xA0, 0xA1)
    machine.space.unmap(0)
    cs = segment(0x2B, flags=0xA0FB00) if cpl else segment(0x08, flags=0xA09B00)
    values = {"gs_base": gs, "kernel_gs_base": other}
    regs = registers("long", rip=CODE, rsp=TOP - 16, idtr=NULL_IDT, cs=cs, cpl=cpl, **values)
    return machine.kill(regs, 14, 4 if cpl else 0, gs + 0x28)


PER_CPU, PROGRAM = 0xFFFF_8000_0020_0000, 0x7FFF_F7D8_0000


def runs_off(stack: bytes) -> Machine:
    """CPU 0 executes zeros that have no name; its stack is in the image."""
    machine = Machine().trace(0, 0xB0, 0xB6, 0xB7, 0xB8)
    machine.ram.write(0x120000, bytes(PAGE))
    rsp = KERNEL + 0x20000 + 0x800
    machine.ram.write(0x120800, stack)
    machine.ram.write(0x101010, b"\xff\xd0\x90")  # call rax
    machine.space.unmap(0)
    return machine.kill(registers(rip=8, rsp=rsp, idtr=NULL_IDT), 14, 0x10, 8, cpu=0)


RETURN_ADDRESS = struct.pack("<Q", KERNEL + 0x1012)


def glued(gate: bytes, rip: int, vector: int) -> Machine:
    """The handler that these gates name can't be fetched."""
    machine = at(b"\x90", *UNTIL_C, 0xA0)
    machine.ram.write(IDT, (gate * 512)[:4096])
    regs = registers(rip=rip, rsp=TOP - 0x60)
    return machine.kill(regs, vector, 0x10 if vector == 14 else 0, rip if vector == 14 else None)


GATE_OF_8 = struct.pack("<HHHH", 0x8000, 0x08, 0x8E00, 0x8010)
GLUED = struct.unpack("<Q", GATE_OF_8[:2] + GATE_OF_8[6:8] + GATE_OF_8[:4])[0]
GATE_OF_16 = struct.pack("<HHHHQ", 0x8000, 0x08, 0x8E00, 0x0010, 0)


# How it is left, and what the others see of it.


def returns(*stages: int, gate_0: Optional[int] = None) -> Machine:
    """An AP fetches from address 0."""
    machine = at(b"\x90", *UNTIL_C, *stages)
    machine.space.unmap(0)
    if gate_0 is not None:
        machine.gate(0, gate_0)
    regs = registers(rip=0, rsp=TOP, idtr=TableRegister(IDT, 0xFFF))
    return machine.kill(regs, 14, 0x10, 0)


def on_purpose(vector: int, *stages: int) -> Machine:
    """An AP with these stages raises an exception with a null IDT."""
    code = {3: b"\xcc\x90", 14: MOV_RAX_RBX}[vector]
    machine = at(code, *UNTIL_C, *stages)
    machine.trace(0, 0xBA)
    at_ = CODE + 1 if vector == 3 else CODE
    regs = registers(rip=at_, rbx=0x7000_0000, rsp=TOP - 16, idtr=NULL_IDT)
    return machine.kill(regs, vector, *((0, 0x7000_0000) if vector == 14 else ()))


def missed(*, online_first: bool) -> Machine:
    """The BSP gives an AP up that says that it is online: before, or only after."""
    machine = at(b"\x90", *UNTIL_C, 0xA0, 0xA1, 0xA2, 0xA3)
    if online_first:
        return machine.trace(1, 0xA4, 0xA6).trace(0, (0xC6, 1))
    return machine.trace(0, (0xC6, 1)).trace(1, 0xA4, 0xA6)


def apics(mine: int, *stages: int, **fields: object) -> Machine:
    """The BSP's local APIC is on; the AP's SVR is this."""
    machine = at(b"\x90", *UNTIL_C, *stages)
    machine.ending = Ending.STOPPED
    machine.bsp = replace(machine.bsp, apic=LocalApic(apic_id=0, svr=0x1FF))
    apic = LocalApic(apic_id=1, svr=mine)
    machine.ap = replace(machine.ap, apic=apic, **fields)
    return machine


CASES = (
    # A return with RSP 0 pops what is at the end of the address space.
    Case(
        "stack-null",
        "likely",
        lambda: returned_to(b"\xff" * 15, 0),
        lambda: returned_to(b"\xff" * 15, 0x7000),
    ),
    Case(
        "stack-null",
        "likely",
        lambda: returned_to(b"\xff" * 15, 0),
        lambda: returned_to(b"\x0f\x0b" + b"\x90" * 13, 0),
    ),
    # The BSP's tables map it: the pointer is good, and the AP's tables lack what it names.
    Case(
        "entry-argument-wrong",
        "likely",
        lambda: dereferences(0x12_3456_7000),
        lambda: dereferences(KERNEL + 0x30000, cr3=0x40000),
    ),
    # C code has lit a lamp since: the pointer is one of its own.
    Case(
        "entry-argument-wrong",
        "likely",
        lambda: dereferences(0x12_3456_7000),
        lambda: dereferences(0x12_3456_7000, 0xA0, 0xA1),
    ),
    # The same number, but not from page 0: it was smashed, or read from memory that was reused.
    Case(
        "pointer-from-vector-table",
        "certain",
        lambda: follows(VECTORS, IVT),
        lambda: follows(VECTORS, bytes(1024)),
    ),
    Case(
        "pointer-from-vector-table",
        "certain",
        lambda: follows(VECTORS, IVT),
        lambda: follows(0x2165_6D6F_636C_6557, IVT),
    ),
    # No base was ever set, or a program runs, with the bases as they must be then.
    Case("swapgs-unbalanced", "likely", lambda: bases(PROGRAM, PER_CPU), lambda: bases(0, 0)),
    Case(
        "swapgs-unbalanced",
        "likely",
        lambda: bases(PROGRAM, PER_CPU),
        lambda: bases(PROGRAM, PER_CPU, cpl=3),
    ),
    # The stack is only fresh: the return address of the call that went astray is on top.
    Case("stack-cleared", "likely", lambda: runs_off(bytes(8)), lambda: runs_off(RETURN_ADDRESS)),
    # Gates of 16 bytes, of which the upper half of the offset is missing; and a wild jump.
    Case(
        "gate-layout-glued",
        "certain",
        lambda: glued(GATE_OF_8, GLUED, 13),
        lambda: glued(GATE_OF_16, 0x108000, 14),
    ),
    Case(
        "gate-layout-glued",
        "certain",
        lambda: glued(GATE_OF_8, GLUED, 13),
        lambda: glued(GATE_OF_8, GLUED + 0x100, 13),
    ),
    # Before C it is the entry that is 0; through a gate that names 0 it is the gate.
    Case("returned-to-null", "likely", lambda: returns(0xA0, 0xA1), returns),
    Case(
        "returned-to-null",
        "likely",
        lambda: returns(0xA0, 0xA1),
        lambda: returns(0xA0, 0xA1, gate_0=0),
    ),
    # A CPU that never had an IDT, and a fault that nobody raises on purpose.
    Case(
        "reset-by-triple-fault",
        "likely",
        lambda: on_purpose(3, 0xA0, 0xA1, 0xA2),
        lambda: on_purpose(3, 0xA0),
    ),
    Case(
        "reset-by-triple-fault",
        "likely",
        lambda: on_purpose(3, 0xA0, 0xA1, 0xA2),
        lambda: on_purpose(14, 0xA0, 0xA1, 0xA2),
    ),
    # It came online after the BSP's deadline.
    Case(
        "online-not-seen",
        "certain",
        lambda: missed(online_first=True),
        lambda: missed(online_first=False),
    ),
    # An INIT resets SVR; and a CPU that only halts needs no APIC.
    Case(
        "ap-apic-off",
        "certain",
        lambda: apics(0xFF, 0xA0, 0xA2, 0xA3, 0xA4),
        lambda: apics(0xFF, 0xA0, 0xA2, 0xA3, 0xA4, waiting_for_sipi=True),
    ),
    Case(
        "ap-apic-off",
        "certain",
        lambda: apics(0xFF, 0xA0, 0xA2, 0xA3, 0xA4),
        lambda: apics(0xFF, 0xA0, 0xA2, 0xA4),
    ),
)
