# SPDX-License-Identifier: BSD-2-Clause
"""What small kernels without lamps taught: each with the near miss that must stay what it is."""

from __future__ import annotations

import struct
from dataclasses import replace
from typing import Optional

from debug.evidence import EventKind, ExceptionEvent, Pic, Registers, TableRegister
from debug.report.diagnosis import Diagnosis, diagnose
from tests.python.evidence_builder import (
    CODE32,
    CODE64,
    DATA,
    GDT,
    KERNEL,
    KERNEL_PHYSICAL,
    NULL_IDT,
    STACKS,
    Machine,
    registers,
    segment,
)

FLAT = segment(CODE32, flags=0xCF9B00 & 0xF0FF00)
TOP = STACKS + 0x4000  # of the AP's stack; the page below is at 0x302000
MASKED, ENABLED = 0x2, 0x202


def named(machine: Machine, pics: tuple[Pic, ...] = ()) -> tuple[str, list[tuple[str, str]]]:
    """(status, rows with their certainty)."""
    found: Diagnosis = diagnose(replace(machine.evidence(), pics=pics))
    return found.status, [(cause.row.id, cause.certainty.value) for cause in found.causes]


def bsp_at(code: str, rflags: int = MASKED, rdx: int = 0) -> Machine:
    """The BSP alone stands in this code; the AP was never started."""
    machine = Machine()
    machine.ram.write(KERNEL_PHYSICAL + 0x3000, bytes.fromhex(code))
    here = registers(rip=KERNEL + 0x3000, rflags=rflags, rsp=KERNEL + 0x9000, rdx=rdx)
    machine.bsp = replace(machine.bsp, registers=here, halted=False, moved=True)
    return machine.stop(registers("prot32", rip=0xFD09A), halted=True)


def parked(*words: int) -> Machine:
    """The AP halts for good, with these words on its stack, and the BSP is idle."""
    machine = Machine()
    machine.ram.write(0x302000, struct.pack(f"<{len(words)}Q", *words))
    return machine.stop(registers(rip=KERNEL + 2, rflags=MASKED, rsp=TOP - 0x1000), halted=True)


def test_an_ap_that_is_parked_is_no_hang_unless_it_halts_in_a_handler() -> None:
    assert named(parked(0, 0, 0)) == ("healthy", [])
    frame = (KERNEL + 1, CODE64, ENABLED, TOP - 0x1000 + 48, DATA)
    status, rows = named(parked(0, *frame))
    assert status == "hang" and rows[0] == ("halted-forever", "likely")


def test_an_interrupt_in_service_outside_of_a_handler_was_not_acknowledged() -> None:
    machine = Machine()
    busy = Pic(0x20, 0xFC, 0x01, 0x01)
    assert named(machine, (busy,)) == ("hang", [("eoi-missing", "likely")])
    assert named(machine, (replace(busy, irr=0),)) == ("healthy", [])
    frame = struct.pack("<5Q", KERNEL + 1, CODE64, ENABLED, KERNEL + 0x9028, DATA)
    machine.ram.write(KERNEL_PHYSICAL + 0x9000, frame)  # a handler that lets others in
    assert named(machine, (busy,)) == ("healthy", [])


def ticks(code: str) -> Machine:
    machine = bsp_at(code, ENABLED)
    here = machine.bsp.registers
    event = ExceptionEvent(EventKind.HARDWARE_INTERRUPT, 0x20, here, None, None, 0)
    machine.events = [event] * 64
    return machine


def test_ticks_in_a_loop_are_no_storm() -> None:
    """QEMU takes interrupts where a block of code begins: in a short loop at the same place."""
    assert named(ticks("ff c0 eb fc"))[1] == []  # inc eax; jmp
    assert named(ticks("90 90 90 90 c3"))[1] == [("interrupt-storm", "likely")]


def test_what_was_polled_before_is_not_what_is_waited_for() -> None:
    """A return address into getchar is left on the stack of a loop that waits for a disk."""
    disk = bsp_at("ec a8 08 74 fb", rdx=0x1F7)
    getchar = "e8 00 00 00 00 ba 64 00 00 00 ec a8 01 74 f6"
    disk.ram.write(KERNEL_PHYSICAL + 0x3100, bytes.fromhex(getchar))
    disk.ram.write(KERNEL_PHYSICAL + 0x8FF8, struct.pack("<Q", KERNEL + 0x3105))
    assert named(disk)[1][:1] == [("device-not-ready", "likely")] or named(disk)[0] != "healthy"
    notes = diagnose(disk.evidence()).explanation.notes
    assert not any("waits for input" in note for note in notes)
    key = bsp_at("ec a8 01 74 fb", rdx=0x64)
    assert any("waits for input" in note for note in diagnose(key.evidence()).explanation.notes)


def test_a_key_that_is_waited_for_excuses_no_cpu_that_is_lost() -> None:
    def beside(here: Registers) -> str:
        machine = bsp_at("ec a8 01 74 fb", rdx=0x64)
        machine.ap = replace(machine.ap, registers=here, halted=False, moved=True)
        return named(machine)[0]

    cr3 = Machine().bsp.registers.get("cr3") or 0
    short = registers("prot32", rip=KERNEL_PHYSICAL, cs=FLAT, cr0=0x80000011, cr3=cr3, efer=0)
    assert beside(Machine().ap.registers) == "healthy"
    assert beside(short) == "missing-cpu"
    assert beside(registers(rip=KERNEL + 0x8000)) == "hang"  # zeros


def test_a_port_that_a_function_is_given_is_what_the_loop_reads() -> None:
    inb = "89 fa ec c3"  # mov edx, edi; in al, dx; ret
    for port, word in ((0x64, True), (0x1F7, False)):
        wait = f"bf {port & 0xFF:02x} {port >> 8:02x} 00 00 e8 f6 00 00 00 a8 01 74 f2"
        machine = bsp_at(wait)
        machine.ram.write(KERNEL_PHYSICAL + 0x3100, bytes.fromhex(inb))
        notes = diagnose(machine.evidence()).explanation.notes
        assert any("waits for input" in note for note in notes) is word


def on_screen(text: str) -> Machine:
    machine = Machine()
    machine.ram.write(0xB8000, b"".join(bytes((ord(char), 7)) for char in text))
    masked = registers(rip=KERNEL + 2, rflags=MASKED, rsp=KERNEL + 0x9000)
    machine.bsp = replace(machine.bsp, registers=masked)
    return machine


def test_a_panic_on_the_text_screen_is_read_there() -> None:
    assert named(on_screen("KERNEL PANIC: no disk"))[0] == "panic"
    assert named(on_screen("no disk"))[0] == "hang"


def test_a_kernel_that_panicked_did_not_halt_on_purpose() -> None:
    machine = on_screen("")
    machine.console = "System halted.\n"
    assert named(machine)[1][0] == ("halted-on-purpose", "certain")
    machine.console = "PANIC: unhandled exception\nSystem halted.\n"
    assert named(machine)[1][0][0] != "halted-on-purpose"


def test_an_instruction_that_is_neither_executed_nor_refused_is_named() -> None:
    """QEMU 7.2 stays at a MOV to CR4 with a reserved bit, and raises nothing."""

    def writes_cr4(value: int, moved: bool) -> Machine:
        machine = bsp_at("0f 22 e0 eb fb")  # mov cr4, rax; jmp
        here = replace(
            machine.bsp.registers, general={**machine.bsp.registers.general, "rax": value}
        )
        machine.bsp = replace(machine.bsp, registers=here, moved=moved)
        return machine

    stays = named(writes_cr4(1 << 30 | 0x20, False))
    assert stays == ("hang", [("control-reserved-bits", "certain")])
    for other in (writes_cr4(0x20, False), writes_cr4(1 << 30 | 0x20, True)):
        assert "control-reserved-bits" not in dict(named(other)[1])


def halted_at(code: str, at: int, said: str = "hello") -> Machine:
    """Every CPU that runs the kernel has executed the HLT before offset `at`, and is masked."""
    machine = Machine()
    machine.ram.write(KERNEL_PHYSICAL + 0x3000, bytes.fromhex(code))
    machine.console = f"Booting from ROM..\n{said}\n"
    here = registers(rip=KERNEL + 0x3000 + at, rflags=MASKED, rsp=KERNEL + 0x9000)
    machine.bsp = replace(machine.bsp, registers=here, halted=True)
    return machine.stop(registers("prot32", rip=0xFD09A), halted=True)


def test_cli_and_hlt_side_by_side_after_a_last_line_are_an_end() -> None:
    for code, at in (("fa f4 eb fd", 2), ("90 fa f4 eb fc", 3), ("fa 90 f4 eb fb", 3)):
        assert named(halted_at(code, at)) == ("healthy", [("halted-on-purpose", "likely")]), code
    # A wait that forgot its STI, a loop that does something before CLI.
    for code, at in (("fb 90 f4 eb fd", 3), ("90 90 f4 eb fb", 3)):
        assert named(halted_at(code, at))[1] == [("halted-forever", "likely")], code


def test_an_end_after_a_complaint_or_without_a_word_may_be_none() -> None:
    for said in ("", "no ACPI tables", "Error 3", "cannot allocate", "init failed"):
        assert named(halted_at("fa f4", 2, said))[0] == "hang", said


def test_a_handler_that_halts_is_no_end() -> None:
    machine = halted_at("fa f4", 2)
    at = registers(rip=KERNEL + 0x3100, rflags=ENABLED, rsp=KERNEL + 0x9100)
    machine.events = [ExceptionEvent(EventKind.EXCEPTION, 6, at, None, None, 0)]
    assert named(machine)[0] == "hang"
    machine = halted_at("fa f4", 2)
    frame = struct.pack("<5Q", KERNEL + 1, CODE64, ENABLED, KERNEL + 0x9028, DATA)
    machine.ram.write(KERNEL_PHYSICAL + 0x9000, frame)
    assert named(machine)[0] == "hang"


def test_an_endless_jump_with_interrupts_on_may_be_meant() -> None:
    assert named(bsp_at("eb fe"))[1][0] == ("endless-jump", "certain")
    assert named(bsp_at("eb fe", ENABLED))[1][0] == ("endless-jump", "possible")


def test_a_lock_that_nobody_else_can_hold_is_held_by_the_cpu_itself() -> None:
    lock = "89 d0 87 05 f8 0f 00 00 85 c0 75 f4"  # mov eax, edx; xchg [rip], eax; test; jnz
    taken = bsp_at(lock)
    taken.ram.write(KERNEL_PHYSICAL + 0x4000, b"\1")
    assert named(taken)[1] == []  # it moved: the loop may have been left
    taken.bsp = replace(taken.bsp, moved=False)
    assert named(taken)[1][0] == ("lock-not-released", "likely")


def triple(code: str, at: int = 0x7C07, idtr: TableRegister = NULL_IDT) -> Machine:
    """The BSP dies with this IDT; `code` ends at the instruction that it stands on."""
    machine = Machine()
    machine.ram.write(0x7C00, bytes.fromhex(code))
    regs = registers("prot32", rip=at, cs=FLAT, idtr=idtr, rsp=0x9000)
    return machine.kill(regs, 3, cpu=0)


def test_a_null_idt_loaded_right_before_int3_is_a_reset() -> None:
    reset = "0f 01 1d 00 70 00 00 cc"
    assert named(triple(reset))[1][0] == ("reset-by-triple-fault", "likely")
    assert named(triple("90 90 90 90 90 90 90 cc"))[1][0] == ("idt-missing", "likely")
    named_a_table = triple(reset, idtr=TableRegister(0x7100, 0))
    assert named(named_a_table)[1][0] == ("idt-missing", "likely")


def loads_ss(*entries: int, base: int = GDT) -> Machine:
    """MOV SS with selector 0x10 is refused, with this GDT."""
    machine = Machine()
    machine.ram.write(GDT - 8, struct.pack(f"<{len(entries)}Q", *entries))
    machine.ram.write(0x7C00, b"\x8e\xd0")
    table = TableRegister(base, 0x17)
    regs = registers("prot32", rip=0x7C00, cs=FLAT, idtr=NULL_IDT, rsp=0x9000, rax=0x10)
    return machine.kill(replace(regs, gdtr=table), 13, 0x10, cpu=0)


def test_a_table_whose_base_is_8_too_high() -> None:
    code, data, user = 0x00CF9A000000FFFF, 0x00CF92000000FFFF, 0x00CFFA000000FFFF
    status, rows = named(loads_ss(0, code, data, user))
    assert rows[0] == ("gdt-base-wrong", "likely")
    assert named(loads_ss(1, 0, code, user))[1][0][0] != "gdt-base-wrong"


def test_the_bios_vectors_are_no_gdt() -> None:
    machine = Machine()
    machine.ram.write(0x200, struct.pack("<6I", *(0xF000FF53,) * 6))
    machine.ram.write(0x7C00, bytes.fromhex("ea 00 80 00 00 08 00"))
    regs = registers("prot32", rip=0x7C00, cs=FLAT, idtr=NULL_IDT, rsp=0x9000)
    dies = replace(regs, gdtr=TableRegister(0x200, 0x17))
    assert named(machine.kill(dies, 13, 8, cpu=0))[1][0] == ("gdt-base-wrong", "certain")


def test_five_levels_are_no_cause_where_the_code_would_not_be_mapped_either() -> None:
    machine = Machine()
    machine.space.set(0, machine.space.root | 3, level=3)  # what five levels would lead to
    regs = registers(rip=KERNEL + 2, rsp=KERNEL + 0x9000, idtr=NULL_IDT)
    machine.kill(regs, 14, 0, 0xFFFFFF0000000000, cpu=0)
    assert "la57-mismatch" not in [row for row, _ in named(machine)[1]]


def test_a_bit_63_of_garbage_is_not_for_want_of_nxe() -> None:
    def found(entry: int) -> str:
        machine = Machine()
        machine.space.set(0x9000, entry)
        regs = registers(rip=0x9000, rsp=KERNEL + 0x9000, idtr=NULL_IDT, efer=0x500)
        return named(machine.kill(regs, 14, 9, 0x9000, cpu=0))[1][0][0]

    assert found(1 << 63 | 0x9003) == "nxe-missing"
    assert found(0xF000FF53F000FF53) == "reserved-bit-set"


def in_low_memory(offset: int, idt: int = 0x120000) -> Machine:
    """32-bit code runs below 1 MiB, and the gates lead there."""
    machine = Machine()
    gate = offset & 0xFFFF | CODE32 << 16 | 0x8E << 40 | offset >> 16 << 48
    machine.ram.write(idt, struct.pack("<Q", gate) * 32)
    machine.ram.write(0x5000, b"\x8e\xd8")
    regs = registers("prot32", rip=0x5000, cs=FLAT, rsp=0x9000, rax=0x7777)
    gdtr = TableRegister(idt + 0x1000, 0x1F)
    machine.ram.write(idt + 0x1000, machine.ram.read(GDT, 32) or b"")
    regs = replace(regs, idtr=TableRegister(idt, 0xFF), gdtr=gdtr)
    return machine.kill(regs, 13, 0x7774, cpu=0)


def test_gates_that_all_lead_below_64_kib_lost_their_upper_halves() -> None:
    assert named(in_low_memory(0x4F00))[1][0] == ("handler-unreachable", "likely")
    assert named(in_low_memory(0x104F00))[1][0][0] != "handler-unreachable"
    assert named(in_low_memory(0x4F00, 0x20000))[1][0][0] != "handler-unreachable"


def handled(offset: Optional[int]) -> Machine:
    """A CPU slides over memory that is no code; one gate leads there without its upper half."""
    machine = Machine()
    machine.space.map(0x103000, 0x1F00000, 16)
    regs = registers(rip=0x103020, rsp=KERNEL + 0x9000)
    if offset is not None:
        machine.gate(0x20, offset)
    machine.ram.write(KERNEL_PHYSICAL + 0x3000, b"\x50\x51\x52\x53" * 8)
    machine.bsp = replace(machine.bsp, registers=regs, halted=False, moved=True)
    return machine


def test_a_cpu_that_slides_from_a_gate_went_astray_there() -> None:
    high = KERNEL + 0x3000
    low = high & 0xFFFFFFFF
    machine = handled(low)
    machine.space.map(low, 0x1F00000, 16)
    slides: Registers = replace(machine.bsp.registers, rip=low + 0x20)
    machine.bsp = replace(machine.bsp, registers=slides)
    assert named(machine)[1][0] == ("handler-unreachable", "certain")
    assert named(handled(None))[1][0][0] == "executing-zeros"


def from_tss(upper: int) -> Machine:
    """An interrupt needs a stack of the TSS, whose base has, or has not, its upper half."""
    machine = Machine()
    machine.ram.write(KERNEL_PHYSICAL + 0x9000 + 4, struct.pack("<Q", TOP))
    base = KERNEL + 0x9000 & 0xFFFFFFFF | upper
    machine.space.map(KERNEL + 0x9000 & 0xFFFFFFFF, 0x1E00000)
    task = segment(0x28, base, 0x67, 0x8B00)
    regs = registers(rip=KERNEL, rsp=0x5000, cpl=3, cs=segment(0x23, flags=0xA0FB00), tr=task)
    machine.kill(regs, 0x20, cpu=0)
    machine.events = [
        ExceptionEvent(EventKind.HARDWARE_INTERRUPT, 0x20, regs, None, None, 0),
        *machine.events[1:],
    ]
    machine.gate(8, 0, 0)
    machine.gate(14, 0, 0)
    return machine


def test_a_tss_descriptor_without_its_upper_half() -> None:
    assert named(from_tss(0))[1][0] == ("tss-unmapped", "certain")
    assert "tss-unmapped" not in [row for row, _ in named(from_tss(0xFFFFFFFF << 32))[1]]


def test_a_log_alone_shows_a_tss_without_its_upper_half() -> None:
    def logged(table: int) -> list[str]:
        machine = Machine().without_memory()
        task = segment(0x28, 0x8010E000, 0x67, 0x8B00)
        regs = registers(rip=0x201000, rsp=0x5000, cpl=3, cs=segment(0x23, flags=0xA0FB00), tr=task)
        regs = replace(regs, gdtr=TableRegister(table, 0x47))
        machine.kill(regs, 14, 2, 0xFFFFFFFFFFFFFFF8, cpu=0)
        tick = ExceptionEvent(EventKind.HARDWARE_INTERRUPT, 0x20, regs, None, None, 0)
        machine.events.insert(0, tick)
        return [row for row, _ in named(machine)[1]]

    assert logged(KERNEL + 0x10D000)[0] == "tss-unmapped"
    assert "tss-unmapped" not in logged(0x10D000)


def test_a_target_that_holds_the_code_selector_is_two_gates() -> None:
    def jumped(rip: int) -> str:
        machine = Machine().without_memory()
        return named(machine.kill(registers(rip=rip, rsp=KERNEL + 0x9000), 13, 0, cpu=0))[1][0][0]

    assert jumped(0x0008B0350010B02A) == "gate-layout-glued"
    assert jumped(0x1234B0350010B02A) == "jump-non-canonical"


def test_aps_that_a_bios_parks_in_low_memory_miss_nothing_before_a_kernel_runs() -> None:
    machine = Machine().sipi(0x9F)
    rom = segment(0xF000, 0xF0000, 0xFFFF, 0x9B00)
    bsp = registers("real", rip=0x872, cs=rom)
    machine.bsp = replace(machine.bsp, registers=bsp, halted=False, moved=True)
    page = segment(0x9F00, 0x9F000, 0xFFFF, 0x9B00)
    for place in (0x9F000, 0xF0800):
        machine.ram.write(place, bytes(range(1, 200)))
    machine.stop(registers("real", rip=0x48, cs=page), halted=True)
    machine.ram.write(0xB8000, b"".join(bytes((c, 7)) for c in b"No bootable device.".ljust(80)))
    assert named(machine) == ("unknown", [("kernel-not-reached", "likely")])
    told = diagnose(machine.evidence()).causes[0].match.evidence
    assert 'the last line on the screen is "No bootable device."' in told
    machine.stop(registers("prot32", rip=0x8048), halted=True)
    assert named(machine)[0] != "unknown"


def test_a_cpu_that_has_pushed_nothing_lost_no_stack() -> None:
    def died(rip: int) -> list[str]:
        machine = Machine()
        machine.ram.write(0x7C00, bytes.fromhex("0f 0b") + bytes(range(1, 30)))
        regs = registers("prot32", rip=rip, cs=FLAT, idtr=NULL_IDT, rsp=0)
        return [row for row, _ in named(machine.kill(regs, 6, cpu=0))[1]]

    assert "stack-outside-memory" not in died(0x7C00)
    assert "stack-outside-memory" in died(0x30000)


def test_of_several_aps_without_init_none_is_held_up_by_the_other() -> None:
    machine = Machine().sipi(init=False)
    machine.expected = 3
    parked_by_bios = registers("prot32", rip=0xFD09A)
    spins = registers(rip=KERNEL + 0x4000, rsp=KERNEL + 0x9000)
    machine.ram.write(KERNEL_PHYSICAL + 0x4000, bytes.fromhex("f3 90 eb fc"))
    machine.bsp = replace(machine.bsp, registers=spins, halted=False)
    machine.sipi(to=2, init=False)
    machine.stop(parked_by_bios, halted=True)
    evidence = machine.evidence()
    third = replace(machine.ap, index=2, apic_id=2)
    found = diagnose(replace(evidence, cpus=(*evidence.cpus, third)))
    assert found.causes[0].row.id == "init-not-sent"


def test_the_vectors_are_not_executed_by_a_kernel_at_work() -> None:
    machine = Machine()
    machine.ram.write(0, b"\x53\xff\x00\xf0" * 64)
    lost = registers("prot32", rip=0x10, cs=FLAT, rsp=0x9000)
    machine.bsp = replace(machine.bsp, registers=lost, halted=False, moved=True)
    assert named(machine)[0] == "hang"
    machine.bsp = replace(machine.bsp, registers=replace(lost, rip=0x8010))
    assert named(machine)[0] != "hang"
