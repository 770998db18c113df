# SPDX-License-Identifier: BSD-2-Clause
"""Tables that are wrong as a whole, handlers that fault, the hand-over to C, chosen ends."""

from __future__ import annotations

import struct
from dataclasses import replace
from typing import Any, Callable

import pytest

from debug.evidence import Ending, EventKind, ExceptionEvent, TableRegister
from debug.report.diagnosis import Diagnosis, diagnose
from tests.python.evidence_builder import (
    CODE64,
    DATA,
    KERNEL,
    KERNEL_PHYSICAL,
    NULL_IDT,
    PAGE,
    PRESENT,
    STACKS,
    WRITE,
    Machine,
    registers,
    segment,
)
from tests.python.failures.row_cases import CODE, MOV_RAX_RBX, UNTIL_C, UNTIL_PG, at

TOP = STACKS + 5 * PAGE


def named(machine: Machine) -> list[tuple[str, str]]:
    return pairs(diagnose(machine.evidence()))


def pairs(diagnosis: Diagnosis) -> list[tuple[str, str]]:
    return [(cause.row.id, cause.certainty.value) for cause in diagnosis.causes]


def fetch(cr3: int, address: int = CODE, **values: Any) -> Machine:
    """The fetch after CR0.PG, with the tables at `cr3`."""
    machine = at(b"\x90\x90", *UNTIL_PG)
    return machine.kill(registers(rip=address, cr3=cr3, idtr=NULL_IDT, **values), 14, 0, address)


# Tables.


def skipped() -> Machine:
    machine = at(b"\x90\x90", *UNTIL_PG)
    pd = b"".join(struct.pack("<Q", n << 21 | 0x83) for n in range(512))
    machine.ram.write(0x60000, pd)
    machine.ram.write(0x61000 + 511 * 8, struct.pack("<Q", 0x60000 | PRESENT | WRITE))
    regs = registers(rip=KERNEL + 0x1000, cr3=0x61000, idtr=NULL_IDT)
    return machine.kill(regs, 14, 8, KERNEL + 0x1000)


def pdpt(page: int = 0xFEE00083) -> Machine:
    """CR3 names a PDPT above two directories of one page each: no neighbour tells what they are."""
    machine = at(MOV_RAX_RBX, *UNTIL_PG)
    for where, entry in (
        (0x61000, 0x62000 | PRESENT | WRITE),
        (0x61000 + 8 * 3, 0x63000 | PRESENT | WRITE),
        (0x62000, 0x83),
        (0x63000 + 8 * (0xFEE00000 >> 21 & 511), page),
    ):
        machine.ram.write(where, struct.pack("<Q", entry))
    regs = registers(rip=CODE, rbx=0xFEE00020, cr3=0x61000, idtr=NULL_IDT)
    return machine.kill(regs, 14, 0, 0xFEE00020)


def misaligned() -> Machine:
    machine = fetch(0x61020)
    machine.ram.write(0x61020, struct.pack("<Q", 0x62000 | PRESENT | WRITE))
    return machine


def five_levels() -> Machine:
    return fetch(0x10000, cr4=0x1620)


def edge(last: int, hole: bool = False) -> Machine:
    machine = at(MOV_RAX_RBX, *UNTIL_C, 0xA0)
    machine.symbols.known["table"] = (KERNEL + 0x3F000, 0x8000)
    machine.space.unmap(KERNEL + last, 0 if hole else 16)
    if hole:
        machine.space.unmap(KERNEL + 0x20000)
    address = KERNEL + (0x20000 if hole else 0x42000)
    regs = registers(rip=CODE, rbx=address, rsp=TOP - 16, idtr=NULL_IDT)
    return machine.kill(regs, 14, 0, address)


def window(address: int, rip: int) -> Machine:
    machine = at(b"\x90", *UNTIL_C, 0xA0)
    machine.ram.write(KERNEL_PHYSICAL + 0x1000, MOV_RAX_RBX)
    regs = registers(rip=rip, rbx=address, rsp=TOP - 16, idtr=NULL_IDT)
    return machine.kill(regs, 14, 0, address)


ENTRY = KERNEL + 0x1000
HHDM = 0xFFFF800000100000


@pytest.mark.parametrize(
    "row, certainty, broken, near",
    [
        ("table-level-skipped", "certain", skipped, lambda: fetch(0x70000)),
        ("table-level-skipped", "likely", pdpt, lambda: pdpt(0xFEC00083)),
        ("cr3-misaligned", "certain", misaligned, lambda: fetch(0x61000)),
        ("la57-mismatch", "certain", five_levels, lambda: fetch(0x70000)),
        ("cr3-outside-memory", "certain", lambda: fetch(0x80130000), lambda: fetch(0x70000)),
        ("image-partly-mapped", "certain", lambda: edge(0x40000), lambda: edge(0x40000, True)),
        (
            "window-not-mapped",
            "likely",
            lambda: window(HHDM, ENTRY),
            lambda: window(KERNEL + 0x100000, ENTRY),
        ),
    ],
)
def test_tables(
    row: str, certainty: str, broken: Callable[[], Machine], near: Callable[[], Machine]
) -> None:
    assert named(broken())[:1] == [(row, certainty)]
    assert row not in dict(named(near()))


def test_what_the_cpu_lacks_is_inferred() -> None:
    """An address bit that this CPU lacks: no register tells, the reserved-bit fault does."""
    machine = at(MOV_RAX_RBX, *UNTIL_C, 0xA0)
    machine.space.set(STACKS + 2 * PAGE, 0x301000 | 1 << 45 | PRESENT | WRITE)
    regs = registers(rip=CODE, rbx=STACKS + 2 * PAGE, rsp=TOP - 16, idtr=NULL_IDT)
    machine.kill(regs, 14, 9, STACKS + 2 * PAGE)
    assert named(machine)[:1] == [("reserved-bit-set", "certain")]


def test_changed_tables_are_no_reserved_bit() -> None:
    machine = at(MOV_RAX_RBX, *UNTIL_C, 0xA0)
    regs = registers(rip=CODE, rbx=STACKS + 2 * PAGE, rsp=TOP - 16, idtr=NULL_IDT)
    machine.kill(regs, 14, 0, STACKS + 2 * PAGE)
    assert "reserved-bit-set" not in dict(named(machine))


# Handlers.


def nested(times: int) -> Machine:
    """A null pointer, whose handler faults `times` times, each time deeper."""
    machine = at(MOV_RAX_RBX, *UNTIL_C, 0xA0)
    machine.space.unmap(0)
    machine.ram.write(KERNEL_PHYSICAL + 0x8000, bytes(range(0x50, 0x58)) * 4)
    first = registers(rip=CODE, rbx=0x10, rsp=TOP - 16)
    machine.events.append(ExceptionEvent(EventKind.EXCEPTION, 14, first, 0, 0x10, 1, -1))
    for number in range(times):
        regs = registers(rip=KERNEL + 0x8004, rsp=TOP - 16 - 0x150 * (number + 1))
        machine.events.append(ExceptionEvent(EventKind.EXCEPTION, 14, regs, 0, 0x5000, 1, -1))
    last = registers(rip=KERNEL + 0x8004, rsp=STACKS + PAGE)
    machine.kill(last, 14, 2, STACKS + PAGE - 8)
    machine.events[-3] = replace(machine.events[-3], while_delivering=-1)
    return machine


def test_the_first_exception_of_a_nest_is_explained() -> None:
    depth = (TOP - 16 - STACKS - PAGE) // 0x150
    diagnosis = diagnose(nested(depth).evidence())
    assert diagnosis.explanation.chain[0].rip == CODE
    assert f"{depth + 1} times" in diagnosis.explanation.chain[1].headline
    assert pairs(diagnosis)[:1] == [("null-pointer", "likely")]


def test_one_fault_after_another_is_no_nest() -> None:
    diagnosis = diagnose(nested(1).evidence())
    assert diagnosis.explanation.chain[0].rip != CODE


def test_unreachable_handler() -> None:
    machine = at(b"\x90", *UNTIL_C, 0xA0)
    machine.gate(14, 0x80008000)
    regs = registers(rip=0x80008000, rsp=TOP - 64)
    machine.kill(regs, 14, 16, 0x80008000)
    assert named(machine)[:1] == [("handler-unreachable", "certain")]
    machine.gate(14, KERNEL + 0x8000)
    assert "handler-unreachable" not in dict(named(machine))


def iretq(*frame: int) -> Machine:
    machine = at(b"\x48\xcf", *UNTIL_C, 0xA0)
    machine.ram.write(0x304000 - 64, struct.pack(f"<{len(frame)}Q", *frame))
    regs = registers(rip=CODE, rsp=TOP - 64, idtr=NULL_IDT)
    return machine.kill(regs, 13, frame[1] & 0xFFF8)


def test_shifted_frame() -> None:
    frame = (KERNEL + 0x1000, CODE64, 0x202, TOP - 16, DATA)
    assert named(iretq(0, *frame))[:1] == [("iret-frame-shifted", "certain")]
    assert "iret-frame-shifted" not in dict(named(iretq(KERNEL, 0x30, 0x202, TOP - 16, DATA)))


# The hand-over, and what holds for every CPU.


def test_argument_and_fields() -> None:
    swapped = at(b"\x90", *UNTIL_C)
    swapped.kill(registers(rip=TOP + PAGE * 4, rsp=TOP + PAGE * 4 - 8), 14, 16, TOP + PAGE * 4)
    assert named(swapped)[:1] == [("parameter-field-mixed-up", "certain")]


def shared(other: int) -> Machine:
    machine = Machine().boot_trace().trace(1, *UNTIL_C, 0xA0, 0xA4)
    for cpu, base, stack in ((0, 0x5000, TOP - PAGE), (1, 0x5800, other)):
        machine.ram.write(base + 36, struct.pack("<Q", stack))
        task = segment(0x20, base, 0x67, 0x8B00)
        old = machine.bsp if cpu == 0 else machine.ap
        regs = replace(old.registers, segments={**old.registers.segments, "tr": task})
        if cpu == 0:
            machine.bsp = replace(old, registers=regs)
        else:
            machine.ap = replace(old, registers=regs)
    return machine


def test_shared_ist() -> None:
    assert named(shared(TOP - PAGE)) == [("ist-shared", "certain")]
    assert named(shared(TOP - 2 * PAGE)) == []


def test_direction_flag() -> None:
    machine = Machine().boot_trace().trace(1, *UNTIL_C, 0xA0, 0xA4)
    assert named(machine) == []
    machine.ap = replace(machine.ap, registers=replace(machine.ap.registers, rflags=0x602))
    assert named(machine) == [("direction-flag-set", "certain")]


# Ends.


def test_firmware_interrupts_are_no_pic_mistake() -> None:
    """The BIOS took the timer in protected mode; then the kernel died of something else."""
    machine = at(b"\x0f\x0b", *UNTIL_C, 0xA0)
    bios = registers("prot32", rip=0xE1B1B, idtr=TableRegister(0xF0000, 0x3FF))
    machine.events.append(ExceptionEvent(EventKind.HARDWARE_INTERRUPT, 8, bios, None, None, 1))
    machine.kill(registers(rip=CODE, idtr=NULL_IDT), 6)
    assert named(machine)[:1] == [("unreachable-reached", "certain")]
    assert "pic-not-remapped" not in dict(named(machine))


def test_announced_halt_is_healthy() -> None:
    machine = Machine().boot_trace().trace(1, *UNTIL_C, 0xA0, 0xA4)
    machine.bsp = replace(machine.bsp, registers=registers(rip=KERNEL + 2, rsp=KERNEL + 0x9000))
    silent = diagnose(machine.evidence())
    machine.console = "System halted.\n"
    told = diagnose(machine.evidence())
    assert silent.status == "hang"
    assert told.status == "healthy" and pairs(told) == [("halted-on-purpose", "certain")]


def test_cpu_without_long_mode() -> None:
    machine = Machine().trace(0, 0xB0)
    machine.ending, machine.console = Ending.EXITED, "kernel: this CPU has no 64-bit mode\n"
    diagnosis = diagnose(machine.evidence())
    assert diagnosis.status == "panic"
    assert pairs(diagnosis)[:1] == [("cpu-without-long-mode", "certain")]


def test_double_fault_that_is_an_interrupt() -> None:
    machine = Machine().boot_trace().trace(0, (0xE0, 8), 0xE1)
    machine.console = "CPU 0: double fault\n  rip 0000000000000008  rsp 0000000000000202\n"
    assert named(machine)[:1] == [("pic-not-remapped", "likely")]
    machine.console = "CPU 0: double fault\n  rip ffffffff80001234  rsp 0000000000000202\n"
    assert "pic-not-remapped" not in dict(named(machine))


def test_an_exception_that_no_idt_takes() -> None:
    """Beside what raised it: an IDT that is loaded is another matter."""
    without, loaded = at(b"\xf7\xf3", *UNTIL_C, 0xA0), at(b"\xf7\xf3", *UNTIL_C, 0xA0)
    without.kill(registers(rip=CODE, rax=7, rbx=2, rsp=TOP - 16, idtr=NULL_IDT), 0)
    loaded.kill(registers(rip=CODE, rax=7, rbx=2, rsp=TOP - 16), 0)
    assert dict(named(without))["exception-without-idt"] == "possible"
    assert "exception-without-idt" not in dict(named(loaded))
