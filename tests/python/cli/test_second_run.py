# SPDX-License-Identifier: BSD-2-Clause
"""When a machine is run a second time, with a log."""

from __future__ import annotations

from dataclasses import replace

import pytest

from debug.cli.observe import Logging, Wishes, _Run, missing, observe
from debug.evidence import Ending, Evidence, StageEvent
from debug.report.diagnosis import Diagnosis, diagnose
from debug.sources.qemu_evidence import NO_LOG
from tests.python.evidence_builder import KERNEL, Machine, registers


def test_a_guest_that_ended_qemu_before_its_cpus_were_counted_runs_again() -> None:
    gone = Evidence(emulator="qemu", ending=Ending.EXITED, expected_cpus=4, limits=(NO_LOG,))
    assert missing(diagnose(gone), ())
    lamps = (StageEvent(1, 0x10),)
    for other in (
        replace(gone, expected_cpus=1),  # healthy
        replace(gone, ending=Ending.EMULATOR_DIED),
        replace(gone, limits=()),  # logged it was
        replace(gone, stages=lamps),
    ):
        assert not missing(diagnose(other), ())


def test_a_machine_that_restarts_runs_again_however_many_cpus_it_lacks() -> None:
    machine = Machine()
    machine.expected = 4
    found = replace(machine.evidence(), limits=(NO_LOG,))
    assert not missing(diagnose(found), ())
    assert missing(diagnose(replace(found, ending=Ending.RESTARTED)), ())


def stopped(*, idle: bool) -> Diagnosis:
    """A machine whose time is over: what one look at it tells, or what a log tells as well."""
    machine = Machine()
    running = registers(rip=KERNEL + 0x4000, rsp=KERNEL + 0x9000)
    machine.ram.write(0x104000, b"\x90" * 512)
    if not idle:
        machine.bsp = replace(machine.bsp, registers=running, halted=False, moved=None)
    limits = () if idle else (NO_LOG,)
    return diagnose(replace(machine.evidence(), limits=limits))


def test_a_look_that_tells_nothing_yields_to_a_log_of_a_machine_at_work(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    runs = iter([stopped(idle=False), stopped(idle=True)])
    monkeypatch.setattr("debug.cli.observe._once", lambda *_, **__: _Run(next(runs)))
    found = observe(["qemu-system-x86_64"], Wishes(logging=Logging.NEEDED))
    assert found.status == "healthy" and "saw the CPUs at work" in found.explanation.notes[0]
