# SPDX-License-Identifier: BSD-2-Clause
"""How an AP's start fails: causes that look alike are told apart."""

from __future__ import annotations

import struct
from dataclasses import replace
from typing import Any

import pytest

from debug.evidence import Ending, IpiEvent, IpiKind
from debug.report.diagnosis import diagnose
from tests.python.evidence_builder import (
    CODE32,
    CODE64,
    KERNEL,
    NULL_IDT,
    PAGE,
    RESET_IDT,
    STACKS,
    TRAMPOLINE,
    Machine,
    registers,
    segment,
)
from tests.python.failures.row_cases import UNTIL_C, in_real_mode, waiting

INIT = IpiEvent(IpiKind.INIT, 0, 1, delivered=True)


def first(machine: Machine) -> tuple[str, str]:
    causes = diagnose(machine.evidence()).causes
    return (causes[0].row.id, causes[0].certainty.value) if causes else ("", "")


def image_at(offset: int) -> Machine:
    machine = in_real_mode(TRAMPOLINE, 0).sipi()
    machine.ram.write(TRAMPOLINE + offset, bytes(range(1, 251)) * 4)
    return machine


def test_an_image_in_the_middle_of_its_page_is_not_a_missing_one() -> None:
    assert first(image_at(0x800)) == ("trampoline-not-aligned", "certain")
    parameters = in_real_mode(TRAMPOLINE, 0).sipi()
    parameters.ram.write(TRAMPOLINE + 0x80, bytes(range(1, 33)))
    assert first(parameters) == ("trampoline-not-copied", "certain")
    image = image_at(0x800)
    image.ram.write(TRAMPOLINE + 0x40, b"\1\2\3\4")  # it wrote to where its data would be
    assert first(image) == ("trampoline-not-aligned", "certain")


def test_a_reset_while_an_ap_wanders_is_not_the_kernels() -> None:
    """What it executes at a wrong page may write to port 0xCF9, or call the firmware's reset."""
    wandering = in_real_mode(0, None).sipi(0)
    wandering.ending = Ending.RESET
    assert first(wandering) == ("sipi-vector-zero", "certain")
    right = in_real_mode(TRAMPOLINE, None).sipi()
    right.ending = Ending.RESET
    assert first(right) == ("deliberate-reset", "certain")


def entered(times: int) -> Machine:
    machine = Machine().boot_trace().sipi().trace(1, *(UNTIL_C * times), 0x6E)
    machine.trace(0, *(((0xC6, 1),) if times == 1 else ()))
    return machine.stop(registers(rip=TRAMPOLINE + 0x300, rsp=KERNEL), halted=True)


def test_a_second_start_is_not_a_late_arrival() -> None:
    assert first(entered(2)) == ("ap-started-twice", "certain")
    assert first(entered(1)) == ("ap-came-too-late", "certain")


def test_a_block_in_use_is_not_a_late_arrival() -> None:
    machine = entered(1)
    machine.stages = [event for event in machine.stages if event.code != 0xC6]
    assert first(machine) == ("block-taken", "likely")


def test_a_block_in_use_names_nobody_where_blocks_are_mixed_up() -> None:
    """Each CPU looks at another's block; CPU 2 found one that the BSP had not filled in yet."""
    machine = Machine().boot_trace().sipi().trace(1, *UNTIL_C, 0xA4).trace(0, (0xC6, 1))
    machine.trace(2, *UNTIL_C, 0x6E)
    evidence = machine.evidence()
    parked = registers(rip=TRAMPOLINE + 0x300, rsp=KERNEL)
    third = replace(machine.ap, index=2, apic_id=2, registers=parked)
    found = diagnose(replace(evidence, cpus=(*evidence.cpus, third))).causes
    assert [cause.row.id for cause in found] == ["online-not-seen"]


def test_the_init_that_comes_last_wins() -> None:
    machine = waiting().sipi()
    assert first(machine)[0] != "init-after-sipi"
    machine.ipis.append(INIT)
    assert first(machine) == ("init-after-sipi", "certain")


def test_an_apic_that_sent_nothing() -> None:
    machine = waiting()
    firmware = IpiEvent(IpiKind.INIT, 0, None, "all-but-self", by_firmware=True)
    machine.ipis = [firmware]
    assert first(machine) == ("ipi-not-sent-by-apic", "certain")
    machine.stages = [event for event in machine.stages if event.code != 0xC4]
    assert first(machine) == ("no-sipi", "certain")


@pytest.mark.parametrize("address, named", [(0xFEE00300, True), (0xFEC00300, False)])
def test_the_page_of_the_local_apic(address: int, named: bool) -> None:
    machine = Machine().boot_trace()
    machine.ram.write(TRAMPOLINE + 0x210, b"\x89\x03")  # mov [rbx], eax
    linear = 0xFFFF_8000_0000_0000 + address
    regs = registers(rip=TRAMPOLINE + 0x210, rbx=linear, rsp=KERNEL, idtr=NULL_IDT)
    machine.kill(regs, 14, 2, linear)
    assert (first(machine)[0] == "local-apic-unmapped") is named


def jumped(target: int) -> Machine:
    """The AP's far jump led it to `target` in 32-bit code; there it met an invalid opcode."""
    machine = Machine().boot_trace().sipi().trace(1, 0x10, 0x11, 0x12, 0x13)
    machine.ram.write(TRAMPOLINE + 0x120, b"\x66\xea" + struct.pack("<IH", target, CODE32))
    code = segment(CODE32, 0, 0xFFFFFFFF, 0xCF9B00)
    regs = registers("prot32", rip=target, cs=code, idtr=NULL_IDT)
    return machine.kill(regs, 6)


def test_a_far_jump_that_was_not_relocated() -> None:
    assert first(jumped(0x5E1F10C8)) == ("far-jump-not-relocated", "certain")
    assert first(jumped(0x390)) == ("far-jump-not-relocated", "certain")
    assert first(jumped(TRAMPOLINE + 0x390))[0] != "far-jump-not-relocated"


def test_a_16_bit_far_jump_to_an_offset_in_the_page() -> None:
    """`ljmp $8, $label - start` in 16-bit code: five bytes, and the page's address is missing."""

    def at(target: int) -> Machine:
        machine = jumped(target)
        machine.ram.write(TRAMPOLINE, b"\xfa\x0f\x20\xc0\x0c\x01\x0f\x22\xc0")  # cli; PE=1
        machine.ram.write(TRAMPOLINE + 9, b"\xea" + struct.pack("<HH", target, CODE32))
        machine.ram.write(TRAMPOLINE + 0x40, b"\xb8\x10\0\0\0\x8e\xd8")  # 32-bit code
        machine.ram.write(TRAMPOLINE + 0x120, bytes(8))
        return machine

    cause = diagnose(at(0x40).evidence()).causes[0]
    assert (cause.row.id, cause.certainty.value) == ("far-jump-not-relocated", "certain")
    assert any("there is code at 0x8040" in line for line in cause.match.evidence)
    assert first(at(TRAMPOLINE + 0x40))[0] != "far-jump-not-relocated"


def test_a_bsp_that_began_again() -> None:
    machine = Machine().boot_trace()
    machine.ipis = [IpiEvent(IpiKind.INIT, 0, None)]
    code = segment(0x8, 0, 0xFFFFFFFF, 0xCF9B00)
    regs = registers("prot32", rip=0xEFAAD, cs=code, idtr=NULL_IDT)
    machine.kill(regs, 13, 0, cpu=0)
    assert first(machine) == ("init-hits-sender", "certain")
    machine.ipis.append(IpiEvent(IpiKind.INIT, 0, None, shorthand="all-but-self"))
    assert first(machine)[0] != "init-hits-sender"  # the last one needs no destination
    machine.ipis.pop()
    machine.stages = [event for event in machine.stages if event.code not in (0xB8, 0xC3, 0xC4)]
    assert first(machine)[0] != "init-hits-sender"  # it may never have left the firmware


@pytest.mark.parametrize("symbols, certainty", [({}, "likely"), ({"halt": KERNEL}, "possible")])
def test_an_opcode_of_32_bits_where_no_symbol_is(symbols: dict[str, int], certainty: str) -> None:
    """It may be data: an AP whose entry and argument were swapped executes its argument."""
    machine = Machine().boot_trace().sipi().trace(1, *UNTIL_C)
    machine.symbols.known = {name: (at, 16) for name, at in symbols.items()}
    machine.ram.write(0x101000, b"\x60\x90\x90")  # pusha
    machine.kill(registers(rip=KERNEL + 0x1000, rsp=STACKS + 4 * PAGE, idtr=NULL_IDT), 6)
    assert first(machine) == ("code-for-another-mode", certainty)


def test_of_several_cpus_sent_astray_the_one_that_died_is_named() -> None:
    machine = in_real_mode(0, None).sipi(0).sipi(0, to=2)
    evidence = machine.evidence()
    other = replace(evidence.cpus[1], index=2, apic_id=2, shutdown=True)
    evidence = replace(evidence, cpus=(*evidence.cpus, other), ending=Ending.TRIPLE_FAULT)
    cause = diagnose(evidence).causes[0]
    assert (cause.row.id, cause.match.cpu) == ("sipi-vector-zero", 2)


def slid(
    rip: int, code: bytes, there: bytes = bytes(16), **values: object
) -> tuple[str, list[str]]:
    """(status, causes) of an AP at `rip`, behind a far jump to 8 MiB, over what is `code` now."""
    machine = Machine().sipi()
    machine.space.map(0x800000, 0x800000, 64)
    machine.ram.write(0x800000, bytes([0x91, 0x92, 0x93, 0x95]) * (16 * PAGE))
    machine.ram.write(0x800000, there)
    machine.ram.write(rip, code)
    machine.ram.write(TRAMPOLINE + 0x120, b"\x66\xea" + struct.pack("<IH", 0x800000, CODE64))
    left: dict[str, Any] = {"rsp": 0, "idtr": RESET_IDT, **values}
    regs = registers(rip=rip, **left)
    spinning = registers(rip=KERNEL + 0x2000)
    machine.bsp = replace(machine.bsp, registers=spinning, halted=False, moved=True)
    found = diagnose(machine.stop(regs, moved=True).evidence())
    return found.status, [f"{c.row.id} {c.certainty.value}" for c in found.causes]


def test_an_ap_that_slides_over_what_was_written_since_is_lost() -> None:
    data, written = b"\x91\x92" * 8, b"\x91\x92" * 8
    astray = "far-jump-not-relocated"
    status, rows = slid(0x820000, data)
    assert (status, rows[0]) == ("hang", f"{astray} certain")
    status, rows = slid(0x820000, data, written)
    assert (status, rows[0]) == ("hang", f"{astray} likely")
    near = (
        slid(0x800100, data, written),  # the code before the stack
        slid(0x820000, data, written, rsp=STACKS + PAGE),
        slid(0x820000, data, written, idtr=NULL_IDT),  # the kernel's, on purpose
        slid(0x820000, b"\xf3\x90\xeb\xfc", written),  # parked: pause, and back
        slid(0x820000, b"\xeb\xfe", written),
    )
    for status, rows in near:
        assert status != "hang" or not any(astray in row for row in rows), rows
        assert not any(astray in row for row in rows), rows


def test_an_ap_in_zeros_was_sent_to_another_page_whatever_that_begins_with_now() -> None:
    def found(ahead: bytes, start: bytes) -> tuple[str, str]:
        machine = Machine().sipi(0x0E)
        lgdt = b"\xfa\x0f\x01\x16\x80\x80\x0f\x20\xc0\x0c\x01\x0f\x22\xc0"  # cli; lgdt; PE=1
        machine.ram.write(TRAMPOLINE, lgdt)
        machine.ram.write(0xE000, start.ljust(PAGE, b"\0") + bytes(PAGE))
        machine.ram.write(0xF831, ahead)
        code = segment(0xE00, 0xE000, 0xFFFF, 0x9B00)
        regs = registers("real", rip=0x1831, cs=code, idtr=RESET_IDT)
        return first(machine.stop(regs, moved=True))

    pushed = b"\x12\x34\x56\x78" * 4
    assert found(bytes(32), bytes(16)) == ("sipi-wrong-vector", "likely")
    assert found(bytes(32), pushed) == ("sipi-wrong-vector", "likely")
    assert found(b"\x90\x40" * 16, pushed)[0] != "sipi-wrong-vector"


def test_a_page_that_was_filled_after_an_ap_had_left_it_is_not_the_cause() -> None:
    """A 32-bit kernel frees the page, and its allocator clears or poisons it."""
    for byte in (0, 0x5A):
        machine = Machine().sipi()
        machine.ram.write(TRAMPOLINE, bytes([byte]) * PAGE)
        machine.ram.write(0x101300, b"\xf3\x90\xeb\xfc")  # pause; jmp
        there = registers("prot32", rip=0x101300, cs=segment(CODE32, flags=0xC09B00))
        rows = [one.row.id for one in diagnose(machine.stop(there).evidence()).causes]
        assert "trampoline-not-copied" not in rows and rows


def test_a_copy_that_is_gone_is_known_by_its_image() -> None:
    """An AP that executes zeros for long comes round to the trampoline, and over it."""

    # cli; lgdt [page + 80]; mov eax, cr0; or al, 1; mov cr0, eax; ljmp 8:page + 18
    def found(page: int, at: int = 0x101400, target: int = 0x18) -> tuple[str, str]:
        load = b"\xfa\x0f\x01\x16" + struct.pack("<H", page + 0x80)
        switch = b"\x0f\x20\xc0\x0c\x01\x0f\x22\xc0\x66\xea" + struct.pack("<IH", page + target, 8)
        machine = Machine().sipi(0x0E)
        machine.ram.write(TRAMPOLINE, bytes(range(1, 251)))  # whatever is there now
        machine.ram.write(at, load + switch)
        machine.ram.write(0xE000, bytes(2 * PAGE))
        code = segment(0xE00, 0xE000, 0xFFFF, 0x9B00)
        regs = registers("real", rip=0x1831, cs=code, idtr=RESET_IDT)
        return first(machine.stop(regs, moved=True))

    assert found(TRAMPOLINE) == ("sipi-wrong-vector", "likely")
    assert found(0xE000) == ("trampoline-not-copied", "certain")  # it belongs there
    assert found(TRAMPOLINE, target=0x400)[0] == "trampoline-not-copied"  # the loader's own
    assert found(0)[0] == "trampoline-not-copied"  # to be relocated
