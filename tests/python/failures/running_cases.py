# SPDX-License-Identifier: BSD-2-Clause
"""Machines that hang, end themselves or die of what has no name, and their near misses."""

from __future__ import annotations

import struct
from dataclasses import replace
from typing import Any, Callable

from debug.evidence import Ending, EventKind, ExceptionEvent, TableRegister
from tests.python.evidence_builder import (
    CODE64,
    DATA,
    KERNEL,
    KERNEL_PHYSICAL,
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
    UNTIL_C,
    UNTIL_PG,
    Case,
    at,
    ended,
    healthy,
)

TOP = STACKS + 5 * PAGE


# Loops and waits.


def pausing(*, both: bool) -> Machine:
    """CPU 1, and perhaps CPU 0, in a loop with PAUSE, each in one of its own."""
    machine = Machine()
    for place in (0x101100, 0x101200):
        machine.ram.write(place, b"\xf3\x90\xeb\xfc")  # pause; jmp
    if both:
        there = registers(rip=KERNEL + 0x1100, rflags=2, rsp=KERNEL + 0x9000)
        machine.bsp = replace(machine.bsp, registers=there, halted=False)
    return machine.stop(registers(rip=KERNEL + 0x1200, rflags=2, rsp=TOP - 16))


def clears(count: int, code: bytes = b"\xf3\x48\xab", *, died: bool = False) -> Machine:
    """An AP in the middle of REP STOSQ, or of another one; `died`: behind what is mapped."""
    machine = at(code, *UNTIL_C)
    machine.symbols.known["memset"] = (KERNEL + 0x1000, 0x100)
    machine.ram.write(KERNEL_PHYSICAL + 0x1000, code + b"\xc3")
    address = KERNEL + 0x800000 if died else KERNEL + 0x20000
    here = registers(rip=KERNEL + 0x1000, rcx=count, rdi=address, rsp=TOP - 16, idtr=NULL_IDT)
    if died:
        return machine.kill(here, 14, 2, address)
    return machine.stop(here, moved=True)


def looping(*, moved: bool) -> Machine:
    """CPU 0 in a loop of two instructions, or on its way through it; CPU 1 works."""
    machine = Machine()
    machine.ram.write(0x101100, b"\xff\xc0\xeb\xfc")  # inc eax; jmp
    there = registers(rip=KERNEL + 0x1100, rflags=2, rsp=KERNEL + 0x9000)
    machine.bsp = replace(machine.bsp, registers=there, halted=False, moved=moved)
    machine.ram.write(0x101200, b"\x90" * 64)
    return machine.stop(registers(rip=KERNEL + 0x1200, rsp=TOP - 16), moved=True)


def flag_waiter(*, other_has_passed: bool) -> Machine:
    """CPU 1 waits for a flag; CPU 0 spins before, or behind, the instruction that sets it."""
    machine = Machine()
    flag = KERNEL + 0x3000
    machine.ram.write(0x101200, b"\x83\x3b\x00\xf3\x90\x74\xf9")  # cmp [rbx], 0; pause; je
    code = bytearray(b"\x90" * 64)
    code[0:4] = b"\xf3\x90\xeb\xfc"  # pause; jmp
    move = b"\xc7\x04\x25" + struct.pack("<I", flag & 0xFFFFFFFF) + b"\x01\0\0\0"
    code[16 : 16 + len(move)] = move  # mov dword [flag], 1
    code[48:52] = b"\xf3\x90\xeb\xfc"
    machine.ram.write(0x101100, bytes(code))
    machine.symbols.known["release"] = (KERNEL + 0x1100, 64)
    machine.symbols.known["wait_for_flag"] = (KERNEL + 0x1200, 64)
    del machine.symbols.known["ap_entry"]
    place = KERNEL + 0x1100 + (48 if other_has_passed else 0)
    there = registers(rip=place, rflags=2, rsp=KERNEL + 0x9000)
    machine.bsp = replace(machine.bsp, registers=there, halted=False)
    return machine.stop(registers(rip=KERNEL + 0x1200, rflags=2, rbx=flag, rsp=TOP - 16))


def uncached(cr0: int) -> Machine:
    """An AP that the BSP gave up, at work in C."""
    machine = at(b"\x90" * 32, *UNTIL_C, 0xA0).trace(0, (0xC6, 1))
    return machine.stop(registers(rip=CODE, cr0=cr0, rsp=TOP - 16), moved=True)


def again(*, addresses: tuple[int, ...]) -> Machine:
    """#PF of CPU 0 at one instruction, once for each of `addresses`; each is delivered."""
    machine = Machine()
    machine.ram.write(0x101100, MOV_RAX_RBX)
    for address in addresses:
        regs = registers(rip=KERNEL + 0x1100, rbx=address, rsp=TOP - 16)
        machine.events.append(ExceptionEvent(EventKind.EXCEPTION, 14, regs, 0, address, 0, -1))
    machine.ram.write(KERNEL_PHYSICAL + 0x8000, b"\x90" * 64)
    frame = struct.pack("<5Q", KERNEL + 0x1100, CODE64, 2, TOP - 16, DATA)
    machine.ram.write(KERNEL_PHYSICAL + 0x9000, frame)
    there = registers(rip=KERNEL + 0x8010, rsp=KERNEL + 0x9000)
    machine.bsp = replace(machine.bsp, registers=there, halted=False, moved=True)
    return machine


_DEPTH = 0x150  # bytes of stack that the handler takes


def nest(times: int) -> Machine:
    """#DE, whose handler divides too, `times` times, each time deeper; then the stack ends."""
    machine = at(b"\xf7\xf3", *UNTIL_C, 0xA0)  # div ebx
    first = registers(rip=CODE, rax=7, rbx=2, rsp=TOP - 16)
    machine.events.append(ExceptionEvent(EventKind.EXCEPTION, 0, first, None, None, 1, -1))
    machine.ram.write(KERNEL_PHYSICAL + 0x8000, b"\xf7\xf3" * 8)
    for number in range(times):
        regs = registers(rip=KERNEL + 0x8004, rax=7, rbx=2, rsp=TOP - 16 - _DEPTH * (number + 1))
        machine.events.append(ExceptionEvent(EventKind.EXCEPTION, 0, regs, None, None, 1, -1))
    last = registers(rip=KERNEL + 0x8004, rax=7, rbx=2, rsp=STACKS + PAGE)
    return machine.kill(last, 14, 2, STACKS + PAGE - 8)


# Deaths of what has no name.


def divides(**values: Any) -> Machine:
    """#DE on a CPU with this IDT."""
    machine = at(b"\xf7\xf3", *UNTIL_C, 0xA0)
    return machine.kill(registers(rip=CODE, rsp=TOP - 16, **values), 0)


def refused_nop(vector: int) -> Machine:
    """A NOP that raises this: no rule says why."""
    machine = at(b"\x90\x90", *UNTIL_C, 0xA0)
    return machine.kill(registers(rip=CODE, rsp=TOP - 16, idtr=NULL_IDT), vector, 0)


def high_entry(gdt: int) -> Machine:
    """#UD at the first instructions of the higher half, in a log without memory."""
    machine = Machine()
    regs = registers(
        rip=0xFFFFFFFF80001004, rsp=0x7C00, gdtr=TableRegister(gdt, 0x1F), idtr=NULL_IDT
    )
    return machine.kill(regs, 6, cpu=0).without_memory()


def load(base: int) -> Machine:
    """A load of DS in 64-bit code, with the GDT at `base`, and the #PF where it is read."""
    machine = at(b"\x8e\xd8", *UNTIL_PG, 0x34, 0x60)  # mov ds, ax
    regs = registers(
        rip=CODE, rax=DATA, rsp=TOP - 16, gdtr=TableRegister(base, 0x1F), idtr=NULL_IDT
    )
    return machine.kill(regs, 14, 0, base + DATA)


def turns_paging_on(task: int) -> Machine:
    """`mov cr0, eax` into long mode, refused, with a TSS of this type in TR."""
    machine = at(b"\x0f\x22\xc0\x90", *UNTIL_PG)
    regs = registers(
        "prot32",
        rip=CODE,
        rax=0x80010011,
        cr3=0x10000,
        cr4=0x20,
        efer=0x100,
        tr=segment(0x20, 0x5000, 0x67, task << 8 | 0x8000),
        idtr=NULL_IDT,
    )
    return machine.kill(regs, 13, 0)


def at_the_vectors(cr3: int) -> Machine:
    """32-bit paging with the BIOS's vectors at 0; some code that they map by chance raises #GP."""
    machine = Machine()
    machine.ram.write(0, struct.pack("<I", 0xF000FF53) * 256)
    regs = registers("prot32", cr0=0x80000011, cr3=cr3, rip=0x8103, idtr=NULL_IDT)
    return machine.kill(regs, 13, 0, cpu=0)


def restarted_at_the_vectors(cr3: int) -> Machine:
    """The same, of a machine that restarted and logged nothing: the walk leaves its memory."""
    machine = at_the_vectors(cr3)
    machine.ending, machine.events = Ending.RESTARTED, []
    here = replace(machine.bsp.registers, rip=0x100039, general={})
    machine.bsp = replace(machine.bsp, registers=here, halted=False, shutdown=None)
    return machine


def early(stack: int) -> Machine:
    """32-bit code without paging that ran off into zeros, with its stack here."""
    machine = Machine()
    regs = registers("prot32", rip=0x200000, rsp=stack, ss=segment(DATA, flags=0xC09300))
    machine.bsp = replace(machine.bsp, registers=regs, halted=False, moved=True)
    return machine


# Ends.


def told(line: str) -> Callable[[], Machine]:
    """The emulator's own words, and its end."""

    def machine() -> Machine:
        made = Machine()
        made.ending, made.messages = Ending.EMULATOR_DIED, (line,)
        return made

    return machine


_ASSERTS = "translator.c:175: translator_access: Assertion `{}' failed."

CASES = (
    Case(
        "executing-zeros",
        "likely",
        told(_ASSERTS.format("phys_page != -1")),
        told(_ASSERTS.format("base != NULL")),
    ),
    Case(
        "cpus-wait-for-each-other",
        "possible",
        lambda: pausing(both=True),
        lambda: pausing(both=False),
    ),
    Case("cr3-zero", "certain", lambda: at_the_vectors(0), lambda: at_the_vectors(0x20000)),
    Case(
        "cr3-zero",
        "likely",
        lambda: restarted_at_the_vectors(0),
        lambda: restarted_at_the_vectors(0x20000),
    ),
    Case("stack-outside-memory", "likely", lambda: early(0xF8000), lambda: early(0x90000)),
    Case("endless-loop", "possible", lambda: looping(moved=False), lambda: looping(moved=True)),
    Case(
        "flag-never-set",
        "likely",
        lambda: flag_waiter(other_has_passed=False),
        lambda: flag_waiter(other_has_passed=True),
    ),
    Case("ap-caches-off", "possible", lambda: uncached(0xE0010013), lambda: uncached(0x80010013)),
    Case(
        "handler-returns-to-fault",
        "certain",
        lambda: again(addresses=(0x7000_0000,) * 20),
        lambda: again(addresses=tuple(0x7000_0000 + PAGE * n for n in range(20))),
    ),
    Case(
        "handler-faults", "certain", lambda: nest((TOP - STACKS - PAGE) // _DEPTH), lambda: nest(1)
    ),
    Case(
        "exception-undelivered",
        "certain",
        lambda: divides(idtr=NULL_IDT, rax=7, rbx=2),  # which has a quotient
        lambda: refused_nop(6),
    ),
    Case(
        "divide-error",
        "certain",
        lambda: divides(idtr=NULL_IDT, rbx=0),
        lambda: divides(idtr=NULL_IDT, rax=7, rdx=0, rbx=2),
    ),
    Case(
        "protection-fault-undelivered", "certain", lambda: refused_nop(13), lambda: refused_nop(6)
    ),
    Case("invalid-opcode-undelivered", "certain", lambda: refused_nop(6), lambda: refused_nop(13)),
    Case(
        "higher-half-wrong-frame",
        "possible",
        lambda: high_entry(0x8000),
        lambda: high_entry(0xFFFFFFFF80008000),
    ),
    Case("gdt-unmapped", "certain", lambda: load(0x70000000), lambda: load(0x6000)),
    Case(
        "tss16-at-paging",
        "certain",
        lambda: turns_paging_on(0x3),
        lambda: turns_paging_on(0xB),
    ),
    Case(
        "hypervisor-cannot-emulate",
        "likely",
        told("KVM internal error. Suberror: 1"),
        told("qemu: could not load PC BIOS"),
    ),
    Case("string-runs-away", "certain", lambda: clears(2**64 - 8), lambda: clears(0x1000)),
    Case(
        "string-runs-away",
        "certain",
        lambda: clears(2**64 - 8, died=True),
        lambda: clears(0x1000, died=True),
    ),
    Case(  # REPNE SCASB: how the length of a string is found
        "string-runs-away",
        "certain",
        lambda: clears(2**64 - 1, b"\xf3\xaa"),
        lambda: clears(2**64 - 1, b"\xf2\xae"),
    ),
    Case("exit-with-failure", "certain", lambda: ended(0x20, error=False), healthy),
)
