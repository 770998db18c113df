# SPDX-License-Identifier: BSD-2-Clause
"""Level-triggered lines that stay active, from what QEMU's monitor shows some moments apart."""

from __future__ import annotations

import pytest

from debug.evidence import HeldLine
from debug.sources.qemu_lines import Look, destinations, held

LEVEL_TO_1 = "0100000000008050"


def look(
    entry: str = LEVEL_TO_1, active: str = "4", flags: str = "202", isr: str = "(none)"
) -> Look:
    """One moment of a machine with two CPUs and one I/O APIC."""
    pins = "".join(
        f"  pin {n:<2} 0x{(entry if n == 4 else '10000'):0>16} dest=0\r\n" for n in range(6)
    )
    pics = "".join(f"pic{n}: irr=00 imr=ff isr=00 hprio=0 irq_base=20\r\n" for n in (1, 0))
    controllers = f"ioapic0: ver=0x20 id=0x00 sel=0x18\r\n{pins}  IRR      {active}  \r\n{pics}"
    registers = f"CPU#0\r\nEIP=00000000 EFL=00000002\r\nCPU#1\r\nEIP=00001000 EFL=00000{flags}\r\n"
    lapic = f"SPIV\t 0x000001ff APIC enabled\r\nISR\t {isr}\r\nIRR\t (none)\r\n"
    return Look(registers, controllers, {1: lapic})


INDICES = {0: 0, 1: 1}


def test_a_line_that_each_look_shows() -> None:
    assert destinations(look().controllers) == {1}
    assert held([look()] * 4, INDICES) == (HeldLine(4, 0x50, 1, 4, 4),)


@pytest.mark.parametrize(
    "other, taken",
    [
        (look(flags="002"), 3),  # RFLAGS.IF=0
        (look(isr="80"), 3),  # in service
        (look(isr="64"), 4),  # a lower one is
        (look(entry="010000000000c050"), 4),  # Remote IRR is set
    ],
)
def test_in_how_many_of_them_it_was_to_be_taken(other: Look, taken: int) -> None:
    assert held([look(), other, look(), look()], INDICES) == (HeldLine(4, 0x50, 1, 4, taken),)


@pytest.mark.parametrize(
    "other",
    [
        look(active="(none)"),
        look(active="5"),
        look(entry="0100000000000050"),  # edge-triggered
        look(entry="0100000000018050"),  # masked
        look(entry="0100000000008850"),  # to a logical destination
        look(entry="0100000000008051"),
        Look("", "", {}),
    ],
)
def test_a_line_that_one_look_does_not_show(other: Look) -> None:
    assert held([look(), other, look(), look()], INDICES) == ()


def test_two_looks_are_too_few() -> None:
    assert held([look()] * 2, INDICES) == ()
