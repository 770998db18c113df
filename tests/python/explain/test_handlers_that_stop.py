# SPDX-License-Identifier: BSD-2-Clause
"""A kernel whose handler was reached, and halts: the exception is the cause, not the halt."""

from __future__ import annotations

import struct
from dataclasses import replace

from debug.evidence import EventKind, ExceptionEvent, Registers, TableRegister
from debug.report.diagnosis import diagnose
from tests.python.evidence_builder import (
    CODE64,
    IDT,
    KERNEL,
    KERNEL_PHYSICAL,
    PAGE,
    USER,
    WRITE,
    Machine,
    registers,
    segment,
)

MASKED, ENABLED = 0x2, 0x202
HALT, STACK, PROGRAM = KERNEL + 0x8010, KERNEL + 0x9000, 0x400000
USER_CODE, USER_DATA = segment(0x2B, flags=0xA0FB00), segment(0x33, flags=0xC0F300)


def halts_in_handler(
    fault: ExceptionEvent, frame: bool = True, error: bool = True, code: int = CODE64
) -> Machine:
    """The BSP halts in a handler, with the frame of `fault` on its stack, or without one."""
    machine = Machine()
    machine.ram.write(KERNEL_PHYSICAL + 0x8010, b"\xfa\xf4\xeb\xfd")
    then = fault.registers
    words = [fault.error_code or 0] if error else []
    words += [then.rip or 0, code, then.rflags or 0, then.get("rsp") or 0, 0x10]
    if frame:
        machine.ram.write(KERNEL_PHYSICAL + 0x8F00, struct.pack(f"<{len(words)}Q", *words))
    now = registers(rip=HALT + 2, rflags=MASKED, rsp=KERNEL + 0x8F00)
    machine.bsp = replace(machine.bsp, registers=now)
    machine.events.append(fault)
    return machine


def rows(machine: Machine) -> list[tuple[str, str]]:
    diagnosis = diagnose(machine.evidence())
    return [(cause.row.id, cause.certainty.value) for cause in diagnosis.causes]


def reads_nothing() -> ExceptionEvent:
    """The kernel reads what no table maps, named by the instruction itself."""
    regs = registers(rip=KERNEL + 0x100, rflags=ENABLED, rsp=KERNEL + 0x8F30)
    return ExceptionEvent(EventKind.EXCEPTION, 14, regs, 0, 0x7000000, 0)


def halts_for_a_read(frame: bool) -> Machine:
    machine = halts_in_handler(reads_nothing(), frame)
    machine.ram.write(KERNEL_PHYSICAL + 0x100, bytes.fromhex("a1 00 00 00 07 00 00 00 00"))
    return machine


def test_a_fault_without_a_name_is_what_the_kernel_halts_for() -> None:
    diagnosis = diagnose(halts_for_a_read(frame=True).evidence())
    (cause,) = diagnosis.causes
    assert (cause.row.id, cause.certainty.value) == ("handler-gave-up", "certain")
    assert any("read of 0x7000000" in line for line in cause.match.evidence)


def test_a_fault_that_was_mended_is_not() -> None:
    found = rows(halts_for_a_read(frame=False))
    assert [row for row, _ in found] == ["halted-forever"]


def program(data: str, vector: int, error_code: int, cr2: int | None = None) -> ExceptionEvent:
    """A program in ring 3 raises an exception with its first instruction."""
    regs = registers(
        rip=PROGRAM, rflags=ENABLED, rsp=PROGRAM + PAGE, cs=USER_CODE, ss=USER_DATA, cpl=3
    )
    return ExceptionEvent(EventKind.EXCEPTION, vector, regs, error_code, cr2, 0)


def runs(machine: Machine, code: str, flags: int = WRITE | USER) -> Machine:
    machine.ram.write(0x180000, bytes.fromhex(code))
    machine.space.map(PROGRAM, 0x180000, 1, flags)
    for level in (3, 2, 1):
        at = machine.space.entry_address(PROGRAM, level)
        (entry,) = struct.unpack("<Q", machine.ram.read(at, 8) or bytes(8))
        machine.ram.write(at, struct.pack("<Q", entry | USER))
    return machine


def test_a_program_on_a_page_without_the_user_bit() -> None:
    machine = halts_in_handler(program("90", 14, 5, PROGRAM), code=0x2B)
    assert rows(runs(machine, "90", WRITE))[0] == ("user-page-protection", "certain")


def test_a_program_that_was_ended_is_not_why_the_kernel_halts() -> None:
    machine = halts_in_handler(program("90", 14, 5, PROGRAM), frame=False, code=0x2B)
    assert [row for row, _ in rows(runs(machine, "90", WRITE))] == ["halted-forever"]


def test_cli_in_a_program_is_told() -> None:
    machine = runs(halts_in_handler(program("fa", 13, 0), code=0x2B), "fa")
    diagnosis = diagnose(machine.evidence())
    assert "cli at CPL 3 with IOPL 0" in diagnosis.explanation.chain[0].headline


def system_call(dpl: int) -> Machine:
    """INT 80h of a program, whose gate has this DPL, ends in #GP."""
    fault = program("cd 80", 13, 0x402)
    machine = runs(halts_in_handler(fault, code=0x2B), "cd 80")
    machine.gate(0x80, KERNEL + 0x8000, 0x8E | dpl << 5)
    call = replace(fault, kind=EventKind.SOFTWARE_INTERRUPT, vector=0x80, error_code=None)
    machine.events.insert(0, call)
    return machine


def test_a_system_call_whose_gate_is_the_kernels_alone() -> None:
    assert rows(system_call(0))[0] == ("gate-privilege", "certain")
    assert rows(system_call(3))[0][0] != "gate-privilege"


def in_task(regs: Registers, selector: int) -> Registers:
    return replace(regs, segments={**regs.segments, "tr": segment(selector, KERNEL, 0x67, 0x8B00)})


def test_a_task_gate_leads_to_a_handler_without_a_frame() -> None:
    """#DF by a task gate: TR is another task's, and the stack a fresh one."""
    fault = program("cd 80", 8, 0)
    machine = runs(halts_in_handler(fault, frame=False), "cd 80")
    machine.events[-1] = replace(fault, registers=in_task(fault.registers, 0x28))
    machine.bsp = replace(machine.bsp, registers=in_task(machine.bsp.registers, 0x28))
    assert "handler-gave-up" not in [row for row, _ in rows(machine)]
    machine.bsp = replace(machine.bsp, registers=in_task(machine.bsp.registers, 0x30))
    assert rows(machine)[0] == ("handler-gave-up", "likely")


def returns_in_32_bits(rflags: int) -> Machine:
    """IRET of 32-bit code pops a null CS, and #DF has a task gate, as it should."""
    machine = Machine()
    machine.ram.write(0x5000, b"\xcf")
    machine.ram.write(IDT, bytes(9 * 8))
    machine.ram.write(IDT + 8 * 8, struct.pack("<Q", 0x30 << 16 | 0x85 << 40))
    machine.ram.write(0x9000, struct.pack("<4I", 0x81234, 0, 0x202, 0))
    flat = segment(0x18, 0, 0xFFFFFFFF, 0xC09B00)
    idtr = TableRegister(IDT, 0x47)
    regs = registers("prot32", rip=0x5000, cs=flat, rsp=0x9000, idtr=idtr, rflags=rflags)
    return machine.kill(regs, 13, 0, cpu=0)


def test_the_task_gate_of_the_double_fault_is_not_to_blame_for_another_iret() -> None:
    assert rows(returns_in_32_bits(0x2))[0][0] == "iret-frame-bad"


def test_a_handler_that_spins_is_no_wait_for_an_ap() -> None:
    machine = halts_for_a_read(frame=True)
    machine.ram.write(KERNEL_PHYSICAL + 0x8010, b"\xf3\x90\xeb\xfc")  # pause; jmp
    regs = replace(machine.bsp.registers, rip=HALT)
    machine.bsp = replace(machine.bsp, registers=regs, halted=False, moved=False)
    assert rows(machine) == [("handler-gave-up", "certain")]


def halved(address: int) -> Machine:
    """The kernel reads per-CPU data through a GS base of 32 bits, and halts for the fault."""
    regs = registers(rip=KERNEL + 0x100, rflags=ENABLED, rsp=KERNEL + 0x8F30, gs_base=address)
    fault = ExceptionEvent(EventKind.EXCEPTION, 14, regs, 0, address, 0)
    machine = halts_in_handler(fault)
    machine.ram.write(KERNEL_PHYSICAL + 0x100, bytes.fromhex("65 48 8b 1c 25 00 00 00 00"))
    return machine


def test_a_gs_base_without_its_upper_half() -> None:
    diagnosis = diagnose(halved(0x80009000).evidence())
    cause = diagnosis.causes[0]
    assert (cause.row.id, cause.certainty.value) == ("sign-extension-lost", "likely")
    assert "GS base is without them" in cause.match.evidence
    assert "sign-extension-lost" not in [row for row, _ in rows(halved(0x90009000))]


def test_iretd_whose_stack_pointer_the_emulator_cuts() -> None:
    """QEMU reads the frame at ESP: the page fault comes before a selector is looked at."""
    regs = registers(rip=KERNEL + 0x100, rflags=MASKED, rsp=KERNEL + 0x8E00)
    fault = ExceptionEvent(EventKind.EXCEPTION, 14, regs, 0, 0x80008E00, 0)
    machine = halts_in_handler(fault)
    machine.ram.write(KERNEL_PHYSICAL + 0x100, b"\xcf")
    frame = (KERNEL + 0x200, CODE64, ENABLED, KERNEL + 0x8E28, 0x10)
    machine.ram.write(KERNEL_PHYSICAL + 0x8E00, struct.pack("<5Q", *frame))
    assert rows(machine)[0] == ("iret-without-rex", "certain")


def test_a_bsp_does_not_wait_for_what_another_cpu_halted_for() -> None:
    """The BSP polls with interrupts off; the AP took an exception, and its handler halts."""
    machine = halts_for_a_read(frame=True)
    stuck, fault = machine.bsp, machine.events[-1]
    loop = registers(rip=KERNEL + 0x300, rflags=MASKED, rsp=KERNEL + 0x9E00)
    machine.ram.write(KERNEL_PHYSICAL + 0x300, bytes.fromhex("83 3c 25 00 0a 00 80 00 74 f6"))
    machine.bsp = replace(stuck, registers=loop, halted=False, moved=False)
    machine.ap = replace(machine.ap, registers=stuck.registers, halted=True)
    machine.events[-1] = replace(fault, cpu=1)
    found = rows(machine)
    assert found[0] == ("handler-gave-up", "certain")
    assert "waits-with-interrupts-off" not in dict(found)


def test_an_ap_that_went_astray_is_what_the_report_is_about() -> None:
    machine = Machine()
    loop = registers(rip=KERNEL + 0x300, rflags=MASKED, rsp=KERNEL + 0x9E00)
    machine.ram.write(KERNEL_PHYSICAL + 0x300, b"\xf3\x90\xeb\xfc")
    machine.bsp = replace(machine.bsp, registers=loop, halted=False, moved=False)
    machine.space.map(0x700000, 0x700000)
    machine.stop(registers(rip=0x700100, rsp=KERNEL + 0x9000), moved=True)
    diagnosis = diagnose(machine.evidence())
    assert diagnosis.causes[0].row.id == "executing-zeros"
    assert diagnosis.explanation.culprit == 1
