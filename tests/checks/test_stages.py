# SPDX-License-Identifier: BSD-2-Clause
"""The stage table, the code that emits stages, and the ELF that carries both agree."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from debug.stages.elf import read_sites, read_table
from debug.stages.table import BUILT_IN

PAGE = 0x1000
KIT_PAGE = Path(__file__).parents[2] / "docs/drop-in-kit.md"


def test_the_elf_carries_the_table(kernel: Path) -> None:
    assert read_table(str(kernel / "lamppost.elf")).stages == BUILT_IN.stages


def test_every_stage_is_emitted_in_its_mode(kernel: Path) -> None:
    sites = read_sites(str(kernel / "lamppost.elf"))
    emitted = {(site.code, site.mode) for site in sites}
    assert emitted == {(stage.code, stage.mode) for stage in BUILT_IN.stages}


def test_the_trampoline_emits_the_stages_of_assembly(kernel: Path) -> None:
    sites = read_sites(str(kernel / "lamppost.elf"))
    size = (kernel / "trampoline.bin").stat().st_size
    assert size <= PAGE
    in_page = [site for site in sites if site.in_trampoline]
    assert all(site.address < size for site in in_page)
    assert {site.code >> 4 for site in in_page} == {0x1, 0x3, 0x6}


def test_16_bit_code_needs_no_relocation(kernel: Path) -> None:
    done = subprocess.run(
        ["objdump", "-r", "-j", ".text16", str(kernel / "trampoline.o")],
        capture_output=True,
        check=True,
        timeout=30,
    )
    assert b"R_X86_64" not in done.stdout, done.stdout.decode()


def test_an_untraced_kernel_holds_nothing_of_the_protocol(untraced_kernel: Path) -> None:
    assert read_sites(str(untraced_kernel / "lamppost.elf")) == ()
    image = (untraced_kernel / "trampoline.bin").read_bytes()
    assert b"\xf3\x6e" not in image and b"\xee" not in image, "it writes to a port"


def test_the_codes_that_are_offered_to_other_kernels_are_free() -> None:
    offered = re.search(r"own codes go into `(..)` to `(..)`", KIT_PAGE.read_text("utf-8"))
    assert offered is not None
    first, last = (int(code, 16) for code in offered.groups())
    assert not [stage.name for stage in BUILT_IN.stages if first <= stage.code <= last]
