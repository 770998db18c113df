# SPDX-License-Identifier: BSD-2-Clause
"""The kernel as a static PIE: it moves itself, and carries the same trampoline as data."""

from __future__ import annotations

import re
import struct
import subprocess
from pathlib import Path
from typing import Iterator

import pytest
from elftools.elf.elffile import ELFFile

from debug.sources.elf_symbols import ElfFile
from tests.boot import machine, verdict
from tests.tree import TREE

pytestmark = pytest.mark.emulator

CPUS = 4
MULTIBOOT1_AT = 0x100000  # that loader can't move it
ELSEWHERE = 0x2345000  # no multiple of 2 MiB
# The Multiboot 2 tag that lets a loader move the kernel: type, flags, size, least address.
TAG = struct.pack("<HHII", 10, 0, 24, MULTIBOOT1_AT)
LIMIT = 120  # seconds
BITS = 63  # places that a word of .relr.dyn describes


def places(elf: Path) -> Iterator[int]:
    """The addresses that .relr.dyn names [gABI "Relative Relocation Table"]."""
    with open(elf, "rb") as file:
        data = ELFFile(file).get_section_by_name(".relr.dyn").data()
    at = 0
    for (word,) in struct.iter_unpack("<Q", data):
        if word & 1:
            yield from (at + 8 * bit for bit in range(BITS) if word >> bit + 1 & 1)
            at += 8 * BITS
        else:
            yield word
            at = word + 8


def test_no_relocation_touches_the_trampoline(pie_kernel: Path, kernel: Path) -> None:
    with open(pie_kernel / "lamppost.elf", "rb") as file:
        elf = ELFFile(file)
        assert elf["e_type"] == "ET_DYN"
        kinds = [section["sh_type"] for section in elf.iter_sections()]
        assert "SHT_RELA" not in kinds and "SHT_REL" not in kinds
    symbols = ElfFile(pie_kernel / "lamppost.elf")
    start, end = symbols.address("trampoline_image"), symbols.address("trampoline_relocations_end")
    assert start and end and end - start > 3 * 0x600
    found = list(places(pie_kernel / "lamppost.elf"))
    assert len(found) > 100
    assert not [place for place in found if start <= place < end]
    for name in ("trampoline.bin", "trampoline-stamp.bin", "trampoline.reloc"):
        assert (pie_kernel / name).read_bytes() == (kernel / name).read_bytes(), name


def iso(pie_kernel: Path, directory: Path, least: int) -> Path:
    """An ISO whose kernel asks not to be loaded below `least`."""
    tree = directory / "iso"
    (tree / "boot/grub").mkdir(parents=True)
    image = (pie_kernel / "lamppost.elf").read_bytes()
    assert image.count(TAG) == 1
    moved = image.replace(TAG, TAG[:-4] + struct.pack("<I", least))
    (tree / "boot/lamppost.elf").write_bytes(moved)
    config = (TREE / "src/boot/grub.cfg").read_text(encoding="ascii")
    (tree / "boot/grub/grub.cfg").write_text(config.replace("@OPTIONS@", "selftest"))
    result = directory / "pie.iso"
    subprocess.run(
        ["grub-mkrescue", "-o", str(result), str(tree)],
        check=True,
        capture_output=True,
        timeout=LIMIT,
    )
    return result


def check(boot: machine.Boot, at: int, exit_code: int | None) -> None:
    if exit_code is not None:
        assert boot.exit_code == exit_code, boot.e9[-2000:].decode("latin-1")
    console = verdict.decode_whole(boot.e9, "port 0xE9").console
    assert re.search(rf"^a PIE at {at:#x}: ", console, re.MULTILINE), console
    assert f"{CPUS} of {CPUS} CPUs online\n" in console
    assert re.search(r"^# \d+ passed, 0 failed$", console, re.MULTILINE), console


SUCCESS = verdict.exit_codes()["OK"] << 1 | 1


def test_qemu_at_its_own_address(pie_kernel: Path) -> None:
    image = machine.kernel_image(pie_kernel, "selftest")
    with machine.qemu(image, str(CPUS), ["-accel", machine.SINGLE]) as guest:
        check(guest.run(), MULTIBOOT1_AT, SUCCESS)


def test_qemu_where_grub_puts_it(pie_kernel: Path, tmp_path: Path) -> None:
    image = ["-cdrom", str(iso(pie_kernel, tmp_path, ELSEWHERE)), "-boot", "d"]
    with machine.qemu(image, str(CPUS), ["-accel", machine.SINGLE]) as guest:
        check(guest.run(), ELSEWHERE, SUCCESS)


@pytest.mark.parametrize("least", [MULTIBOOT1_AT, ELSEWHERE], ids=hex)
def test_bochs(pie_kernel: Path, tmp_path: Path, least: int) -> None:
    image = iso(pie_kernel, tmp_path, least)
    with machine.bochs(image, CPUS, tmp_path, "corei7_haswell_4770") as guest:
        check(guest.run(), least, None)


def test_symbols_are_found_at_the_offset(pie_kernel: Path) -> None:
    """--symbols is told where the PIE lies, and names the function that each CPU is in."""
    done = subprocess.run(
        [
            str(TREE / "debug/lamppost"),
            *("run", "--json", "--symbols", f"{pie_kernel / 'lamppost.elf'}@{MULTIBOOT1_AT:#x}"),
            *("--timeout", "60", "--", "qemu-system-x86_64", "-kernel"),
            *(str(pie_kernel / "lamppost.elf"), "-append", "smp=serial", "-smp", "2"),
        ],
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    assert '"status": "healthy"' in done.stdout, done.stdout + done.stderr
    assert "idle" in done.stdout
