# SPDX-License-Identifier: BSD-2-Clause
"""What other people's machines taught: each case is as one of theirs was seen."""

from __future__ import annotations

import struct
from dataclasses import replace
from typing import Any

import pytest

from debug.evidence import (
    Cpu,
    Ending,
    EventKind,
    Evidence,
    ExceptionEvent,
    HeldLine,
    IpiEvent,
    IpiKind,
    Segment,
)
from debug.report.diagnosis import Diagnosis, diagnose
from debug.sources.qemu_ending import unanswered
from tests.python.evidence_builder import (
    GDT,
    KERNEL,
    KERNEL_PHYSICAL,
    NULL_IDT,
    PAGE,
    STACKS,
    TRAMPOLINE,
    Machine,
    Space,
    registers,
    segment,
)

CODE = KERNEL_PHYSICAL + 0x400
LONG_CODE, BYTE_OF_CODE = 0x00209A0000000000, 0x00009A0000000000
JUMP = bytes.fromhex("66 ea 00 05 10 00 08 00")[1:]  # ljmp 0x8:0x100500


def jumps(descriptor: int, efer: int, cr0: int, cr4: int) -> Diagnosis:
    """The BSP's far jump, from a flat 32-bit segment, to this descriptor is refused."""
    machine = Machine()
    machine.space.map(KERNEL_PHYSICAL, KERNEL_PHYSICAL, 4)
    machine.ram.write(CODE, JUMP)
    machine.ram.write(GDT + 8, struct.pack("<Q", descriptor))
    flat = Segment(0x18, 0, 0xFFFFFFFF, 0xC09B00)
    regs = registers(
        "prot32", rip=CODE, idtr=NULL_IDT, cs=flat, efer=efer, cr0=cr0, cr3=0x10000, cr4=cr4
    )
    return diagnose(machine.kill(regs, 13, 0, cpu=0).evidence())


def named(diagnosis: Diagnosis) -> list[tuple[str, str]]:
    return [(cause.row.id, cause.certainty.value) for cause in diagnosis.causes]


def test_a_code_segment_of_one_byte_lacks_its_l_bit() -> None:
    found = named(jumps(BYTE_OF_CODE, 0x500, 0x80000011, 0x20))
    assert found[0] == ("code-segment-l-missing", "certain")


def test_qemu_ignores_paging_without_pae_and_the_jump_to_64_bit_code_is_refused() -> None:
    found = named(jumps(LONG_CODE, 0x100, 0x11, 0))
    assert found[0] == ("pae-missing", "likely")
    assert "long-segment-too-early" not in [row for row, _ in found]


def test_a_64_bit_segment_before_long_mode_is_too_early_even_where_it_is_refused() -> None:
    assert named(jumps(LONG_CODE, 0, 0x11, 0x20))[0] == ("long-segment-too-early", "certain")


def with_ist(value: int) -> Diagnosis:
    """A healthy machine whose two TSSes have the same IST 5."""
    machine = Machine()
    for cpu, at in ((machine.bsp, KERNEL + 0x9000), (machine.ap, KERNEL + 0xA000)):
        machine.ram.write(at - KERNEL + KERNEL_PHYSICAL + 36 + 4 * 8, struct.pack("<Q", value))
        task = segment(0x28, at, 0x67, 0x8B00)
        regs = replace(cpu.registers, segments={**cpu.registers.segments, "tr": task})
        if cpu is machine.bsp:
            machine.bsp = replace(cpu, registers=regs)
        else:
            machine.ap = replace(cpu, registers=regs)
    return diagnose(machine.evidence())


def test_a_poisoned_ist_is_shared_by_nobody() -> None:
    assert named(with_ist(0x8600111111111111)) == []
    assert named(with_ist(STACKS + 2 * PAGE)) == [("ist-shared", "certain")]


def test_the_same_address_in_tables_of_each_cpu_is_not_shared() -> None:
    """Kernels that keep what is a CPU's own at one address, in tables that differ."""
    machine = Machine()
    task = segment(0x28, KERNEL + 0x9000, 0x67, 0x8B00)

    def settle(**control: int) -> list[str]:
        for name in ("bsp", "ap"):
            cpu = getattr(machine, name)
            regs = cpu.registers
            values = {**regs.control, **(control if name == "ap" else {})}
            regs = replace(
                regs,
                segments={**regs.segments, "tr": task},
                general={**regs.general, "rsp": STACKS + 2 * PAGE - 64},
                control=values,
            )
            setattr(machine, name, replace(cpu, registers=regs))
        return [row for row, _ in named(diagnose(machine.evidence()))]

    assert settle() == ["ist-shared", "stack-shared"]
    own = Space(machine.ram, 0x700000)
    own.map(KERNEL, KERNEL_PHYSICAL, 9)
    own.map(KERNEL + 0x9000, 0x780000)
    own.map(STACKS + PAGE, 0x781000, 4)
    assert settle(cr3=own.root) == []


def test_a_call_to_0_on_a_fresh_stack_is_no_cleared_stack() -> None:
    """The return address is there; that all above it is zero is what a fresh stack looks like."""
    machine = Machine()
    machine.space.unmap(0)
    machine.ram.write(KERNEL_PHYSICAL + 0x2100, b"\xff\xd0")  # call rax
    machine.ram.write(0x300FF8, struct.pack("<Q", KERNEL + 0x2102))
    machine.kill(registers(rip=0, rsp=STACKS + 2 * PAGE - 8), 14, 0x10, 0)
    found = diagnose(machine.evidence())
    assert named(found)[0] == ("entry-null", "certain")
    assert "`call rax` at" in "".join(found.causes[0].match.evidence)
    machine.ram.write(KERNEL_PHYSICAL + 0x2100, b"\x90\x90")
    assert named(diagnose(machine.evidence()))[0][0] == "stack-cleared"


def runs(mode: str, **values: Any) -> Diagnosis:
    """The AP runs where it is, and the BSP waits for it."""
    machine = Machine()
    machine.expected = 2
    machine.ram.write(0x9000, bytes(range(1, 255)))
    machine.sipi()
    return diagnose(machine.stop(registers(mode, **values), moved=True).evidence())


def test_an_ap_that_runs_on_without_lme_is_told() -> None:
    found = named(runs("prot16", rip=0x1000, cr0=0x80000011, cr3=0x10000, cr4=0x20))
    assert found[0] == ("lme-missing", "likely")
    fine = named(runs("prot16", rip=0x1000, cr0=0x11, cr3=0x10000, cr4=0x20))
    assert "lme-missing" not in [row for row, _ in fine]


def test_an_ap_in_real_mode_where_no_code_is_lacks_pae() -> None:
    found = named(runs("real", rip=0x1002F2, efer=0x100))
    assert found[0] == ("pae-missing", "likely")
    assert "pae-missing" not in [row for row, _ in named(runs("real", rip=0x100, efer=0x100))]
    flat = segment(0x08, 0x80, 0xFFFF, 0x9B00)
    jumped = named(runs("real", rip=0xFFFB, efer=0x100, cs=flat))
    assert jumped[0] == ("pae-missing", "likely")


def test_what_lies_behind_a_gap_is_no_part_of_the_table() -> None:
    def found(*beyond: int) -> str:
        machine = Machine()
        machine.ram.write(CODE, JUMP[:5] + b"\x30\0")
        machine.space.map(KERNEL_PHYSICAL, KERNEL_PHYSICAL, 4)
        machine.ram.write(GDT + 0x20, struct.pack("<3Q", *beyond))
        flat = Segment(0x18, 0, 0xFFFFFFFF, 0xC09B00)
        regs = registers("prot32", rip=CODE, idtr=NULL_IDT, cs=flat)
        return named(diagnose(machine.kill(regs, 13, 0x30, cpu=0).evidence()))[0][0]

    code, data = 0x00CF9B000000FFFF, 0x00CF93000000FFFF
    assert found(code, data, code) == "gdt-limit-too-small"
    assert found(0x1234, data, code) == "far-jump-beyond-gdt"
    assert found(code, data, data) == "far-jump-beyond-gdt"


def test_a_bsp_that_waits_for_one_cpu_has_not_forgotten_the_next() -> None:
    machine = Machine()
    machine.expected = 3
    machine.sipi()
    spinning = registers(rip=KERNEL + 0x2000)
    machine.bsp = replace(machine.bsp, registers=spinning, halted=False, moved=True)
    evidence = machine.stop(registers("real", rip=0x12), moved=True).evidence()
    firmware = registers("prot32", rip=0xFD09A)
    parked = replace(machine.ap, index=2, apic_id=2, registers=firmware, halted=True)
    diagnosis = diagnose(replace(evidence, cpus=(*evidence.cpus, parked)))
    assert diagnosis.status == "missing-cpu"
    assert ("no-sipi", "likely") not in named(diagnosis)


def test_small_stacks_beside_each_other_are_not_shared() -> None:
    def found(own: int) -> list[tuple[str, str]]:
        machine = Machine()
        regs = registers(rip=KERNEL + 2, rflags=2, rsp=KERNEL + 0x9400)
        machine.bsp = replace(machine.bsp, registers=regs)
        machine.ap = replace(machine.ap, registers=replace(regs, general={"rsp": own}))
        return named(diagnose(machine.evidence()))

    assert "stack-shared" in [row for row, _ in found(KERNEL + 0x9400)]
    assert "stack-shared" not in [row for row, _ in found(KERNEL + 0x9800)]


@pytest.mark.parametrize(
    ("apart", "alive", "dead"),
    [(0x48, "possible", "likely"), (0x3C8, "", "possible")],
)
def test_stacks_of_a_kilobyte_share_a_page_and_nothing_else(
    apart: int, alive: str, dead: str
) -> None:
    machine = Machine()
    regs = replace(machine.bsp.registers, general={"rsp": KERNEL + 0x9400})
    other = replace(regs, rip=KERNEL, general={"rsp": KERNEL + 0x9400 + apart})
    machine.bsp = replace(machine.bsp, registers=regs)
    machine.ap = replace(machine.ap, registers=other)
    assert dict(named(diagnose(machine.evidence()))).get("stack-shared", "") == alive
    machine.kill(other, 14, 0, 0x123000)
    assert dict(named(diagnose(machine.evidence()))).get("stack-shared", "") == dead


def test_a_null_stack_of_32_bit_code_is_named() -> None:
    machine = Machine()
    machine.space.map(KERNEL_PHYSICAL, KERNEL_PHYSICAL, 4)
    machine.ram.write(CODE, b"\x50")  # push eax
    flat = Segment(0x18, 0, 0xFFFFFFFF, 0xC09B00)
    machine.ram.write(0x20000, struct.pack("<I", 0x21003))
    machine.ram.write(0x21000 + 0x100 * 4, struct.pack("<I", KERNEL_PHYSICAL | 3))
    regs = registers("prot32", rip=CODE, idtr=NULL_IDT, cs=flat, cr0=0x80000011, cr3=0x20000, rsp=0)
    found = named(diagnose(machine.kill(regs, 14, 2, 0xFFFFFFFC).evidence()))
    assert found[0] == ("stack-null", "certain")


def test_a_panic_that_names_the_cpu_first_is_told_with_its_reason() -> None:
    machine = Machine()
    machine.ending = Ending.RESET
    machine.console = "(XEN) Panic on CPU 0:\r\n(XEN) no first domain\r\n(XEN) *****\r\n"
    found = diagnose(machine.evidence())
    assert found.status == "panic"
    assert "Panic on CPU 0: (XEN) no first domain" in found.causes[0].match.evidence[0]


def test_a_rex_prefix_that_was_executed_as_dec_is_64_bit_code() -> None:
    machine = Machine()
    machine.space.map(KERNEL_PHYSICAL, KERNEL_PHYSICAL, 4)
    machine.ram.write(CODE, bytes.fromhex("48 8b 04 25 f2 6b 20 80 ff e0"))
    flat = Segment(0x18, 0, 0xFFFFFFFF, 0xCF9B00)
    regs = registers(rip=CODE + 1, idtr=NULL_IDT, cs=flat)
    found = named(diagnose(machine.kill(regs, 14, 0, 0x80206BF2).evidence()))
    assert found[0] == ("compatibility-mode-left-on", "likely")


def test_a_jump_to_where_the_symbol_lies_in_memory() -> None:
    machine = Machine()
    machine.symbols.known["start_high"] = (0xFFFFFFFF80206BFA, 0x40)
    regs = registers(rip=0x206BFA, rsp=STACKS + 2 * PAGE, idtr=NULL_IDT)
    found = diagnose(machine.kill(regs, 14, 0x10, 0x206BFA).evidence())
    assert named(found)[0] == ("entry-unmapped", "certain")
    assert "start_high" in "".join(found.causes[0].match.evidence)


def test_aps_that_start_at_address_0_and_come_to_paging_were_sent_the_right_vector() -> None:
    machine = Machine().sipi(0)
    machine.expected = 2
    wild = registers("prot32", rip=0x1016669, cr0=0x80000011, cr4=0x20, efer=0x500, cr3=0x10000)
    found = named(diagnose(machine.kill(wild, 6).evidence()))
    assert "sipi-vector-zero" not in [row for row, _ in found]


def test_cpus_of_a_machine_that_is_gone_are_counted_by_what_the_log_saw_of_them() -> None:
    """It ended through isa-debug-exit, and its registers with it."""
    machine = Machine().sipi(0)
    machine.ending, machine.exit_code, machine.expected = Ending.EXITED, 1, 2
    gone = replace(machine.evidence(), cpus=())
    assert diagnose(gone).status == "unknown"
    at_work = registers(rip=KERNEL + 0x1000, rflags=0x202)
    event = ExceptionEvent(EventKind.HARDWARE_INTERRUPT, 0x20, at_work, None, None, 1)
    seen = diagnose(replace(gone, events=(event,)))
    assert seen.status == "healthy" and named(seen) == []


def polls(code: str, at: int, rdx: int) -> Diagnosis:
    """The BSP stands in such a loop, and the AP in a spin lock."""
    machine = Machine()
    machine.expected = 2
    machine.ram.write(KERNEL_PHYSICAL + 0x3000, bytes.fromhex(code))
    machine.ram.write(KERNEL_PHYSICAL + 0x4000, bytes.fromhex("f3 90 eb fc"))  # pause; jmp
    here = registers(rip=KERNEL + 0x3000 + at, rsp=KERNEL + 0x9000, rdx=rdx)
    machine.bsp = replace(machine.bsp, registers=here, halted=False, moved=False)
    spins = registers(rip=KERNEL + 0x4000, rsp=STACKS + 5 * PAGE - 16)
    return diagnose(machine.stop(spins, moved=True).evidence())


def test_a_guest_that_waits_for_a_key_is_healthy_though_others_wait_for_its_lock() -> None:
    keyboard = "ba 64 00 00 00 ec a8 01 74 f6"  # mov edx, 0x64; in al, dx; test al, 1; jz
    found = polls(keyboard, 5, 0x64)
    assert found.status == "healthy" and named(found) == []
    assert any("keyboard controller's status" in note for note in found.explanation.notes)
    panicked = "ba 64 00 00 00 ec a8 01 eb fe"  # behind it: jmp $
    assert polls(panicked, 8, 0x64).status == "hang"
    full = "ba 64 00 00 00 ec a8 02 75 f6"  # bit 1: the controller has not taken what was sent
    assert polls(full, 5, 0x64).status == "hang"


def test_a_loop_that_reads_a_disks_status_waits_for_the_disk() -> None:
    found = polls("ec a8 40 74 fb", 0, 0x1F7)
    assert found.status == "hang"
    assert named(found)[0] == ("device-not-ready", "likely")
    assert "port 0x1f7" in found.causes[0].match.evidence[0]


def test_an_mp_table_that_lists_one_cpu_of_a_socket_is_told() -> None:
    machine = Machine()
    machine.expected = 2
    machine.ipis.append(IpiEvent(IpiKind.INIT, 0, 1, by_firmware=True))
    parked = registers("prot32", rip=0xFD09A)
    machine.stop(parked, halted=True)
    table = bytearray(44 + 20 + 8)
    table[:6] = b"PCMP" + struct.pack("<H", len(table))
    table[34], table[44 + 3], table[64] = 2, 3, 1  # two entries: an enabled CPU and a bus
    table[7] = -sum(table) & 0xFF
    pointer = bytearray(b"_MP_" + struct.pack("<IBB", 0xF6000, 1, 4) + bytes(6))
    pointer[10] = -sum(pointer) & 0xFF
    machine.ram.write(0xF5000, bytes(pointer))
    machine.ram.write(0xF6000, bytes(table))
    found = diagnose(machine.evidence()).causes[0]
    assert found.row.id == "no-sipi"
    assert any("lists 1 of 2 CPUs" in line for line in found.match.evidence)
    machine.ram.write(0xF6010, b"x")  # the checksum is wrong: it may be no table
    assert not any("lists" in e for e in diagnose(machine.evidence()).causes[0].match.evidence)


def test_the_jump_to_itself_where_a_panic_ends_is_not_the_cause() -> None:
    machine = Machine()
    machine.console = "cpu0: panic: trap\n"
    machine.ram.write(KERNEL_PHYSICAL + 0x1000, b"\xeb\xfe")
    machine.stop(registers(rip=KERNEL + 0x1000, rsp=STACKS + 0x4000))
    assert named(diagnose(machine.evidence()))[0] == ("kernel-panic", "certain")


def test_cpus_behind_one_that_went_astray_miss_no_sipi() -> None:
    """The BSP starts one after the other, and waits for each."""
    machine = Machine().sipi()
    machine.expected = 3
    third = Cpu(2, registers("prot32", rip=0xFD09A), apic_id=2, halted=True, executed=True)
    spins = registers(rip=KERNEL + 0x4000, rsp=KERNEL + 0x9000)
    machine.ram.write(KERNEL_PHYSICAL + 0x4000, bytes.fromhex("f3 90 eb fc"))
    machine.bsp = replace(machine.bsp, registers=spins, halted=False)
    machine.stop(registers("prot32", rip=0x105001), moved=True)
    evidence = machine.evidence()
    found = diagnose(replace(evidence, cpus=(*evidence.cpus, third)))
    assert found.status == "missing-cpu"
    assert "no-sipi" not in [row for row, _ in named(found)]


def test_aps_that_uefi_parked_are_no_hang_while_its_drivers_run() -> None:
    """An EFI program that starts no CPU: the firmware's own IPIs are all there are."""
    machine = Machine().sipi()
    image = bytearray(0x400)
    image[:2], image[0x3C] = b"MZ", 0x80
    image[0x80:0x84], image[0x98:0x9A] = b"PE\0\0", b"\x0b\x02"
    image[0x98 + 0x38 : 0x98 + 0x3C] = struct.pack("<I", 0x8000)
    image[0x98 + 0x44] = 11
    machine.ram.write(KERNEL_PHYSICAL + 0x2000, bytes(image))
    machine.space.map(KERNEL_PHYSICAL, KERNEL_PHYSICAL, 8)
    idle = registers(rip=KERNEL_PHYSICAL + 0x4001, rflags=0x202, rsp=KERNEL + 0x9000)
    machine.bsp = replace(machine.bsp, registers=idle)
    parked = registers(rip=KERNEL + 0x5001, rflags=2, rsp=STACKS + 5 * PAGE - 16)
    found = diagnose(machine.stop(parked, halted=True).evidence())
    assert found.status == "unknown" and named(found) == [("kernel-not-reached", "likely")]
    high = replace(machine.bsp, registers=replace(idle, rip=KERNEL + 0x4001))
    assert diagnose(replace(machine.evidence(), cpus=(high, machine.ap))).status == "healthy"
    machine.ram.write(KERNEL_PHYSICAL + 0x2000, b"\0\0")
    found = diagnose(machine.evidence())
    assert found.status == "healthy"  # parked: the BSP is idle
    assert any("parked on purpose" in note for note in found.explanation.notes)


def test_a_cpu_that_halts_in_its_handler_halts_for_the_exception() -> None:
    """It was delivered, and the handler gave up without a word."""
    machine = Machine().sipi()
    machine.expected = 2
    machine.space.map(KERNEL_PHYSICAL, KERNEL_PHYSICAL, 4)
    machine.ram.write(CODE, JUMP[:5] + b"\x70\0")
    flat = Segment(0x18, 0, 0xFFFFFFFF, 0xC09B00)
    raised = registers("prot32", rip=CODE, idtr=NULL_IDT, cs=flat)
    event = ExceptionEvent(EventKind.EXCEPTION, 13, raised, 0x70, None, 1)
    machine.events.append(event)
    machine.stop(registers(rip=KERNEL + 2, rflags=2, rsp=STACKS + 5 * PAGE), halted=True)
    found = diagnose(machine.evidence())
    assert found.status == "hang"
    assert named(found)[0] == ("far-jump-beyond-gdt", "certain")
    later = ExceptionEvent(EventKind.HARDWARE_INTERRUPT, 0x20, raised, None, None, 1)
    machine.events.append(later)
    assert "far-jump-beyond-gdt" not in [row for row, _ in named(diagnose(machine.evidence()))]


def test_a_level_triggered_line_that_stays_active() -> None:
    machine = Machine().sipi()
    waits = registers(rip=KERNEL + 1, rflags=0x202, rsp=STACKS + 5 * PAGE - 16)
    evidence = machine.stop(waits, halted=True).evidence()
    found = diagnose(replace(evidence, held_lines=(HeldLine(4, 0x50, 1, 4, 2),)))
    assert (found.status, found.explanation.culprit) == ("hang", 1)
    assert named(found)[0] == ("interrupt-storm", "likely")
    once = diagnose(replace(evidence, held_lines=(HeldLine(4, 0x50, 1, 4, 1),)))
    assert once.status == diagnose(evidence).status == "healthy"


def after_pe(code: str, cpu: int) -> Diagnosis:
    """The AP behind its MOV to CR0 in real mode's code segment, and the death of `cpu`."""
    machine = Machine().sipi()
    machine.ram.write(TRAMPOLINE, bytes.fromhex(code))
    here = registers("prot16", rip=0x10, cs=segment(TRAMPOLINE >> 4, TRAMPOLINE), idtr=NULL_IDT)
    if cpu == 1:
        return diagnose(machine.kill(here, 6).evidence())
    machine.stop(here, moved=True)
    there = registers(rip=KERNEL + 0x1100, rsp=KERNEL + 0x9000, idtr=NULL_IDT)
    machine.ram.write(0x101100, b"\x0f\x0b")
    return diagnose(machine.kill(there, 6, cpu=0).evidence())


TO_32_BITS = "0f 22 c0 eb 0b" + " 00" * 11 + "66 b8 10 00 8e d8 0f 04"


def test_a_near_jump_behind_pe() -> None:
    """Old manuals have one, to empty the prefetch queue in front of the far jump."""
    assert "far-jump-missing" in [row for row, _ in named(after_pe(TO_32_BITS, 1))]
    old = "0f 22 c0 eb 0b" + " 00" * 11 + "66 ea 40 80 00 00 18 00"
    assert "far-jump-missing" not in [row for row, _ in named(after_pe(old, 1))]


def test_a_cpu_that_another_ones_death_stopped_on_its_way() -> None:
    assert "far-jump-missing" not in [row for row, _ in named(after_pe(TO_32_BITS, 0))]
    machine = Machine().sipi()
    machine.ram.write(TRAMPOLINE, b"\x90" * 8 + b"\x48\x89\xd8\x48\x01\xd8")  # mov, add
    in_between = segment(0x18, flags=0xCF9B00)  # paging is on, the far jump comes next
    machine.stop(registers(rip=TRAMPOLINE + 8, cs=in_between, idtr=NULL_IDT), moved=True)
    there = registers(rip=KERNEL + 0x1100, rsp=KERNEL + 0x9000, idtr=NULL_IDT)
    machine.ram.write(0x101100, b"\x0f\x0b")
    rows = [row for row, _ in named(diagnose(machine.kill(there, 6, cpu=0).evidence()))]
    assert rows[0] == "unreachable-reached" and "compatibility-mode-left-on" not in rows


def test_an_emulator_that_does_not_answer_is_no_dead_one() -> None:
    """A timer of 600 kHz takes all of QEMU's main loop: the monitor gets no turn."""
    end = unanswered("QMP: the reply to stop did not come in time", started=True)
    seen = Evidence(emulator="qemu", ending=end.ending, messages=end.messages)
    found = diagnose(seen)
    assert (found.status, found.causes) == ("unknown", ())
    assert "does not answer its monitor" in found.explanation.headline
    assert not end.readable
