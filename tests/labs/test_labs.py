# SPDX-License-Identifier: BSD-2-Clause
"""Every lab applies; the core ones are called by their names (`make labs` runs them all)."""

from __future__ import annotations

from pathlib import Path

import pytest

from debug.failures.table import ROWS
from debug.labs.diagnose import diagnose, objection, settled
from debug.labs.lab import CERTAINTIES, EMULATORS, ids, load
from debug.labs.workshop import apply_patch
from debug.report import text

ROW_IDS = {row.id for row in ROWS}


@pytest.mark.parametrize("lab_id", ids())
def test_the_lab_is_complete_and_its_patch_applies(lab_id: str, tmp_path: Path) -> None:
    lab = load(lab_id)
    assert lab.patch or lab.qemu or lab.bochs or lab.options, "nothing breaks the kernel"
    assert set(lab.expect) <= set(EMULATORS) and lab.expect
    for expected in lab.expect.values():
        assert set(expected.causes) <= ROW_IDS
        assert expected.certainty in CERTAINTIES
        assert expected.causes or expected.reason, "no cause, and no reason for it"
    apply_patch(lab, tmp_path / "tree")


def test_every_row_that_names_a_lab_names_one_that_is_there() -> None:
    missing = {lab for row in ROWS for lab in row.labs} - set(ids())
    assert not missing


@pytest.mark.emulator
@pytest.mark.parametrize(
    ("lab_id", "emulator"),
    [(lab_id, emulator) for lab_id in ids() for emulator in load(lab_id).core],
)
def test_the_lab_is_called_by_its_name(lab_id: str, emulator: str) -> None:
    lab = load(lab_id)
    expected = lab.expect.get(emulator)
    if expected is None:
        pytest.skip(f"{lab_id} names no verdict for {emulator}")
    diagnosis = diagnose(lab, emulator)
    wrong = objection(diagnosis, expected)
    assert wrong is None, f"{wrong}\n\n{text.render(diagnosis)}"


def test_a_boot_is_over_when_nothing_more_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    lab = load("barrier-counts-too-many")
    over = settled(lab)
    assert not over.is_over(), "the firmware is silent"
    over.take(b"@00:c7=4.f*ae\n")
    now += lab.settles + 1
    assert not over.is_over(), "the kernel may wait for a CPU"
    now += lab.timeout / 2
    assert over.is_over()
    over.take(b"4 of 4 CPUs online\n")
    assert not over.is_over()
    now += lab.settles + 1
    assert over.is_over()
