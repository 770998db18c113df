# SPDX-License-Identifier: BSD-2-Clause
"""When a machine is run a second time, with a log."""

from __future__ import annotations

from dataclasses import replace

from debug.cli.observe import missing
from debug.evidence import Ending, Evidence, StageEvent
from debug.report.diagnosis import diagnose
from debug.sources.qemu_evidence import NO_LOG
from tests.python.evidence_builder import Machine


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
