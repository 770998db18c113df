# SPDX-License-Identifier: BSD-2-Clause
"""A PIC that sends exceptions' vectors is told by its registers, while the machine still runs."""

from __future__ import annotations

from dataclasses import replace
from typing import Optional

import pytest

from debug.evidence import EventKind, Evidence, ExceptionEvent, LocalApic, Pic, TableRegister
from debug.report.diagnosis import diagnose
from debug.sources.bochs_state import parse_io_apics as io_apics_of_bochs
from debug.sources.bochs_state import parse_pics as parse_bochs_pics
from debug.sources.qemu_text import parse_io_apics as io_apics_of_qemu
from debug.sources.qemu_text import parse_pics
from tests.python.evidence_builder import KERNEL, NULL_IDT, Machine, registers

# As QEMU 7.2 shows them after SeaBIOS.
SHOWN = """pin 23 0x0000000000010000 dest=0 vec=0   active-hi edge  masked fixed  physical\r
  IRR      (none)\r
pic1: irr=00 imr=8e isr=00 hprio=0 irq_base=70 rr_sel=0 elcr=0c fnm=0\r
pic0: irr=11 imr=b8 isr=01 hprio=0 irq_base=08 rr_sel=0 elcr=00 fnm=0\r
"""
BY_BIOS = Pic(base=8, imr=0xB8, isr=0, irr=0x11)
TICK = ExceptionEvent(
    EventKind.HARDWARE_INTERRUPT, 8, registers(rip=KERNEL + 2, rflags=0x202), cpu=0
)
BIOS_TICK = replace(
    TICK, registers=registers("prot32", rip=0xEACED, gdtr=TableRegister(0xF6180, 0x37))
)


def test_what_qemu_shows() -> None:
    assert parse_pics(SHOWN) == (replace(BY_BIOS, isr=1), Pic(0x70, 0x8E, 0, 0))
    assert parse_pics("unknown command: 'info pic'") == ()


def test_the_entries_of_the_io_apic() -> None:
    first = "ioapic0: ver=0x20 id=0x00 sel=0x00\r\n  pin 0  0x0000000000000020 dest=0 vec=32\r\n"
    assert io_apics_of_qemu(first + SHOWN) == ((0x20, 0x10000),)
    assert io_apics_of_qemu(SHOWN) == () and io_apics_of_qemu("") is None
    shown = "ioapic = {\n  0x0 = {\n lo = 0x00010020\n hi = 0x01000000\n }\n}\n"
    assert io_apics_of_bochs(shown) == ((0x0100000000010020,),)
    assert io_apics_of_bochs("show: param not found") is None


# As Bochs 2.7 shows one at reset.
OF_BOCHS = """show param name: <pic.master>
master = {
  interrupt_offset = 0x08
  auto_eoi = 0x00
  imr = 0xb8
  isr = 0x01
  irr = 0x10
  INT = false
}
<bochs:2> show "pic.slave"
show param name: <pic.slave>
slave = {
  interrupt_offset = 0x70
  imr = 0x8e
  isr = 0x00
  irr = 0x00
}
"""


def test_what_bochs_shows() -> None:
    assert parse_bochs_pics(OF_BOCHS) == (Pic(8, 0xB8, 1, 0x10), Pic(0x70, 0x8E, 0, 0))
    assert parse_bochs_pics(OF_BOCHS.replace("isr", "???")) == ()
    assert parse_bochs_pics("show: param not found") == ()


def certainty(evidence: Evidence) -> Optional[str]:
    """That of `pic-not-remapped`, None if it is not named."""
    found = (c for c in diagnose(evidence).causes if c.row.id == "pic-not-remapped")
    return next((cause.certainty.value for cause in found), None)


def halted(flags: int = 0x202, pic: Pic = BY_BIOS, **values: object) -> Machine:
    machine = Machine()
    there = registers("long", rip=KERNEL + 2, rflags=flags, rsp=KERNEL + 0x9000, **values)
    machine.bsp = replace(machine.bsp, registers=there)
    machine.pics = (pic, Pic(0x70, 0x8E, 0, 0))
    return machine


def ticked(*events: ExceptionEvent) -> Machine:
    """With interrupts off since: what the handler of an exception may do."""
    machine = halted(flags=2)
    machine.events += events
    return machine


@pytest.mark.parametrize(
    "machine",
    [halted(pic=replace(BY_BIOS, isr=1), flags=2), ticked(TICK)],
    ids=["in service", "taken"],
)
def test_named(machine: Machine) -> None:
    assert certainty(machine.evidence()) == "likely"


def test_who_idles_through_its_ticks_may_mean_it() -> None:
    """A boot loader that lends the BIOS its interrupts leaves the vectors as they are."""
    assert certainty(halted().evidence()) == "possible"


def behind_an_apic(lint0: int) -> Machine:
    machine = halted()
    apic = LocalApic(apic_id=0, svr=0x1FF, lvt={"lint0": lint0})
    machine.bsp = replace(machine.bsp, apic=apic)
    return machine


@pytest.mark.parametrize(
    "machine",
    [
        halted(pic=replace(BY_BIOS, base=0x20)),
        halted(pic=replace(BY_BIOS, imr=0xFF)),
        halted(pic=replace(BY_BIOS, imr=0xFB)),
        halted(flags=2),
        halted(idtr=NULL_IDT),
        behind_an_apic(0x10700),
        ticked(BIOS_TICK),
    ],
    ids=[
        "remapped",
        "masked",
        "masked but for the second one",
        "no interrupts yet",
        "no IDT yet",
        "LINT0 is masked",
        "the BIOS took it",
    ],
)
def test_not_named(machine: Machine) -> None:
    assert certainty(machine.evidence()) is None


def test_an_open_lint0_lets_them_through() -> None:
    assert certainty(behind_an_apic(0x700).evidence()) == "possible"


def test_bochs_lets_them_through_a_masked_one_too() -> None:
    machine = behind_an_apic(0x10000)
    machine.emulator = "bochs"
    assert certainty(machine.evidence()) == "possible"
