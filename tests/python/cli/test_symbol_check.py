# SPDX-License-Identifier: BSD-2-Clause
"""Symbols of another build are found out, and are not used."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from debug.cli.symbol_check import checked
from debug.sources.elf_symbols import ElfFile, ElfSymbols
from tests.python.evidence_builder import KERNEL, KERNEL_PHYSICAL, Machine, registers

LIMIT = 120  # seconds
OURS = "".join(
    f"int {name}(int x, int y) {{ return x / {n} + y % {n + 2} - (x << 3); }}"
    for n, name in enumerate(("one", "two", "three", "four"), 3)
)
THEIRS = "".join(
    f"int {name}(int *x) {{ for (int i = 0; i < {n}; i++) x[i] ^= x[i + 5]; return *x; }}"
    for n, name in enumerate(("one", "two", "three", "four"), 40)
)


def build(folder: Path, name: str, source: str) -> Path:
    file = folder / name
    flags = ["-O1", "-ffreestanding", "-fno-pic", "-mcmodel=kernel", "-nostdlib", "-static"]
    place = [f"-Wl,-Ttext={KERNEL:#x}", "-Wl,--build-id=none", "-Wl,-e,one"]
    subprocess.run(
        ["gcc", *flags, *place, "-x", "c", "-", "-o", str(file)],
        input=source.encode(),
        check=True,
        timeout=LIMIT,
    )
    return file


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """What the machine runs, and another build."""
    folder = tmp_path_factory.mktemp("elf")
    return build(folder, "ours.elf", OURS), build(folder, "theirs.elf", THEIRS)


def machine(image: Path) -> Machine:
    """The BSP stands in the first function of this file, and the AP nowhere."""
    made = Machine()
    code = ElfFile(image).code(KERNEL, 8)
    assert code is not None
    for one in ElfFile(image).segments():
        if one.executable:
            made.ram.write(one.virtual - KERNEL + KERNEL_PHYSICAL, one.data)
    here = registers(rip=KERNEL + 1, rsp=KERNEL + 0x9000)
    made.bsp = replace(made.bsp, registers=here, halted=False)
    made.ap = replace(made.ap, registers=registers("real"))
    return made


def test_the_file_of_the_machine_is_used(files: tuple[Path, Path]) -> None:
    left, notes = checked(ElfSymbols([(files[0], 0)]), machine(files[0]).evidence())
    assert (str(left.lookup(KERNEL + 1)), notes) == ("one+0x1", ())


def test_another_build_is_said_and_not_used(files: tuple[Path, Path]) -> None:
    left, notes = checked(ElfSymbols([(files[1], 0)]), machine(files[0]).evidence())
    assert left.lookup(KERNEL + 1) is None
    assert len(notes) == 1 and "memory does not hold its code (one at" in notes[0]


def test_the_right_one_of_two_answers(files: tuple[Path, Path]) -> None:
    both = ElfSymbols([(files[1], 0), (files[0], 0)])
    left, notes = checked(both, machine(files[0]).evidence())
    assert [file.path for file in left.files] == [str(files[0])] and len(notes) == 1


def test_a_load_offset_that_is_missing(files: tuple[Path, Path]) -> None:
    left, notes = checked(ElfSymbols([(files[0], 0x10000)]), machine(files[0]).evidence())
    assert len(left.files) == 1
    assert "no symbol file has a name for 0xffffffff80000001" in notes[0]


def test_another_build_is_found_out_where_no_tables_map_it(tmp_path: Path) -> None:
    """CR3 is 0: the BSP dies at the instruction behind the one that enables paging."""
    code = (("a", "mov %ecx, %edx"), ("b", "imul %eax, %ebx"))
    ours, theirs = (assembled(tmp_path, *one, place=0x200000) for one in code)
    made = Machine()
    made.ap = replace(made.ap, registers=registers("real"))
    for one in ElfFile(ours).segments():
        made.ram.write(one.physical, one.data)
    here = registers("prot32", rip=0x200003, cr0=0x80000011, cr3=0)
    made.bsp = replace(made.bsp, registers=here, halted=False)
    for file, kept in ((ours, True), (theirs, False)):
        left, _ = checked(ElfSymbols([(file, 0)]), made.evidence())
        assert bool(left.files) is kept


def test_code_that_was_cleared_since_contradicts_nothing(files: tuple[Path, Path]) -> None:
    made = machine(files[0])
    made.ram.write(KERNEL_PHYSICAL, bytes(4096))
    left, notes = checked(ElfSymbols([(files[0], 0)]), made.evidence())
    assert (str(left.lookup(KERNEL + 1)), notes) == ("one+0x1", ())


def test_a_file_without_symbols(files: tuple[Path, Path], tmp_path: Path) -> None:
    bare = tmp_path / "bare.elf"
    subprocess.run(["strip", "-s", str(files[0]), "-o", str(bare)], check=True, timeout=LIMIT)
    _, notes = checked(ElfSymbols([(bare, 0)]), machine(files[0]).evidence())
    assert notes == (f"{bare}: it has no symbols (was it stripped?)",)


def assembled(folder: Path, name: str, add: str, place: int = KERNEL) -> Path:
    """What an assembler makes: symbols without sizes."""
    source = f".globl one, two\none: .rept 8; {add}; .endr\ntwo: .rept 8; {add}; .endr\nhlt\n"
    file, made = folder / f"{name}.elf", folder / f"{name}.o"
    subprocess.run(
        ["as", "--64", "-o", str(made)], input=source.encode(), check=True, timeout=LIMIT
    )
    words = [f"-Ttext={place:#x}", "-e", "one", "-o", str(file)]
    subprocess.run(["ld", *words, str(made)], check=True, timeout=LIMIT)
    return file


def test_another_build_is_found_out_without_sizes_too(tmp_path: Path) -> None:
    runs = assembled(tmp_path, "runs", "add $1, %eax")
    other = assembled(tmp_path, "other", "xor %rcx, %rdx")
    left, notes = checked(ElfSymbols([(runs, 0)]), machine(runs).evidence())
    assert (str(left.lookup(KERNEL + 1)), notes) == ("one+0x1", ())
    left, notes = checked(ElfSymbols([(other, 0)]), machine(runs).evidence())
    assert left.lookup(KERNEL + 1) is None and "another build" in notes[0]
