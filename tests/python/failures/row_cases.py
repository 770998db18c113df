# SPDX-License-Identifier: BSD-2-Clause
"""Machines with one defect each, and near misses: the same picture without the defect."""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace
from typing import Any, Callable

from debug.evidence import (
    Ending,
    EventKind,
    ExceptionEvent,
    IpiEvent,
    IpiKind,
    LocalApic,
    TableRegister,
)
from tests.python.evidence_builder import (
    CODE32,
    DATA,
    GDT,
    IDT,
    KERNEL,
    KERNEL_PHYSICAL,
    NULL_IDT,
    NX,
    PAGE,
    PRESENT,
    RESET_IDT,
    STACKS,
    TRAMPOLINE,
    WRITE,
    Machine,
    registers,
    segment,
)

UNTIL_PG = (0x10, 0x11, 0x12, 0x13, 0x30, 0x31, 0x32, 0x33)
UNTIL_C = (*UNTIL_PG, 0x34, 0x60, 0x61, 0x62, 0x63, 0x64, 0x65)
PUSH_RAX, MOV_RAX_RBX = b"\x50", b"\x48\x8b\x03"
CODE = TRAMPOLINE + 0x210


@dataclass(frozen=True)
class Case:
    """`broken` must give `row` with `certainty` as the first cause; `near` must not give it."""

    row: str
    certainty: str
    broken: Callable[[], Machine]
    near: Callable[[], Machine]


CASES: list[Case] = []


def case(
    row: str, certainty: str, near: Callable[[], Machine]
) -> Callable[..., Callable[[], Machine]]:
    def add(broken: Callable[[], Machine]) -> Callable[[], Machine]:
        CASES.append(Case(row, certainty, broken, near))
        return broken

    return add


def healthy() -> Machine:
    return Machine()


def waiting(**fields: object) -> Machine:
    """The AP waits for a SIPI, the BSP gave it up."""
    machine = Machine()
    machine.trace(0, 0xB0, 0xB8, (0xC0, TRAMPOLINE), 0xC1, (0xC3, 1), (0xC4, 1), (0xC6, 1))
    machine.stop(
        registers(
            "real", rip=0xFFF0, cs=segment(0xF000, 0xFFFF0000, 0xFFFF, 0x9B00), idtr=RESET_IDT
        ),
        halted=True,
        waiting_for_sipi=True,
        moved=None,
        **fields,
    )
    return machine


def in_real_mode(page: int, fill: int | None) -> Machine:
    """The AP runs in real mode in `page`; the page is filled with one byte, or holds code."""
    machine = Machine().boot_trace()
    if fill is not None:
        machine.ram.write(page, bytes([fill]) * PAGE)
    code = segment(page >> 4, page, 0xFFFF, 0x9B00)
    return machine.stop(registers("real", rip=0x40, cs=code, idtr=RESET_IDT), moved=True)


def at(code: bytes, *stages: int, place: int = CODE) -> Machine:
    machine = Machine().boot_trace().sipi().trace(1, *stages)
    machine.ram.write(place, code)
    return machine


# An AP is started.


def sipi_right() -> Machine:
    machine = in_real_mode(TRAMPOLINE, None).sipi()
    return machine


@case("sipi-wrong-vector", "certain", sipi_right)
def _() -> Machine:
    return in_real_mode(0x9000, 0).sipi(9)


@case("sipi-wrong-vector", "certain", sipi_right)
def _() -> Machine:
    return in_real_mode(0x9000, 0)  # only CS tells the vector


@case("sipi-vector-zero", "certain", sipi_right)
def _() -> Machine:
    return in_real_mode(0, None).sipi(0)


@case("sipi-vector-reserved", "certain", sipi_right)
def _() -> Machine:
    return in_real_mode(0xA0000, None).sipi(0xA0)


@case("trampoline-not-copied", "certain", sipi_right)
def _() -> Machine:
    return in_real_mode(TRAMPOLINE, 0).sipi()


@case("trampoline-not-copied", "certain", sipi_right)
def _() -> Machine:
    return in_real_mode(TRAMPOLINE, 0xCC).sipi()


def sled() -> Machine:
    """NOPs, and code behind them within the page."""
    machine = in_real_mode(TRAMPOLINE, 0x90).sipi()
    machine.ram.write(TRAMPOLINE + 0x800, b"\xfa\xf4")
    return machine


@case("trampoline-not-copied", "likely", sled)
def _() -> Machine:
    return in_real_mode(TRAMPOLINE, 0x90).sipi()


def repeats() -> Machine:
    """Many equal bytes, which are the code's data, behind its first instruction."""
    machine = in_real_mode(TRAMPOLINE, 0x41).sipi()
    machine.ram.write(TRAMPOLINE, b"\xfa")
    return machine


@case("trampoline-not-copied", "likely", repeats)
def _() -> Machine:
    return in_real_mode(TRAMPOLINE, 0x41).sipi()


def started_in(code: str, page: int = TRAMPOLINE) -> Machine:
    """A kernel without lamps sends an AP to this code, where it ends in `jmp $`."""
    machine = in_real_mode(page, 0)
    machine.stages.clear()
    machine.ram.write(page, bytes.fromhex(code).ljust(0x40, b"\x90") + b"\xeb\xfe")
    return machine.sipi(page >> 12)


# A boot loader's code reads a disk; an AP of somebody's may do no more than count itself.
@case("trampoline-not-copied", "likely", lambda: started_in("fa f0 ff 06 00 05"))
def _() -> Machine:
    return started_in("52 b4 42 cd 13 72 04 ea 00 82 00 00")


def sipi_and_init() -> Machine:
    return waiting().sipi()


@case("init-not-sent", "certain", sipi_and_init)
def _() -> Machine:
    return waiting().sipi(init=False)


@case("no-sipi", "certain", sipi_and_init)
def _() -> Machine:
    machine = waiting()
    machine.ipis.append(IpiEvent(IpiKind.INIT, 0, 1))
    return machine


@case("ipi-wrong-destination", "certain", sipi_and_init)
def _() -> Machine:
    return waiting().sipi(to=5)


@case("init-hits-sender", "certain", sipi_and_init)
def _() -> Machine:
    machine = waiting().sipi()
    machine.ipis.append(IpiEvent(IpiKind.INIT, 0, 0))
    machine.ending = Ending.STOPPED
    return machine


@case("ap-waits-for-sipi", "possible", sipi_and_init)
def _() -> Machine:
    return waiting()


@case("ap-never-executed", "likely", sipi_right)
def _() -> Machine:
    machine = in_real_mode(TRAMPOLINE, None).sipi()
    code = segment(TRAMPOLINE >> 4, TRAMPOLINE, 0xFFFF, 0x9B00)
    return machine.stop(registers("real", rip=0, cs=code, idtr=RESET_IDT), executed=False)


def silent_but_up() -> Machine:
    return Machine().boot_trace().sipi().trace(1, *UNTIL_C, 0xA0, 0xA4)


@case("ap-silent-in-real-mode", "possible", silent_but_up)
def _() -> Machine:
    return in_real_mode(TRAMPOLINE, None).sipi()


@case("cpu-does-not-exist", "certain", waiting)
def _() -> Machine:
    return Machine().boot_trace().sipi().trace(1, *UNTIL_C, 0xA4).trace(0, (0xC6, 7))


@case("local-apic-off", "likely", waiting)
def _() -> Machine:
    machine = waiting()
    off = {**machine.bsp.registers.control, "apic_base": 0xFEE00100}
    machine.bsp = replace(machine.bsp, registers=replace(machine.bsp.registers, control=off))
    return machine


@case("apic-id-unknown", "certain", silent_but_up)
def _() -> Machine:
    return at(b"\xf4", *UNTIL_PG, 0x34, 0x60, 0x61, 0x6F).stop(
        registers(rip=CODE + 1, cr3=0x10000), halted=True
    )


@case("ap-came-too-late", "certain", silent_but_up)
def _() -> Machine:
    machine = at(b"\xf4", *UNTIL_PG, 0x34, 0x60, 0x61, 0x6E).trace(0, (0xC6, 1))
    return machine.stop(registers(rip=CODE + 1, cr3=0x10000), halted=True)


# 16-bit code and the far jump.


def far_jump(selector: int, descriptor: int | None = None, **values: object) -> Machine:
    """The AP at `jmp dword selector:0x8100` with the machine's GDT."""
    code = b"\x66\xea" + struct.pack("<IH", 0x8100, selector)
    machine = at(code, 0x10, 0x11, 0x12, 0x13, place=TRAMPOLINE + 0x80)
    if descriptor is not None:
        machine.ram.write(GDT + (selector & ~7), struct.pack("<Q", descriptor))
    regs = registers("prot16", **{"rip": 0x80, "idtr": NULL_IDT, **values})
    return machine.kill(regs, 13, selector & ~3)


def jump_not_present() -> Machine:
    machine = far_jump(CODE32, 0x00CF1A000000FFFF)
    machine.events = [
        replace(event, vector=11) if event.vector == 13 else event for event in machine.events
    ]
    return machine


@case("gdt-base-wrong", "certain", lambda: far_jump(DATA))
def _() -> Machine:
    return far_jump(CODE32, gdtr=TableRegister(0x200000, 0x1F))


@case("gdt-base-wrong", "certain", lambda: far_jump(DATA))
def _() -> Machine:
    return far_jump(CODE32, gdtr=TableRegister(0x5E1F10C8, 0x1F))  # beyond RAM


@case("gdt-limit-too-small", "certain", lambda: far_jump(0x48))
def _() -> Machine:
    return far_jump(CODE32, gdtr=TableRegister(GDT, 0x17))


@case("far-jump-beyond-gdt", "certain", lambda: far_jump(CODE32, gdtr=TableRegister(GDT, 0x17)))
def _() -> Machine:
    return far_jump(0x48)


@case("far-jump-null", "certain", lambda: far_jump(DATA))
def _() -> Machine:
    return far_jump(0)


@case("far-jump-not-code", "certain", jump_not_present)
def _() -> Machine:
    return far_jump(DATA)


@case("code-segment-not-present", "certain", lambda: far_jump(DATA))
def _() -> Machine:
    return jump_not_present()


@case("code-segment-privilege", "certain", lambda: far_jump(DATA))
def _() -> Machine:
    return far_jump(CODE32, 0x00CFFB000000FFFF)


@case("executing-zeros", "certain", lambda: in_real_mode(TRAMPOLINE, None))
def _() -> Machine:
    machine = Machine().boot_trace().sipi().trace(1, 0x10, 0x11, 0x12, 0x13, 0x30)
    return machine.stop(registers("prot32", rip=0x200000, idtr=NULL_IDT), moved=True)


@case("executing-poison", "certain", lambda: in_real_mode(TRAMPOLINE, None))
def _() -> Machine:
    machine = Machine().boot_trace().sipi().trace(1, 0x10, 0x11, 0x12, 0x13, 0x30)
    machine.ram.write(0x9000, b"\xcc" * PAGE)
    return machine.kill(registers("prot32", rip=0x9100, idtr=NULL_IDT), 3)


@case("code-segment-16-bit", "likely", lambda: far_jump(DATA))
def _() -> Machine:
    cs = segment(CODE32, flags=0x8F9B00 & 0xF0FF00)
    machine = at(b"\x0f\x0b", 0x10, 0x11, 0x12, 0x13, 0x30)
    return machine.kill(registers("prot32", rip=CODE, cs=cs, idtr=NULL_IDT), 0)


@case("segments-not-reloaded", "likely", lambda: far_jump(DATA))
def _() -> Machine:
    stale = segment(TRAMPOLINE >> 4, TRAMPOLINE, 0xFFFF, 0x9300)
    machine = at(b"\xa1\x00\x00\x10\x00", 0x10, 0x11, 0x12, 0x13, 0x30)
    return machine.kill(registers("prot32", rip=CODE, ds=stale, ss=stale, idtr=NULL_IDT), 13, 0)


# Paging and the switch to long mode.


def after_pg(cr3: int, error_code: int = 0, **values: Any) -> Machine:
    """The AP right behind its MOV to CR0; the fetch faults."""
    machine = at(b"\x0f\x22\xc0\x90", *UNTIL_PG, place=TRAMPOLINE + 0x17D)
    cs = segment(CODE32, flags=0xC09B00)
    where = TRAMPOLINE + 0x180
    regs = registers(rip=where, cr3=cr3, cs=cs, idtr=NULL_IDT, **values)
    return machine.kill(regs, 14, error_code, where)


def no_identity() -> Machine:
    machine = after_pg(0x10000)
    machine.space.unmap(TRAMPOLINE)
    return machine


def other_cr3() -> Machine:
    return after_pg(0x2F0000)


@case("cr3-zero", "certain", other_cr3)
def _() -> Machine:
    return after_pg(0)


@case("cr3-wrong", "certain", no_identity)
def _() -> Machine:
    return other_cr3()


@case("cr3-truncated", "certain", other_cr3)
def _() -> Machine:
    machine = after_pg(0x10000)
    high = {**machine.bsp.registers.control, "cr3": 0x1_0001_0000}
    machine.bsp = replace(machine.bsp, registers=replace(machine.bsp.registers, control=high))
    machine.space.unmap(TRAMPOLINE)
    return machine


@case("identity-map-missing", "certain", other_cr3)
def _() -> Machine:
    return no_identity()


def push_fault(rsp: int, code: bytes = PUSH_RAX, **values: object) -> Machine:
    """The AP pushes with this RSP in the trampoline's 64-bit code."""
    machine = at(code, *UNTIL_PG, 0x34, 0x60, 0x61, 0x62)
    regs = registers(**{"rip": CODE, "rsp": rsp, "idtr": NULL_IDT, **values})  # type: ignore
    return machine.kill(regs, 14, 2, rsp - 8 & (1 << 64) - 1)


@case("nxe-missing", "certain", lambda: push_fault(STACKS + 0x9000))
def _() -> Machine:
    machine = push_fault(STACKS + 5 * PAGE, efer=0x500)
    machine.space.map(STACKS + PAGE, 0x300000, 4, WRITE | NX)
    return machine


@case("reserved-bit-set", "certain", lambda: push_fault(STACKS + 0x9000))
def _() -> Machine:
    machine = push_fault(STACKS + 5 * PAGE)
    machine.space.set(STACKS, PRESENT | 0x80 | 0x50000, level=3)
    machine.space.set(STACKS + 4 * PAGE, PRESENT)
    machine.ram.write(
        machine.space.entry_address(STACKS, 3), struct.pack("<Q", 1 | 1 << 7 | 0x50000)
    )
    machine.events = [
        replace(event, error_code=0xB) if event.vector == 14 else event for event in machine.events
    ]
    return machine


CASES[-1] = replace(CASES[-1], row="page-size-misplaced")


@case("not-executable", "certain", lambda: push_fault(STACKS + 0x9000))
def _() -> Machine:
    machine = at(b"\x90", *UNTIL_C)
    machine.ram.write(0x101000, bytes(range(1, 17)))
    machine.space.map(KERNEL + PAGE, 0x101000, 1, NX)
    regs = registers(rip=KERNEL + PAGE, rsp=STACKS + 5 * PAGE, idtr=NULL_IDT)
    return machine.kill(regs, 14, 0x11, KERNEL + PAGE)


@case("write-to-read-only", "certain", lambda: push_fault(STACKS + 0x9000))
def _() -> Machine:
    machine = push_fault(STACKS + 5 * PAGE)
    machine.space.map(STACKS + PAGE, 0x300000, 4, 0)
    machine.events[0] = replace(machine.events[0], error_code=3)
    return machine


def lme(efer: int) -> Machine:
    machine = at(b"\x0f\x22\xc0\x90", *UNTIL_PG, place=TRAMPOLINE + 0x17D)
    where = TRAMPOLINE + 0x180
    regs = registers(
        "prot32", rip=where, cr0=0x80000011, cr3=0x10000, cr4=0x20, efer=efer, idtr=NULL_IDT
    )
    return machine.kill(regs, 14, 0, where)


@case("lme-missing", "certain", other_cr3)
def _() -> Machine:
    return lme(0)


@case("pae-missing", "certain", no_identity)
def _() -> Machine:
    machine = at(b"\x0f\x22\xc0\x90", *UNTIL_PG)
    regs = registers(
        "prot32", rip=CODE, rax=0x80010011, cr3=0x10000, cr4=0, efer=0x100, idtr=NULL_IDT
    )
    return machine.kill(regs, 13, 0)


@case("msr-unknown", "certain", no_identity)
def _() -> Machine:
    machine = at(b"\x0f\x32", *UNTIL_C)
    return machine.kill(registers(rip=CODE, rcx=0x802, idtr=NULL_IDT), 13, 0)


@case("no-long-mode", "likely", no_identity)
def _() -> Machine:
    machine = at(b"\x0f\x30", *UNTIL_PG)
    regs = registers("prot32", rip=CODE, rcx=0xC0000080, rax=0x100, cr4=0x20, idtr=NULL_IDT)
    return machine.kill(regs, 13, 0)


@case("tables-changed-or-stale", "likely", lambda: push_fault(STACKS + 0x9000))
def _() -> Machine:
    return push_fault(STACKS + 5 * PAGE)


# 64-bit code: stacks, entry, higher half.


@case("stack-null", "certain", lambda: push_fault(STACKS + 0x9000))
def _() -> Machine:
    return push_fault(0)


@case("stack-unmapped", "certain", lambda: push_fault(STACKS + PAGE + 0x100))
def _() -> Machine:
    return push_fault(STACKS + 0x9000)


@case("stack-unmapped", "certain", lambda: push_fault(0))
def _() -> Machine:
    return push_fault(KERNEL + 0x9000, cr3=0x40000)


@case("stack-overflow", "likely", lambda: push_fault(STACKS + 0x9000))
def _() -> Machine:
    machine = push_fault(STACKS + PAGE - 0x40)
    machine.events[0] = replace(machine.events[0], cr2=STACKS + PAGE - 0x48)
    return machine


@case("stack-bottom-as-top", "likely", lambda: push_fault(STACKS + 0x9000))
def _() -> Machine:
    return push_fault(STACKS + PAGE)


@case("stack-non-canonical", "certain", lambda: push_fault(STACKS + 0x9000))
def _() -> Machine:
    machine = at(PUSH_RAX, *UNTIL_C)
    return machine.kill(registers(rip=CODE, rsp=0x8000_0000_0000_0010, idtr=NULL_IDT), 12, 0)


def movaps(rsp: int) -> Machine:
    machine = at(b"\x0f\x29\x04\x24", *UNTIL_C)
    return machine.kill(registers(rip=CODE, rsp=rsp, idtr=NULL_IDT), 13, 0)


@case("stack-misaligned", "certain", lambda: movaps(STACKS + 0x4000))
def _() -> Machine:
    return movaps(STACKS + 0x4008)


def share(rsp: int) -> Machine:
    machine = at(b"\xeb\xfe", *UNTIL_C, 0xA0).trace(0, (0xC6, 1))
    machine.bsp = replace(
        machine.bsp, registers=registers(rip=KERNEL + 2, rflags=0x202, rsp=STACKS + 0x4800)
    )
    return machine.stop(registers(rip=CODE, rsp=rsp))


@case("stack-shared", "likely", lambda: share(STACKS + 0x3800))
def _() -> Machine:
    machine = share(STACKS + 0x4900)
    machine.ram.write(CODE, b"\xf3\x90\xeb\xfc")  # no jump to itself: the stack is the story
    return machine


def entry(address: int, error_code: int = 0x10, **values: object) -> Machine:
    machine = at(b"\x90", *UNTIL_C)
    machine.space.unmap(0)
    regs = registers(**{"rip": address, "rsp": STACKS + 5 * PAGE - 8, "idtr": NULL_IDT, **values})  # type: ignore
    return machine.kill(regs, 14, error_code, address)


@case("entry-null", "certain", lambda: entry(KERNEL + 0x900000))
def _() -> Machine:
    return entry(0)


@case("entry-truncated", "certain", lambda: entry(0x7123_4000))
def _() -> Machine:
    return entry((KERNEL + 0x1000) & 0xFFFFFFFF)


@case("entry-unmapped", "certain", lambda: entry(KERNEL + 0x1000, cr3=0x40000))
def _() -> Machine:
    return entry(KERNEL + 0x900000)


@case("higher-half-unmapped", "certain", lambda: entry(KERNEL + 0x900000))
def _() -> Machine:
    return entry(KERNEL + 0x1000, cr3=0x40000)


def lcpus_read(cr3: int) -> Machine:
    machine = at(MOV_RAX_RBX, *UNTIL_PG, 0x34, 0x60, 0x61)
    regs = registers(rip=CODE, rbx=KERNEL + 0x3000, cr3=cr3, idtr=NULL_IDT)
    return machine.kill(regs, 14, 0, KERNEL + 0x3000)


@case("higher-half-unmapped", "certain", lambda: lcpus_read(0x10000))
def _() -> Machine:
    return lcpus_read(0x40000)


@case("entry-not-called", "certain", silent_but_up)
def _() -> Machine:
    machine = at(b"\xf4\xeb\xfd", *UNTIL_C).trace(0, (0xC6, 1))
    return machine.stop(registers(rip=CODE + 1, rsp=STACKS + 5 * PAGE), halted=True)


@case("pointer-non-canonical", "certain", lambda: lcpus_read(0x40000))
def _() -> Machine:
    machine = at(MOV_RAX_RBX, *UNTIL_C)
    return machine.kill(registers(rip=CODE, rbx=0x1234_0000_0000_0000, idtr=NULL_IDT), 13, 0)


@case("jump-non-canonical", "certain", lambda: lcpus_read(0x40000))
def _() -> Machine:
    machine = at(b"\xff\xe3", *UNTIL_C)  # jmp rbx
    return machine.kill(registers(rip=CODE, rbx=0x1234_0000_0000_0000, idtr=NULL_IDT), 13, 0)


@case("null-pointer", "likely", lambda: lcpus_read(0x40000))
def _() -> Machine:
    machine = at(MOV_RAX_RBX, *UNTIL_C, 0xA0)
    machine.space.unmap(0)
    return machine.kill(registers(rip=CODE, rbx=0x58, idtr=NULL_IDT), 14, 0, 0x58)


@case("gs-base-not-set", "certain", lambda: lcpus_read(0x40000))
def _() -> Machine:
    machine = at(b"\x65\x48\x8b\x04\x25\x28\x00\x00\x00", *UNTIL_C, 0xA0)
    machine.space.unmap(0)
    return machine.kill(registers(rip=CODE, gs_base=0, idtr=NULL_IDT), 14, 0, 0x28)


# Instructions that are refused.


def refused(code: bytes, vector: int = 6, **values: object) -> Machine:
    machine = at(code, *UNTIL_C, 0xA0)
    known = {"rip": CODE, "rsp": STACKS + 0x4FF0, "idtr": NULL_IDT, **values}
    return machine.kill(registers(**known), vector)  # type: ignore


@case("sse-not-enabled", "certain", lambda: refused(b"\x0f\x0b"))
def _() -> Machine:
    return refused(b"\x0f\x28\xc1", cr4=0x20)


@case("fpu-emulated", "certain", lambda: refused(b"\x0f\x0b"))
def _() -> Machine:
    return refused(b"\x0f\x28\xc1", cr0=0x80010017)


@case("fpu-task-switched", "certain", lambda: refused(b"\x0f\x0b"))
def _() -> Machine:
    return refused(b"\xd9\xe8", 7, cr0=0x8001001B)


@case("avx-not-enabled", "certain", lambda: refused(b"\x0f\x0b"))
def _() -> Machine:
    return refused(b"\xc5\xf8\x28\xc1")


@case("xsetbv-not-enabled", "certain", lambda: refused(b"\x0f\x0b"))
def _() -> Machine:
    return refused(b"\x0f\x01\xd1")


@case("unreachable-reached", "certain", lambda: refused(b"\xc5\xf8\x28\xc1"))
def _() -> Machine:
    return refused(b"\x0f\x0b")


@case("code-for-another-mode", "certain", lambda: refused(b"\x0f\x0b"))
def _() -> Machine:
    return refused(b"\x06\x90\x90")


@case("no-code-at-rip", "certain", lambda: refused(b"\x0f\x0b"))
def _() -> Machine:
    return refused(b"Hello from CPU 1!")


# Delivery.


def delivery(break_gate: Callable[[Machine], None], vector: int = 3) -> Machine:
    """A #BP on the AP, whose gate a test breaks; #BP itself is no mistake."""
    machine = at(b"\xcc\x90", *UNTIL_C, 0xA0)
    break_gate(machine)
    regs = registers(rip=CODE + 1, rsp=STACKS + 5 * PAGE - 16)
    return machine.kill(regs, vector)


def empty_gates(machine: Machine) -> None:
    machine.ram.write(IDT, bytes(PAGE))


def null_selectors(machine: Machine) -> None:
    for vector in range(32):
        machine.gate(vector, KERNEL, selector=0)


def data_selectors(machine: Machine) -> None:
    for vector in range(32):
        machine.gate(vector, KERNEL, selector=DATA)


def unmapped_idt(machine: Machine) -> None:
    machine.space.unmap(IDT)


def task_gates(machine: Machine) -> None:
    for vector in range(32):
        machine.gate(vector, KERNEL, kind=0x85)


def upper_words(machine: Machine) -> None:
    """8-byte gates: the upper half of each 16 is the next gate."""
    gate = struct.pack("<Q", 0x0010_8E00_0008_8000)
    machine.ram.write(IDT, gate * 512)


@case("gate-empty", "certain", lambda: delivery(null_selectors))
def _() -> Machine:
    return delivery(empty_gates)


@case("gate-empty", "certain", lambda: delivery(unmapped_idt))
def _() -> Machine:
    return delivery(task_gates)


@case("gate-selector-bad", "certain", lambda: delivery(empty_gates))
def _() -> Machine:
    return delivery(null_selectors)


@case("gate-selector-bad", "certain", lambda: delivery(empty_gates))
def _() -> Machine:
    return delivery(data_selectors)


@case("gate-layout-32", "certain", lambda: delivery(empty_gates))
def _() -> Machine:
    return delivery(upper_words)


@case("idt-unmapped", "certain", lambda: delivery(empty_gates))
def _() -> Machine:
    return delivery(unmapped_idt)


def interrupt(vector: int, idtr: TableRegister, kind: EventKind) -> Machine:
    machine = at(b"\x90\x90", *UNTIL_C, 0xA0)
    regs = registers(rip=CODE, rflags=0x202, rsp=STACKS + 5 * PAGE - 16, idtr=idtr)
    machine.kill(regs, 13, vector * 8 + 3)
    machine.events.insert(0, ExceptionEvent(kind, vector, regs, None, None, 1))
    return machine


@case("interrupt-without-gate", "certain", lambda: delivery(null_selectors))
def _() -> Machine:
    return interrupt(0x20, TableRegister(IDT, 0x1FF), EventKind.HARDWARE_INTERRUPT)


@case("pic-not-remapped", "certain", lambda: delivery(empty_gates))
def _() -> Machine:
    return interrupt(8, NULL_IDT, EventKind.HARDWARE_INTERRUPT)


@case("idt-missing", "likely", lambda: delivery(empty_gates))
def _() -> Machine:
    machine = at(b"\xcc\x90", *UNTIL_C)
    return machine.kill(registers(rip=CODE + 1, idtr=NULL_IDT), 3)


@case("idt-limit-too-small", "certain", lambda: delivery(empty_gates))
def _() -> Machine:
    machine = at(b"\xcc\x90", *UNTIL_C)
    regs = registers(rip=CODE + 1, rsp=STACKS + 5 * PAGE, idtr=TableRegister(IDT, 0x1F))
    return machine.kill(regs, 3)


def ltr(descriptor: bytes, selector: int = 0x20, limit: int = 0x2F) -> Machine:
    machine = at(b"\x0f\x00\xd8", *UNTIL_C, 0xA0)
    machine.ram.write(GDT + 0x20, descriptor)
    regs = registers(rip=CODE, rax=selector, gdtr=TableRegister(GDT, limit), idtr=NULL_IDT)
    return machine.kill(regs, 13, selector)


TSS = struct.pack("<QQ", 0x0000_8900_5000_0067, 0)
BUSY = struct.pack("<QQ", 0x0000_8B00_5000_0067, 0)


@case("tss-busy", "certain", lambda: ltr(bytes(16)))
def _() -> Machine:
    machine = ltr(BUSY)
    held = {**machine.bsp.registers.segments, "tr": segment(0x20, 0x5000, 0x67, 0x8B00)}
    machine.bsp = replace(machine.bsp, registers=replace(machine.bsp.registers, segments=held))
    return machine


@case("tss-beyond-gdt", "certain", lambda: ltr(BUSY))
def _() -> Machine:
    return ltr(TSS, limit=0x27)


@case("tss-descriptor-bad", "certain", lambda: ltr(BUSY))
def _() -> Machine:
    return ltr(bytes(16))


# Ends.


def ended(code: int, text: str = "", error: bool = True) -> Machine:
    machine = Machine().trace(0, 0xB0, 0xB8, *(((0xE4, code),) if error else ()), (0xCF, code))
    machine.ending, machine.console, machine.exit_code = Ending.EXITED, text, code * 2 + 1
    return machine


@case("low-memory-not-writable", "certain", lambda: ended(0x17))
def _() -> Machine:
    return ended(0x1A, "lamppost: trampoline page 0xf0000 does not read back")


@case("no-low-page", "certain", lambda: ended(0x1A))
def _() -> Machine:
    return ended(0x17)


@case("acpi-tables-bad", "certain", lambda: ended(0x1A))
def _() -> Machine:
    return ended(0x16, "lamppost: the MADT has a bad checksum")


@case("boot-option-unknown", "certain", lambda: ended(0x1A))
def _() -> Machine:
    return ended(0x13)


@case("deliberate-reset", "certain", healthy)
def _() -> Machine:
    machine = Machine()
    machine.ending = Ending.RESET
    return machine


@case("kernel-panic", "certain", healthy)
def _() -> Machine:
    machine = Machine()
    machine.console = "hello\npanic: out of frames\n"
    return machine


@case("protection-not-enabled", "likely", healthy)
def _() -> Machine:
    """A page with `ljmp 0x8:...` and its GDT; the AP has come to the BIOS in real mode."""
    machine = Machine().sipi()
    machine.expected = 2
    machine.ram.write(TRAMPOLINE + 0x40, bytes.fromhex("66 ea 80 80 00 00 08 00"))
    here = registers("real", rip=0x53, cs=segment(0xFFF0, 0xFFF00, 0xFFFF, 0x9B00))
    return machine.stop(here, moved=True)


@case("interrupt-storm", "likely", lambda: flooded(b"\xf4"))
def _() -> Machine:
    return flooded(b"\x90")


def flooded(interrupted: bytes) -> Machine:
    """The AP takes one interrupt at the same place behind this instruction, and nothing else."""
    machine = Machine()
    machine.ram.write(KERNEL_PHYSICAL + 0x1000, interrupted + b"\x90\x90\x90")
    here = registers(rip=KERNEL + 0x1001, rflags=0x202, rsp=STACKS + 0x4000)
    taken = ExceptionEvent(EventKind.HARDWARE_INTERRUPT, 0x40, here, None, None, 1)
    machine.events += [taken] * 40
    return machine.stop(here, moved=False)


@case("device-not-ready", "likely", healthy)
def _() -> Machine:
    machine = Machine()
    machine.ram.write(0x101000, bytes.fromhex("ec a8 40 74 fb"))  # in al, dx; test al, 0x40; jz
    return machine.stop(registers(rip=KERNEL + 0x1000, rsp=STACKS + 0x4000, rdx=0x1F7))


@case("halted-forever", "likely", healthy)
def _() -> Machine:
    machine = Machine()
    masked = registers(rip=KERNEL + 2, rsp=KERNEL + 0x9000)
    machine.bsp = replace(machine.bsp, registers=masked)
    return machine


@case("endless-jump", "certain", healthy)
def _() -> Machine:
    machine = Machine()
    machine.ram.write(0x101000, b"\xeb\xfe")
    return machine.stop(registers(rip=KERNEL + 0x1000, rsp=STACKS + 0x4000))


def one_torn() -> Machine:
    """The AP stopped inside a frame, and its lock was stolen."""
    machine = at(b"\xf4\xeb\xfd", *UNTIL_C).trace(0, (0xC6, 1))
    machine.stages.append(replace(machine.stages[-2], damaged=True))
    return machine.stop(registers(rip=CODE + 1, rsp=STACKS + 5 * PAGE), halted=True)


@case("output-interleaved", "likely", one_torn)
def _() -> Machine:
    machine = silent_but_up()
    machine.ending = Ending.UNTIL
    torn = [replace(event, damaged=True) for event in (machine.stages[0], machine.stages[-1])]
    machine.stages += torn
    return machine


# What can be proven without a named cause.


@case("page-fault-undelivered", "certain", lambda: push_fault(STACKS + 0x9000))
def _() -> Machine:
    machine = lcpus_read(0x10000)
    regs = registers(rip=CODE, rbx=0x7000_0000, idtr=RESET_IDT)
    machine.events.clear()
    return machine.kill(regs, 14, 0, 0x7000_0000)


@case("shutdown-without-record", "possible", lambda: push_fault(STACKS + 0x9000))
def _() -> Machine:
    machine = Machine()
    machine.ending = Ending.TRIPLE_FAULT
    machine.stop(registers(rip=KERNEL + 3, rsp=STACKS + 0x4000), shutdown=True)
    return machine


def says(*lines: str) -> Callable[[], Machine]:
    """The kernel's last words."""

    def machine() -> Machine:
        made = Machine()
        made.console = "hello\n" + "".join(f"{line}\n" for line in lines)
        return made

    return machine


HELD = '    lock "a" (0xffffffff80142a00) is held by CPU 1, which took it at 0xffffffff80101000'
OTHER_PANIC = says("panic: no root file system")

CASES += [
    Case(
        "deadlock",
        "certain",
        says(
            "deadlock: CPUs wait for each other's locks",
            '    CPU 0 waits for lock "a" (0xffffffff80142a00) at 0xffffffff80101010',
            HELD,
            "panic: deadlock: each CPU above holds what another one waits for",
        ),
        OTHER_PANIC,
    ),
    Case("deadlock", "certain", says("panic: deadlock: threads wait for each other"), OTHER_PANIC),
    Case(
        "lock-taken-twice",
        "certain",
        says(
            'panic: deadlock: CPU 0 takes lock "a" (0xffffffff80142a00) at 0xffffffff80101010, '
            "and holds it since 0xffffffff80101000"
        ),
        OTHER_PANIC,
    ),
    Case(
        "lock-not-given-back", "certain", says(HELD, "panic: a lock is not given back"), OTHER_PANIC
    ),
    Case(
        "lost-wake-up",
        "certain",
        says("panic: lost wake-up: a thread waits for a mutex that is free"),
        OTHER_PANIC,
    ),
    Case("barrier-lacks-a-cpu", "certain", says("panic: a barrier does not open"), OTHER_PANIC),
]


# Rows that a state, an error code or the kernel's own word tells.


def stuck(vectors: tuple[int, ...]) -> Callable[[], Machine]:
    """The AP idles; these vectors are in service in its APIC."""

    def machine() -> Machine:
        made = Machine()
        made.ap = replace(made.ap, apic=LocalApic(apic_id=1, isr=vectors, irr=(0x41,)))
        return made

    return machine


def masked(a20: bool) -> Callable[[], Machine]:
    """The AP runs in protected mode, with the address line as it is."""

    def machine() -> Machine:
        regs = replace(registers("prot32", rip=0x8100, rsp=0x7000), a20=a20)
        return at(b"\x90" * 64, 0x10, 0x11, 0x12, 0x13, place=0x8100).stop(regs, moved=True)

    return machine


def load_from(address: int) -> Machine:
    """MOVAPS of an operand: #GP(0) where it is not a multiple of 16."""
    machine = at(b"\x0f\x28\x03", *UNTIL_C, 0xA0)  # movaps xmm0, [rbx]
    regs = registers(rip=CODE, rbx=address, rsp=STACKS + 5 * PAGE, idtr=NULL_IDT)
    return machine.kill(regs, 13, 0)


def trap_to(offset: int) -> Machine:
    """INT3 through a gate with this offset, which can't be delivered."""
    machine = at(b"\xcc\x90", *UNTIL_C, 0xA0)
    machine.gate(3, offset)
    return machine.kill(registers(rip=CODE + 1, rsp=STACKS + 5 * PAGE), 3)


def words(text: str) -> Callable[[], Machine]:
    """A kernel that gave up with these words."""
    return says(f"panic: {text}")


CASES += [
    Case("eoi-missing", "likely", stuck((0x40,)), stuck(())),
    Case("a20-closed", "likely", masked(False), masked(True)),
    Case("operand-misaligned", "certain", lambda: load_from(0x7008), lambda: load_from(0x7010)),
    Case(
        "handler-non-canonical",
        "certain",
        lambda: trap_to(0x1234_5678_0000_0000),
        lambda: trap_to(KERNEL + 0x8000),
    ),
    Case("out-of-memory", "certain", lambda: ended(0x18), lambda: ended(0x17)),
    Case("too-many-cpus", "certain", lambda: ended(0x1B), lambda: ended(0x17)),
    Case("stack-smashed", "likely", words("stack smashing detected"), OTHER_PANIC),
]


def large_pages(cr4: int) -> Machine:
    """32-bit paging through a directory of 4 MiB pages, with and without CR4.PSE."""
    machine = Machine()
    machine.ram.write(0x20000, struct.pack("<I", 0x83))
    machine.ram.write(0x8100, b"\x0f\x22\xc0\x90")
    regs = registers("prot32", cr0=0x80000011, cr3=0x20000, cr4=cr4, rip=0x8103, idtr=NULL_IDT)
    return machine.kill(regs, 14, 0x10, 0x8103, cpu=0)


CASES.append(Case("pse-missing", "likely", lambda: large_pages(0), lambda: large_pages(0x10)))
