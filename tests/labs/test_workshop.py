# SPDX-License-Identifier: BSD-2-Clause
"""A lab that begins with the kernel's objects is the lab that is built from nothing."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from debug.kernel.machine import ROOT
from debug.labs import workshop
from debug.labs.lab import Lab, LabError, load
from debug.labs.workshop import CONFIG, build

# One that touches a file, and one whose header is read by C, NASM and the linker script.
LABS = ("ap-gdt-limit", "low-memory-read-only")


def _loaded(lab: Lab, name: str, directory: Path) -> bytes:
    """The kernel without what only debuggers read."""
    elf = directory / name.replace("/", "-")
    subprocess.run(["objcopy", "--strip-debug", build(lab, name=name).elf, elf], check=True)
    return elf.read_bytes()


@pytest.mark.parametrize("lab_id", LABS)
def test_both_are_the_same_kernel(lab_id: str, tmp_path: Path) -> None:
    assert (ROOT / "build" / "config").read_text() == CONFIG.format("."), "run make kernel first"
    begun, whole = f"test-workshop/{lab_id}", f"test-workshop/{lab_id}-whole"
    for name in (begun, whole):
        shutil.rmtree(ROOT / "build" / name, ignore_errors=True)
    (ROOT / "build" / whole / "tree").mkdir(parents=True)  # which says that it has begun
    lab = load(lab_id)
    assert _loaded(lab, begun, tmp_path) == _loaded(lab, whole, tmp_path)


def test_a_lab_on_changed_sources_gets_one_sentence(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(workshop, "SOURCES", ("trampoline",))
    monkeypatch.setattr(workshop, "changed_sources", lambda: "changed in this tree: src/kmain.c")
    with pytest.raises(LabError) as told:
        workshop.apply_patch(load("sti-before-idt"), tmp_path / "tree")  # it changes src/kmain.c
    assert str(told.value) == (
        "sti-before-idt: its patch does not fit these sources; changed in this tree: src/kmain.c"
    )
