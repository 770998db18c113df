# SPDX-License-Identifier: BSD-2-Clause
"""A BSP that waits for CPUs: nobody started them, or there are no more of them."""

from __future__ import annotations

import struct
from dataclasses import replace

import pytest

from debug.evidence import IpiEvent, IpiKind, LocalApic, Pic
from debug.explain.model import CpuState
from debug.report.diagnosis import Diagnosis, diagnose
from tests.python.evidence_builder import (
    KERNEL,
    PAGE,
    RESET_IDT,
    STACKS,
    TRAMPOLINE,
    Machine,
    registers,
    segment,
)

LOOP, ENTRY, OTHER, COUNT = (KERNEL + offset for offset in (0x1000, 0x1100, 0x1200, 0x3000))
# cli; lgdt [0x8080]; mov eax, cr0; or al, 1; mov cr0, eax; ljmp 8:0x8018
SWITCH = bytes.fromhex("fa 0f01168080 0f20c0 0c01 0f22c0 66ea188000000800")
FIRMWARE_SIPI = IpiEvent(IpiKind.SIPI, 0, None, "all-but-self", 0x10, by_firmware=True)


def low(address: int) -> bytes:
    return struct.pack("<I", address & 0xFFFFFFFF)


COUNTS = b"\xf0\xff\x04\x25" + low(COUNT)  # lock inc dword [COUNT]


def waits_for(wanted: int, value: int = 0, rflags: int = 2) -> Machine:
    """CPU 0, in a kernel without symbols or lamps, waits until COUNT has been raised to `wanted`."""
    machine = Machine()
    machine.symbols.known = {}
    machine.ram.write(
        0x101000, b"\xf3\x90\x83\x3c\x25" + low(COUNT) + bytes([wanted]) + b"\x72\xf4"
    )
    machine.ram.write(0x103000, struct.pack("<I", value))
    there = registers(rip=LOOP, rflags=rflags, rsp=KERNEL + 0x9000)
    machine.bsp = replace(machine.bsp, registers=there, halted=False, moved=False)
    return machine


def unstarted(wanted: int = 1, rflags: int = 2, counted_at: int = ENTRY) -> Machine:
    """The AP is where the firmware left it, and a trampoline that leads to ENTRY lies ready."""
    machine = waits_for(wanted, rflags=rflags)
    machine.ram.write(TRAMPOLINE, bytes(PAGE))
    machine.ram.write(TRAMPOLINE, SWITCH + b"\x48\xc7\xc0" + low(ENTRY) + b"\xff\xe0")
    machine.ram.write(0x101100, b"\xf4\xeb\xfd")  # hlt; jmp
    machine.ram.write(counted_at - KERNEL + 0x100000, COUNTS + b"\xfa\xf4")
    machine.ipis.append(FIRMWARE_SIPI)
    in_rom = registers("real", rip=0xD09A, cs=segment(0xF000, 0xF0000, 0xFFFF, 0x9B00))
    return machine.stop(replace(in_rom, idtr=RESET_IDT), halted=True)


def counted(wanted: int, value: int, place: int) -> Machine:
    """The AP stands at this offset of `lock inc [COUNT]; cli; hlt; jmp $`, halted on the HLT."""
    machine = waits_for(wanted, value)
    machine.ram.write(0x101100, COUNTS + b"\xfa\xf4\xeb\xfe")
    there = registers(rip=ENTRY + place, rflags=2, rsp=STACKS + 0x4000)
    return machine.stop(there, halted=place == len(COUNTS) + 2, moved=False)


BEFORE, HALTED = 0, len(COUNTS) + 2


def causes(machine: Machine) -> list[tuple[str, str]]:
    return [(one.row.id, one.certainty.value) for one in diagnose(machine.evidence()).causes]


def evidence_of(diagnosis: Diagnosis) -> str:
    return " ".join(diagnosis.causes[0].match.evidence)


def on_a_tick(timer: int) -> dict[str, str]:
    """The BSP waits, interrupts on, for a word that nobody names; all sources of one are off."""
    machine = waits_for(3, rflags=0x202)
    apic = LocalApic(apic_id=0, svr=0x1FF, lvt={"lint0": 0x10700, "timer": timer}, timer_initial=0)
    machine.bsp = replace(machine.bsp, apic=apic)
    machine.ap = replace(machine.ap, apic=replace(apic, apic_id=1))
    machine.pics = (Pic(0x20, 0xFF, 0, 0), Pic(0x28, 0xFF, 0, 0))
    machine.io_apics = ((1 << 16,) * 24,)
    return dict(causes(machine))


def test_a_timer_that_was_never_started_is_not_an_ap_that_is_not_seen() -> None:
    """It was unmasked; with none unmasked the BSP may as well wait for the idle AP."""
    assert on_a_tick(0x20020)["interrupt-cannot-come"] == "likely"
    assert "cpu-there-not-seen" not in on_a_tick(0x20020)
    assert on_a_tick(0x10000)["interrupt-cannot-come"] == "possible"


@pytest.mark.parametrize("rflags", [2, 0x202])
def test_what_only_the_aps_would_write_is_not_a_missing_sti(rflags: int) -> None:
    machine = unstarted(rflags=rflags)
    assert causes(machine)[0] == ("no-sipi", "likely")
    assert "waits-with-interrupts-off" not in dict(causes(machine))
    lines = evidence_of(diagnose(machine.evidence()))
    assert f"a trampoline lies ready at {TRAMPOLINE:#x}" in lines
    assert f"which the APs write: {ENTRY:#x}: lock inc" in lines


def test_without_a_log_the_last_ipi_is_the_firmwares() -> None:
    machine = unstarted()
    machine.ipis.clear()
    machine.bsp = replace(machine.bsp, apic=LocalApic(apic_id=0, icr=0xC4610))
    assert causes(machine)[0] == ("no-sipi", "likely")
    machine.bsp = replace(machine.bsp, apic=LocalApic(apic_id=0, icr=1 << 56 | 0x608))
    assert "no-sipi" not in dict(causes(machine))


def test_the_msr_of_x2apic_mode_is_named() -> None:
    # mov ecx, 0x830; mov eax, 0x4500; mov edx, 1; wrmsr
    writes = bytes.fromhex("b930080000 b800450000 ba01000000 0f30")
    machine = unstarted()
    machine.ram.write(0x101300, writes)
    assert f"MSR 830H, the ICR of x2APIC mode, is written at {KERNEL + 0x130F:#x}" in evidence_of(
        diagnose(machine.evidence())
    )
    # mov ebx, 0x830; mov ecx, ebx: as a compiler does that writes it more than once
    machine.ram.write(0x101300, bytes.fromhex("bb30080000 b800450000 ba01000000 89d9 0f30"))
    assert "MSR 830H" in evidence_of(diagnose(machine.evidence()))
    machine.ram.write(0x101400, b"\xc7\x04\x25" + struct.pack("<I", 0xFEE00300))
    assert "MSR 830H" not in evidence_of(diagnose(machine.evidence()))


def test_nobody_names_the_word() -> None:
    """Interrupts off: the APs, or a handler that can't run.  Interrupts on: a handler may come."""
    off = unstarted(counted_at=KERNEL + 0x30000)  # too far away to be found
    assert causes(off)[:2] == [("no-sipi", "likely"), ("waits-with-interrupts-off", "likely")]
    on = unstarted(counted_at=KERNEL + 0x30000, rflags=0x202)
    assert ("no-sipi", "likely") not in causes(on)


def test_a_word_that_other_code_writes_is_not_the_aps() -> None:
    machine = unstarted(counted_at=OTHER)  # a timer's handler, to which no trampoline leads
    assert causes(machine)[0] == ("waits-with-interrupts-off", "likely")
    assert ("no-sipi", "likely") not in causes(machine)


def test_a_kernel_of_one_cpu_is_not_accused() -> None:
    machine = unstarted()
    machine.ram.write(TRAMPOLINE, bytes(PAGE))
    assert causes(machine)[0] == ("waits-with-interrupts-off", "likely")
    assert ("no-sipi", "likely") not in causes(machine)


def test_every_cpu_has_counted_itself() -> None:
    machine = counted(4, 1, HALTED)
    assert causes(machine) == [("waits-for-more-cpus", "likely")]
    lines = evidence_of(diagnose(machine.evidence()))
    assert f"CPU 0 waits at {LOOP:#x} until {COUNT:#x} is 4; it is 1" in lines
    assert "CPU 1: the only one is up, and has passed that instruction" in lines


LOADED = b"\x8b\x04\x25" + low(COUNT)  # mov eax, [COUNT]
STORED = b"\x89\x04\x25" + low(COUNT)  # mov [COUNT], eax


@pytest.mark.parametrize(
    "middle, row",
    [(b"\x83\xc0\x01", "waits-for-more-cpus"), (b"\x83\xe0\x01", "cpu-there-not-seen")],
)
def test_a_count_without_an_atomic_instruction(middle: bytes, row: str) -> None:
    """The APs count under a lock: load, add (or and), store; then they idle."""
    machine = waits_for(4, 1)
    machine.ram.write(0x101100, LOADED + middle + STORED + b"\xfb\xf4\xeb\xfc")
    place = ENTRY + len(LOADED + middle + STORED) + 2
    there = registers(rip=place, rflags=0x202, rsp=STACKS + 0x4000)
    assert causes(machine.stop(there, halted=True, moved=False))[0][0] == row


def test_an_ap_that_parks_in_a_jump_to_itself_is_not_the_cause() -> None:
    machine = counted(4, 1, len(COUNTS))
    machine.ram.write(0x101100 + len(COUNTS), b"\xeb\xfe")
    assert causes(machine) == [("waits-for-more-cpus", "likely")]


def test_a_number_in_a_register_and_a_bsp_that_counts_itself() -> None:
    machine = counted(4, 2, HALTED)
    # pause; mov eax, [COUNT]; cmp eax, ebx; jb
    code = b"\xf3\x90\x8b\x04\x25" + low(COUNT) + b"\x39\xd8\x72\xf3"
    machine.ram.write(0x101000, code)
    there = registers(rip=LOOP, rflags=2, rsp=KERNEL + 0x9000, rbx=3)
    machine.bsp = replace(machine.bsp, registers=there)
    assert causes(machine)[0] == ("waits-for-more-cpus", "likely")
    assert "is 3; it is 2" in evidence_of(diagnose(machine.evidence()))


def test_an_ap_before_the_instruction_that_counts_is_the_one_that_is_missing() -> None:
    machine = counted(2, 1, BEFORE)  # the BSP counted itself
    assert "waits-for-more-cpus" not in dict(causes(machine))


def test_an_ap_that_was_not_started_is_the_one_that_is_missing() -> None:
    machine = unstarted(2)
    machine.ram.write(0x103000, struct.pack("<I", 1))
    assert "waits-for-more-cpus" not in dict(causes(machine))


def test_a_count_that_fits_no_number_of_cpus_is_something_else() -> None:
    assert "waits-for-more-cpus" not in dict(causes(counted(100, 50, HALTED)))


def test_a_flag_is_no_count() -> None:
    machine = counted(2, 1, HALTED)
    # mov dword [COUNT], 1
    machine.ram.write(0x101100, b"\xc7\x04\x25" + low(COUNT) + low(1) + b"\xf4")
    assert "waits-for-more-cpus" not in dict(causes(machine))


def test_a_loop_that_ends_above_its_limit_waits_for_one_more() -> None:
    machine = counted(2, 2, HALTED)
    machine.ram.write(0x101000 + 10, b"\x76")  # jbe: until it is 3
    assert causes(machine) == [("waits-for-more-cpus", "likely")]
    assert "is 3; it is 2" in evidence_of(diagnose(machine.evidence()))
    machine.ram.write(0x101000 + 10, b"\x72")  # jb: it is 2, and the loop ends
    assert "waits-for-more-cpus" not in dict(causes(machine))


def barrier(value: int, wanted: int, third: CpuState = CpuState.IDLE) -> Diagnosis:
    """CPU 0 and 1 wait in one loop for COUNT; CPU 2 is elsewhere."""
    machine = waits_for(wanted, value, rflags=0x202)
    machine.ram.write(0x101100, COUNTS + b"\xc3")
    there = replace(machine.bsp.registers, general={"rsp": STACKS + 0x4000})
    machine.stop(there)
    elsewhere = replace(machine.bsp, index=2, apic_id=2, registers=Machine().ap.registers)
    elsewhere = replace(elsewhere, halted=third is CpuState.IDLE, moved=third is CpuState.RUNNING)
    evidence = machine.evidence()
    return diagnose(replace(evidence, cpus=(*evidence.cpus, elsewhere)))


def test_a_barrier_that_a_cpu_does_not_come_to() -> None:
    first = barrier(2, 3).causes[0]
    assert (first.row.id, first.certainty.value) == ("barrier-lacks-a-cpu", "likely")
    assert first.match.cpu == 2
    assert any("CPU 2 has not come to it: idle" in line for line in first.match.evidence)
    working = barrier(2, 3, CpuState.RUNNING).causes[0]
    assert (working.row.id, working.certainty.value) == ("barrier-lacks-a-cpu", "possible")


def test_a_count_that_is_not_that_of_those_who_wait_is_no_barrier() -> None:
    assert "barrier-lacks-a-cpu" not in [cause.row.id for cause in barrier(1, 3).causes]


def test_who_gets_what_it_waits_for_does_not_hang() -> None:
    machine = waits_for(3, 1, rflags=0x202)
    assert diagnose(machine.evidence()).status == "hang"
    machine.bsp = replace(machine.bsp, served=True)
    diagnosis = diagnose(machine.evidence())
    assert (diagnosis.status, diagnosis.causes) == ("healthy", ())


def test_writes_that_do_not_reach_the_local_apic() -> None:
    machine = unstarted()
    machine.ipis.clear()
    machine.bsp = replace(machine.bsp, apic=LocalApic(apic_id=0, icr=0xC4610))
    lines = evidence_of(diagnose(machine.evidence()))
    assert "its ICR still holds 0xc4610, the firmware's" in lines and "0xfee00000" not in lines
    machine.space.map(0xFEE00000, 0xFEE00000)
    assert "0xfee00000" not in evidence_of(diagnose(machine.evidence()))
    machine.space.map(0xFEE00000, 0x600000)
    lines = evidence_of(diagnose(machine.evidence()))
    assert "from 0xfee00000, the local APIC's address, to 0x600000" in lines
