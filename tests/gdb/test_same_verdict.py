# SPDX-License-Identifier: BSD-2-Clause
"""`lamp why` and `lamppost run` say the same of the same death."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from debug.labs.diagnose import diagnose
from debug.labs.lab import load
from debug.labs.workshop import build
from tests.gdb.drive import run

LABS = (
    "ap-cr3-zero",
    "ap-entry-null",
    "ap-far-jump-null",
    "ap-gs-too-early",
    "ap-pae-missing",
    "ap-stack-unmapped",
    "bsp-lme-missing",
    "gdt-at-physical-address",
    "text-nx",
)

WHY = """
do("disable")
do("continue")
report["why"] = json.loads(do("lamp why --json"))
"""


@pytest.mark.emulator
@pytest.mark.parametrize("lab_id", LABS)
def test_gdb_says_what_run_says(lab_id: str, tmp_path: Path) -> None:
    lab = replace(load(lab_id), cpus=2)  # with one AP it is known who dies
    kernel = build(lab)
    why = run(kernel.build, tmp_path, WHY, "--cpus", "2").report["why"]
    diagnosis = diagnose(lab, "qemu")
    first, named = diagnosis.causes[0], why["causes"][0]
    assert (named["id"], named["certainty"]) == (first.row.id, first.certainty.value)
    assert (why["status"], why["culprit"]) == (diagnosis.status, diagnosis.explanation.culprit)
