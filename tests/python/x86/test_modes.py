# SPDX-License-Identifier: BSD-2-Clause
"""Modes, register names, exceptions and error codes."""

from __future__ import annotations

from typing import Optional

import pytest

from debug.evidence import Registers, Segment
from debug.x86.exceptions import Combination, SelectorCode, combine, describe_error_code, vector
from debug.x86.modes import (
    Mode,
    code_width,
    describe_mode,
    linear_pc,
    linear_sp,
    mode_of,
    paging_mode_of,
    privilege,
)
from debug.x86.registers import describe_register, register_value


def cpu(
    cr0: Optional[int],
    efer: Optional[int] = 0,
    cs: int = 0x9B00,
    rip: int = 0x10,
    base: int = 0,
    rflags: int = 2,
) -> Registers:
    control = {"cr0": cr0, "efer": efer, "cr4": 0x20}
    known = {name: value for name, value in control.items() if value is not None}
    segments = {"cs": Segment(0x800, base, 0xFFFF, cs), "ss": Segment(0, base, 0xFFFF, 0x9300)}
    return Registers(rip, rflags, {"rsp": 0x1_0000_7C00}, known, segments)


@pytest.mark.parametrize(
    "registers, mode, width, pc",
    [
        (cpu(0x10, base=0x8000), Mode.REAL, 16, 0x8010),
        (cpu(0x60000010, base=0xFFFF0000, rip=0xFFF0), Mode.REAL, 16, 0xFFFFFFF0),
        (cpu(0x10, cs=0xCF9B00), Mode.REAL, 32, 0x10),
        (cpu(0x11, base=0x8000), Mode.PROTECTED16, 16, 0x8010),
        (cpu(0x11, cs=0xAF9A00), Mode.PROTECTED16, 16, 0x10),  # L means nothing before LMA
        (cpu(0x11, cs=0xCF9A00), Mode.PROTECTED32, 32, 0x10),
        (cpu(0x11, efer=0x100, cs=0xCF9A00), Mode.PROTECTED32, 32, 0x10),
        (cpu(0x80000011, cs=0xCF9A00), Mode.PROTECTED32, 32, 0x10),
        (cpu(0x80000011, efer=0x500, cs=0xCF9A00), Mode.COMPAT32, 32, 0x10),
        (cpu(0x80000011, efer=0x500, cs=0x9A00, base=0x8000), Mode.COMPAT16, 16, 0x8010),
        (cpu(0x80000011, efer=0x500, cs=0xAF9A00, base=0x8000), Mode.LONG64, 64, 0x10),
        (cpu(0x80000011, rflags=0x20002), Mode.VM86, 16, 0x10),
        (cpu(0x80000011, efer=0x500, cs=0xAF9A00, rflags=0x20002), Mode.LONG64, 64, 0x10),
        (cpu(0x80000011, efer=None, cs=0xAF9A00), Mode.UNKNOWN, None, 0x10),
        (
            cpu(0x80000011, efer=None, cs=0xAF9A00, rip=0xFFFFFFFF80000000),
            Mode.LONG64,
            64,
            0xFFFFFFFF80000000,
        ),
        (cpu(0x11, efer=None, cs=0xCF9A00), Mode.PROTECTED32, 32, 0x10),
        (cpu(None), Mode.UNKNOWN, None, 0x10),
    ],
)
def test_mode_width_and_pc(registers: Registers, mode: Mode, width: Optional[int], pc: int) -> None:
    assert (mode_of(registers), code_width(registers), linear_pc(registers)) == (mode, width, pc)


def test_nothing_known_is_unknown() -> None:
    nothing = Registers()
    assert mode_of(nothing) is Mode.UNKNOWN
    assert (linear_pc(nothing), linear_sp(nothing)) == (None, None)
    assert (privilege(nothing), paging_mode_of(nothing)) == (None, None)
    assert "not known" in describe_mode(nothing)


def test_stack_pointer_has_the_width_of_its_segment() -> None:
    assert linear_sp(cpu(0x10, base=0x8000)) == 0xFC00
    assert linear_sp(cpu(0x80000011, efer=0x500, cs=0xAF9A00)) == 0x100007C00


def test_parts_of_registers() -> None:
    registers = Registers(general={"rax": 0x1122334455667788, "rsi": 0xABCD, "r8": 0x1FF})
    names = ("rax", "eax", "ax", "al", "ah", "sil", "r8b", "r8d", "rbx")
    values = [register_value(registers, name) for name in names]
    assert values == [0x1122334455667788, 0x55667788, 0x7788, 0x88, 0x77, 0xCD, 0xFF, 0x1FF, None]


def test_bits_by_name() -> None:
    assert describe_register("cr0", 0x80000011) == "0x80000011 (PE ET PG)"
    assert describe_register("efer", 0xD00) == "0xd00 (LME LMA NXE)"
    assert describe_register("efer", 1 << 9) == "0x200 (bit 9)"
    assert describe_register("rflags", 0x3246) == "0x3246 (PF ZF IF IOPL=3)"


# [SDM 3A "Conditions for Generating a Double Fault"]
@pytest.mark.parametrize(
    "first, second, expected",
    [
        (6, 13, Combination.SERIAL),
        (13, 6, Combination.SERIAL),
        (13, 11, Combination.DOUBLE_FAULT),
        (0, 13, Combination.DOUBLE_FAULT),
        (13, 14, Combination.SERIAL),
        (14, 13, Combination.DOUBLE_FAULT),
        (14, 14, Combination.DOUBLE_FAULT),
        (14, 6, Combination.SERIAL),
        (8, 13, Combination.SHUTDOWN),
        (8, 14, Combination.SHUTDOWN),
        (8, 1, Combination.SERIAL),
        (0x20, 13, Combination.SERIAL),
    ],
)
def test_double_faults(first: int, second: int, expected: Combination) -> None:
    assert combine(first, second) is expected


def test_an_interrupt_at_vector_8_is_no_double_fault() -> None:
    assert combine(8, 13, exceptions=False) is Combination.SERIAL


def test_error_codes_in_words() -> None:
    assert describe_error_code(14, 0) == "supervisor read: the page is not present"
    assert describe_error_code(14, 0xB).startswith("supervisor write: a reserved bit")
    assert describe_error_code(14, 0x15).startswith("user instruction fetch")
    assert describe_error_code(13, 0x72) == "gate 14 of the IDT (#PF)"
    assert describe_error_code(13, 0x73).endswith("while another event was being delivered")
    assert describe_error_code(13, 0x10) == "GDT entry 2 (selector 0x0010)"
    assert describe_error_code(11, 0x14) == "LDT entry 2 (selector 0x0014)"
    assert describe_error_code(13, 0) == "no descriptor is named"
    assert describe_error_code(6, None) == ""
    assert SelectorCode(0x73).index == 14 and SelectorCode(0x73).selector is None


@pytest.mark.parametrize("number", (-1, 9, 15, 31, 32, 255, 256, 10**9))
def test_every_number_has_a_row(number: int) -> None:
    assert vector(number).number == number and vector(number).name
