# SPDX-License-Identifier: BSD-2-Clause
"""Global pages: kernels that forget too little, which the self-test must notice.

Bochs keeps global pages when CR3 is loaded, as hardware does; TCG forgets everything then.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.boot import machine, verdict
from tests.tree import TREE

pytestmark = pytest.mark.emulator

BUILD_LIMIT = 120  # seconds


class Mutant(NamedTuple):
    source: str
    old: str
    new: str
    emulator: str
    options: str
    noticed: str  # the claim that no longer holds


MUTANTS = {
    "shootdown-by-cr3": Mutant(
        "src/smp/tlb.c",
        "if (cr4 & CR4_PGE) {",
        "if (!cr4) {",
        "bochs",
        "selftest",
        "a page that is unmapped faults on every CPU, and its new one is seen",
    ),
    "trampoline-page-global": Mutant(
        "src/smp/prepare.c",
        "paging_map(address, address, 0);",
        "paging_map(address, address, PAGE_GLOBAL);",
        "qemu",
        "selftest smp=broadcast",
        "the kernel's pages are global on every CPU, and no others are",
    ),
    "an-ap-without-pge": Mutant(
        "src/smp/tlb.c",
        "if (cpuid(CPUID_FEATURES, 0).edx & CPUID_1_EDX_PGE)",
        "if (this_cpu()->lcpu->idx != 1)",
        "qemu",
        "selftest",
        "the kernel's pages are global on every CPU, and no others are",
    ),
}


def build(mutant: Mutant, directory: Path) -> Path:
    """The image of the changed kernel."""
    for part in ("src", "trampoline"):
        shutil.copytree(TREE / part, directory / "tree" / part)
    source = directory / "tree" / mutant.source
    text = source.read_text(encoding="utf-8")
    assert text.count(mutant.old) == 1
    source.write_text(text.replace(mutant.old, mutant.new), encoding="utf-8")
    target = directory / ("lamppost.iso" if mutant.emulator == "bochs" else "lamppost.elf")
    subprocess.run(
        ["make", "-s", "-f", "src/kernel.mk", f"TREE={directory / 'tree'}"]
        + [f"BUILD={directory}", f"GRUB_OPTIONS={mutant.options}", str(target)],
        cwd=TREE,
        timeout=BUILD_LIMIT,
        check=True,
    )
    return target


@pytest.mark.parametrize("name", MUTANTS)
def test_the_self_test_notices(name: str, tmp_path: Path) -> None:
    mutant = MUTANTS[name]
    image = build(mutant, tmp_path)
    if mutant.emulator == "bochs":
        guest = machine.bochs(image, 2, tmp_path, "corei7_haswell_4770")
    else:
        options = machine.kernel_image(tmp_path, mutant.options)
        guest = machine.qemu(options, "2", ["-accel", machine.SINGLE])
    with guest:
        boot = guest.run()
    console = verdict.decode_whole(boot.e9, name).console
    failed = [line for line in console.splitlines() if line.startswith("not ok")]
    assert len(failed) == 1 and failed[0].endswith(mutant.noticed), console
