# SPDX-License-Identifier: BSD-2-Clause
"""Register dumps and local APIC text, as QEMU prints them and as people paste them."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from debug.evidence import TableRegister
from debug.sources.qemu_evidence import CpuState, build_cpus, in_reset
from debug.sources.qemu_files import registers_evidence
from debug.sources.qemu_readout import all_rest
from debug.sources.qemu_text import parse_lapic, parse_registers, split_cpus

RECORDED = Path(__file__).resolve().parents[2] / "recorded" / "qemu"
BOTH = (RECORDED / "info-registers.txt").read_text()


def test_the_bsp_in_32_bit_layout() -> None:
    registers, halted = parse_registers(split_cpus(BOTH)[0])
    assert halted is True
    assert registers.rip == 0x7C77
    assert "r8" not in registers.general and registers.general["rsp"] == 0x6F04
    assert registers.control["cr0"] == 0x11
    assert registers.segments["cs"].big and not registers.segments["cs"].long
    assert registers.segments["cs"].limit == 0xFFFFFFFF
    assert registers.idtr == TableRegister(0, 0x3FF)
    assert (registers.cpl, registers.a20, registers.smm) == (0, True, False)


def test_the_ap_in_64_bit_layout() -> None:
    registers, halted = parse_registers(split_cpus(BOTH)[1])
    assert halted is False
    assert registers.general["rax"] == 0xDEAD0000 and registers.general["r15"] == 0
    assert registers.control["efer"] == 0x500 and registers.control["cr3"] == 0x1000
    assert registers.segments["cs"].long and registers.segments["cs"].selector == 0x18
    assert registers.gdtr is not None and registers.gdtr.limit == 31
    assert registers.control["gs_base"] == 0


def test_whether_all_cpus_rest() -> None:
    assert not all_rest(BOTH)
    assert all_rest(BOTH.replace("HLT=0", "HLT=1"))
    assert not all_rest("")


def test_lines_wrapped_or_crlf_read_the_same() -> None:
    whole = parse_registers(split_cpus(BOTH)[1])
    wrapped = re.sub(r" (?=\S)", "\n   ", split_cpus(BOTH)[1])
    assert parse_registers(wrapped) == whole
    assert parse_registers(split_cpus(BOTH)[1].replace("\n", "\r\n")) == whole


def test_what_is_missing_is_none_and_not_zero() -> None:
    registers, halted = parse_registers("EAX=00000001 EBX=0000")
    assert registers.general == {"rax": 1}
    assert registers.rip is None and registers.gdtr is None and halted is None


def test_a_cpu_at_the_reset_vector_waits_for_sipi() -> None:
    text = """CPU#0
EIP=0000fff0 EFL=00000002 [-------] CPL=0 II=0 A20=1 SMM=0 HLT=1
CS =f000 ffff0000 0000ffff 00009b00
CR0=60000010 CR2=00000000 CR3=00000000 CR4=00000000
"""
    (cpu,) = registers_evidence(text).cpus
    assert in_reset(cpu.registers) and cpu.waiting_for_sipi and cpu.executed is None


def test_pasted_registers_become_cpus() -> None:
    evidence = registers_evidence("QEMU 10.2.1 monitor\n(qemu) info registers -a\n" + BOTH)
    assert [cpu.index for cpu in evidence.cpus] == [0, 1]
    assert [cpu.waiting_for_sipi for cpu in evidence.cpus] == [False, False]
    assert evidence.limits
    assert registers_evidence("nothing of the kind").cpus == ()


def test_local_apic() -> None:
    apic = parse_lapic((RECORDED / "info-lapic.txt").read_text(), 0)
    assert apic is not None
    assert apic.icr == 1 << 56 | 0x4607
    assert apic.svr == 0x1FF and apic.esr == 0 and apic.isr == ()
    assert apic.lvt["lint0"] == 0x8700
    assert (apic.timer_initial, apic.timer_current) == (0, 0)
    busy = parse_lapic("ISR\t 32 48(level) \nSPIV\t 0x000001ff APIC\n")
    assert busy is not None and busy.isr == (32, 48)
    assert parse_lapic("no local APIC") is None


@given(st.text())
def test_any_text_is_read_without_error(text: str) -> None:
    parse_registers(text)
    parse_lapic(text)
    registers_evidence(text)


def test_who_writes_does_not_stand_still() -> None:
    """A busy host shows a string instruction at one place, however often one looks."""
    text = split_cpus(BOTH)[1]
    one = CpuState(0, 1, text, earlier=text)
    assert build_cpus([one], True)[0].moved is False
    assert build_cpus([one], True, wrote=True)[0].moved is True
    two = [one, replace(one, index=1)]
    assert [cpu.moved for cpu in build_cpus(two, True, wrote=True)] == [False, False]


@given(st.integers(0, len(BOTH)), st.integers(0, len(BOTH)), st.text(max_size=5))
def test_damaged_text_is_read_without_error(start: int, end: int, put: str) -> None:
    damaged = BOTH[: min(start, end)] + put + BOTH[max(start, end) :]
    for cpu in registers_evidence(damaged).cpus:
        assert all(0 <= value < 1 << 64 for value in cpu.registers.general.values())
    assert build_cpus([], running=True) == ()
