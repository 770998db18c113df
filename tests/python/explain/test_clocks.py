# SPDX-License-Identifier: BSD-2-Clause
"""Loops as compilers make them: which clock ends them, and what is said of a hang in them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from debug.explain.clocks import clock_of
from debug.explain.context import Machine as Context
from debug.explain.findings import Clock, Spinning
from debug.report.diagnosis import diagnose
from tests.python.evidence_builder import KERNEL, Machine, registers

CODE = KERNEL + 0x1000
DEVICES = KERNEL + 0x7ED0_0000  # 0xfffffffffed00000
RDTSC = "0f3189c089d248c1e2204809d0c3"

# name: (code, with rdtsc() at its start where that is called; the loop's PAUSE; the clock)
LOOPS = {
    "rdtsc() - start < cycles": (
        "4889fe0f3148c1e22089c04889d14809c1eb070f1f440000"
        "f3900f3148c1e22089c04809c24829ca4839f272ebc3",
        0x18,
        Clock.TSC,
    ),
    "the same, not optimized: a function reads, the stack keeps": (
        f"{RDTSC}90909090 90909090 90909090 909090909090"
        "554889e54883ec1848897de8 e8cfffffff 488945f8eb02f390 e8c2ffffff 482b45f8483b45e872ef9090c9c3",
        0x37,
        Clock.TSC,
    ),
    "flag == 0 && rdtsc() - start < cycles": (
        "f390488b05af1e00004885c075130f3148c1e22089c04809c24829ca4839f272dfc3",
        0,
        Clock.TSC,
    ),
    "inb(0x40) changed so often": (
        "e4400fb6d0e4400fb6c0c1e00809d039c8740f4883ef01f3904885ff740289c1ebdec3",
        0x17,
        Clock.PIT,
    ),
    "HPET's main counter": ("f3908b0425f000d0fe29d039f872f1c3", 0, Clock.HPET),
    "ticks < end": ("f390488b055f1f00004839d072f2c3", 0, None),
    "ticks == 0, while the TSC is gathered as a seed": (
        "0f3148c1e22089c04809c24831d1f390488b05011f00004885c074e4c3",
        0xE,
        None,
    ),
}


def stands(code: str, at: int) -> Machine:
    """CPU 0 stands at this offset of `udelay`."""
    machine = Machine()
    machine.space.map(DEVICES, 0xFED00000)
    machine.ram.write(0x101000, bytes.fromhex(code))
    machine.symbols.known = {"udelay": (CODE, 0x100)}
    there = registers(rip=CODE + at, rsp=KERNEL + 0x9000, rbp=KERNEL + 0x9040)
    machine.bsp = replace(machine.bsp, registers=there, halted=False, moved=True)
    return machine


@pytest.mark.parametrize("name", LOOPS)
def test_clock(name: str) -> None:
    code, at, clock = LOOPS[name]
    machine = stands(code, at)
    assert clock_of(Context(machine.evidence()), machine.bsp.registers) is clock


@pytest.mark.parametrize("name", LOOPS)
def test_what_is_said_of_a_delay(name: str) -> None:
    """Only a wait that no clock ends is called one that never ends."""
    code, at, clock = LOOPS[name]
    diagnosis = diagnose(stands(code, at).evidence())
    said = {cause.row.id: cause for cause in diagnosis.causes}
    if clock is None:
        assert said["delay-never-ends"].certainty.value == "likely"
    elif not clock.runs:
        assert said["delay-never-ends"].certainty.value == "possible"
    else:
        assert "delay-never-ends" not in said
        loops = diagnosis.explanation.all(Spinning)
        assert any(clock.value in line for line in loops[0].sentences())
        assert "device-not-ready" not in said


@pytest.mark.parametrize("name", LOOPS)
def test_a_clock_that_reads_the_same_at_each_look_does_not_run(name: str) -> None:
    """A port at which no clock is, a timer that nobody started.  The TSC can't be stopped."""
    code, at, clock = LOOPS[name]
    machine = stands(code, at)
    machine.symbols.known = {}
    machine.bsp = replace(machine.bsp, moved=False)
    diagnosis = diagnose(machine.evidence())
    said = {cause.row.id: cause.certainty.value for cause in diagnosis.causes}
    if clock in (None, Clock.TSC):
        assert "delay-never-ends" not in said
    else:
        assert said["delay-never-ends"] == "likely"
        assert "which runs" not in " ".join(diagnosis.causes[0].match.evidence)
