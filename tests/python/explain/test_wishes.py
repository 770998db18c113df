# SPDX-License-Identifier: BSD-2-Clause
"""What the user said of a healthy guest goes before what its CPUs look like."""

from __future__ import annotations

from dataclasses import replace

from debug.cli.observe import missing
from debug.evidence import Ending, Evidence
from debug.report.diagnosis import diagnose
from debug.sources.qemu_evidence import NO_LOG
from tests.python.evidence_builder import Machine


def idle() -> Evidence:
    """Two CPUs that wait for work; nothing was logged."""
    machine = Machine()
    machine.ending = Ending.STOPPED
    return replace(machine.evidence(), limits=(NO_LOG,))


def test_a_machine_with_fewer_cpus_than_must_come_up() -> None:
    assert diagnose(replace(idle(), expected_cpus=2)).status == "healthy"
    short = diagnose(replace(idle(), expected_cpus=4))
    assert short.status == "missing-cpu" and not short.causes
    assert short.explanation.headline == "the machine has 2 of the 4 CPUs that must come up"
    assert missing(short, ()) == ""  # a second run has no more of them


def test_a_guest_that_did_not_say_what_was_awaited() -> None:
    silent = diagnose(replace(idle(), unseen="login:"))
    assert silent.status == "unknown" and not silent.causes
    expected = "'login:', which --until awaits, did not appear; 2 of 2 CPUs online"
    assert silent.explanation.headline == expected
    assert missing(silent, ()) == ""
