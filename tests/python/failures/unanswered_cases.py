# SPDX-License-Identifier: BSD-2-Clause
"""CPUs that wait for what an interrupt, a lock or a barrier keeps from them, and near misses."""

from __future__ import annotations

import struct
from dataclasses import replace

from debug.evidence import LocalApic
from tests.python.evidence_builder import KERNEL, KERNEL_PHYSICAL, PAGE, STACKS, Machine, registers
from tests.python.failures.row_cases import Case

LOOP, WORD = KERNEL + 0x1000, KERNEL + 0x3000
TOP = STACKS + 5 * PAGE
ON = 0x1FF  # SVR
SENT = 1 << 56 | 0x4041  # vector 0x41 to APIC ID 1
LOGICAL = SENT | 1 << 11
OFF, ALLOWED = 2, 0x202  # RFLAGS


def low(address: int) -> bytes:
    return struct.pack("<I", address & 0xFFFFFFFF)


def waiter(
    code: bytes, value: int = 0, rflags: int = ALLOWED, rsp: int = KERNEL + 0x9000
) -> Machine:
    """CPU 0 stands in this loop, in a kernel without symbols; CPU 1 is idle."""
    machine = Machine()
    machine.symbols.known = {}
    machine.ram.write(0x101000, code)
    machine.ram.write(0x103000, struct.pack("<I", value))
    there = registers(rip=LOOP, rflags=rflags, rsp=rsp, rdi=WORD)
    machine.bsp = replace(machine.bsp, registers=there, halted=False, moved=False)
    return machine


def answer(
    icr: int = SENT, rflags: int = ALLOWED, ap: LocalApic = LocalApic(svr=ON, tpr=0, ldr=0, dfr=15)
) -> Machine:
    """CPU 0 waits for a word, and `icr` is the last IPI that it sent."""
    # pause; cmp dword [WORD], 0; je
    machine = waiter(b"\xf3\x90\x83\x3c\x25" + low(WORD) + b"\0\x74\xf4")
    mine = LocalApic(apic_id=0, svr=ON, icr=icr, tpr=0, ldr=0, dfr=15)
    machine.bsp = replace(machine.bsp, apic=mine)
    idle = replace(machine.ap.registers, rflags=rflags)
    machine.ap = replace(machine.ap, registers=idle, apic=replace(ap, apic_id=1))
    if rflags == OFF:  # at work, with interrupts off
        machine.ram.write(0x101200, b"\x90" * 64)
        there = registers(rip=KERNEL + 0x1200, rflags=OFF, rsp=TOP - 16)
        machine.ap = replace(machine.ap, registers=there, halted=False, moved=True)
    return machine


def pending(tpr: int = 0, isr: tuple[int, ...] = (), svr: int = ON) -> LocalApic:
    return LocalApic(svr=svr, tpr=tpr, ldr=2, dfr=15, irr=(0x41,), isr=isr)


def ticks(tpr: int) -> Machine:
    """CPU 0 waits for its own timer's handler, whose interrupt is pending."""
    machine = answer(icr=0x608)
    assert machine.bsp.apic is not None
    held = replace(machine.bsp.apic, tpr=tpr, irr=(0x20,), isr=())
    machine.bsp = replace(machine.bsp, apic=held)
    return machine


TRY = bytes.fromhex("b801000000 8707 85c0 75f5")  # mov eax, 1; xchg [rdi], eax; test eax, eax; jnz


def lock(*, interrupted: bool) -> Machine:
    """CPU 0 waits for a lock with interrupts off, in a handler or not."""
    machine = waiter(TRY, 1, OFF)
    if interrupted:
        machine.ram.write(0x101300, b"\x90" * 16)
        frame = (KERNEL + 0x1300, 8, ALLOWED, KERNEL + 0x9000 + 5 * 8, 0x10)
        machine.ram.write(0x109000, struct.pack("<5Q", *frame))
    return machine


def barrier(inside: int, *, moved: bool = False) -> Machine:
    """CPU 0 and 1 wait until WORD is 4, with so many counted; a third CPU is idle."""
    # pause; cmp dword [WORD], 3; jbe
    machine = waiter(b"\xf3\x90\x83\x3c\x25" + low(WORD) + b"\x03\x76\xf4", inside)
    machine.ram.write(0x101100, b"\xf0\xff\x04\x25" + low(WORD) + b"\xc3")  # lock inc
    there = replace(machine.bsp.registers, general={"rsp": TOP - 16})
    return machine.stop(there, moved=moved)


def two_locks(second: int) -> Machine:
    """CPU 0 waits for the lock at WORD, CPU 1 for the one at `second`."""
    machine = waiter(TRY, 1)
    machine.ram.write(second - KERNEL + 0x100000, struct.pack("<I", 1))
    there = replace(machine.bsp.registers, general={"rsp": TOP - 16, "rdi": second})
    return machine.stop(there, moved=False)


def in_two_pages(value: int) -> Machine:
    """CPU 0 waits for the flag at WORD; in the tables of CPU 1 it is in another page."""
    machine = waiter(b"\xf3\x90\x83\x3c\x25" + low(WORD) + b"\0\x74\xf4")
    machine.ap_space.map(KERNEL, KERNEL_PHYSICAL, 64)
    machine.ap_space.map(WORD, 0x200000)
    machine.ram.write(0x200000, struct.pack("<I", value))
    other = machine.ap.registers
    control = {**other.control, "cr3": machine.ap_space.root}
    machine.ap = replace(machine.ap, registers=replace(other, control=control))
    return machine


CASES = (
    Case("shared-word-in-two-pages", "likely", lambda: in_two_pages(1), lambda: in_two_pages(0)),
    Case(
        "task-priority-too-high",
        "likely",
        lambda: answer(ap=pending(tpr=0xFF)),
        lambda: answer(ap=pending(tpr=0x3F)),
    ),
    Case("task-priority-too-high", "likely", lambda: ticks(0xF0), lambda: ticks(0x10)),
    Case(
        "interrupt-to-nobody",
        "likely",
        lambda: answer(LOGICAL),
        lambda: answer(LOGICAL, ap=LocalApic(svr=ON, tpr=0, ldr=1, dfr=15)),
    ),
    Case("interrupt-to-nobody", "likely", lambda: answer(7 << 56 | 0x4041), answer),
    Case("interrupt-to-nobody", "likely", lambda: answer(0x4041), answer),
    Case("interrupt-to-nobody", "possible", lambda: answer(2 << 32 | 0x4041), answer),
    Case(
        "ap-apic-off",
        "likely",
        lambda: answer(ap=LocalApic(svr=0xFF, tpr=0, ldr=0, dfr=15)),
        answer,
    ),
    Case(
        "eoi-missing",
        "likely",
        lambda: answer(ap=pending(isr=(0x42,))),
        lambda: answer(ap=pending()),
    ),
    Case(
        "ipi-not-answered",
        "likely",
        lambda: answer(rflags=OFF, ap=pending()),
        lambda: answer(SENT ^ 1, rflags=OFF, ap=pending()),
    ),
    Case(
        "lock-taken-twice",
        "likely",
        lambda: lock(interrupted=True),
        lambda: lock(interrupted=False),
    ),
    Case("deadlock", "likely", lambda: two_locks(WORD + 64), lambda: two_locks(WORD)),
    Case("lock-not-released", "likely", lambda: two_locks(WORD), lambda: two_locks(WORD + 64)),
)
