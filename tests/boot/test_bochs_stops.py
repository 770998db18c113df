# SPDX-License-Identifier: BSD-2-Clause
"""`make bochs` stops where the trampoline and the kernel really are."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Callable

import pytest

from debug.sources.elf_symbols import ElfFile
from tests.boot import test_pie
from tests.tree import TREE

pytestmark = pytest.mark.emulator

LIMIT = 180  # seconds


def stops(kernel: Path, image: Path, directory: Path) -> str:
    """What a boot of `image` under the debugger shows, with `kernel` as the build."""
    build = directory / "build"
    build.mkdir()
    for name in ("lamppost.elf", "trampoline.elf"):
        shutil.copy(kernel / name, build)
    shutil.copy(image, build / "lamppost.iso")
    done = subprocess.run(
        ["/usr/bin/python3", "-m", "debug.kernel", "bochs", "--headless", "--cpus", "2"]
        + ["--build", str(build)],
        cwd=TREE,
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def check(shown: str, page: int, kernel: ElfFile, trampoline: ElfFile) -> None:
    start64, entry = trampoline.address("lcpu_start64"), kernel.address("ap_entry")
    assert f"at {page >> 4:04x}:0001 = {page + 1:#x}, lcpu_start16+0x1" in shown, shown
    for address, name in ((start64, "lcpu_start64"), (entry, "ap_entry")):
        # Or one instruction on, where Bochs passed over the first.
        assert f"reached {name}" in shown, shown
        assert address is not None and f"at {address & ~15:#x}"[:-1] in shown, shown


def test_the_trampoline_in_another_page(
    kernel: Path, iso: Callable[[str], Path], tmp_path: Path
) -> None:
    shown = stops(kernel, iso("; cutmem 0x8000 0x9000"), tmp_path)
    assert "the trampoline is at 0x9000, not at 0x8000: breakpoints moved\n" in shown
    elf, trampoline = kernel / "lamppost.elf", kernel / "trampoline.elf"
    check(shown, 0x9000, ElfFile(elf), ElfFile(trampoline, 0x9000))


def test_a_pie(pie_kernel: Path, tmp_path: Path) -> None:
    at = test_pie.MULTIBOOT1_AT
    shown = stops(pie_kernel, test_pie.iso(pie_kernel, tmp_path, at), tmp_path)
    elf, trampoline = pie_kernel / "lamppost.elf", pie_kernel / "trampoline.elf"
    check(shown, 0x8000, ElfFile(elf, at), ElfFile(trampoline, 0x8000))
