# SPDX-License-Identifier: BSD-2-Clause
"""Names, lines and segments from ELF files, good and bad."""

from __future__ import annotations

import random
import subprocess
from pathlib import Path
from typing import Optional

import pytest

from debug.sources.elf_symbols import ElfFile, ElfSymbols, SymbolError

SOURCE = """        bits 64
        section .text
        global entry:function (entry.end - entry)
entry:  nop
.loop:  jmp .loop
.end:
        times 5 nop
unsized:
        hlt
        hlt
constant equ 0x1234
        global constant
        section .data
value:  dq 5
"""


@pytest.fixture(scope="module")
def elf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("elf")
    (folder / "a.asm").write_text(SOURCE)
    subprocess.run(
        ["nasm", "-f", "elf64", "-g", "-F", "dwarf", "a.asm", "-o", "a.o"], cwd=folder, check=True
    )
    subprocess.run(
        ["ld", "-Ttext=0x401000", "-e", "entry", "-o", "a.elf", "a.o"], cwd=folder, check=True
    )
    return folder / "a.elf"


def test_names_and_lines(elf: Path) -> None:
    symbols = ElfSymbols([(elf, 0)])
    assert symbols.address("entry") == 0x401000
    found = symbols.lookup(0x401001)
    assert found is not None
    assert (found.name, found.offset, found.line) == ("entry", 1, 5)
    assert found.file.endswith("a.asm")
    assert symbols.address("constant") == 0x1234


def test_addresses_that_no_symbol_covers(elf: Path) -> None:
    symbols = ElfSymbols([(elf, 0)])
    assert symbols.lookup(0x400FFF) is None
    assert symbols.lookup(1 << 63) is None
    unsized = symbols.address("unsized")
    assert unsized is not None
    found = symbols.lookup(unsized + 1)
    assert found is not None and str(found).startswith("unsized+0x1")
    assert symbols.lookup(unsized + 0x100000) is None


def test_the_load_offset_moves_places_and_not_constants(elf: Path) -> None:
    symbols = ElfSymbols([(elf, 0x8000 - 0x401000)])
    assert symbols.address("entry") == 0x8000
    assert str(symbols.lookup(0x8001)).startswith("entry+0x1")
    assert symbols.lookup(0x401001) is None
    assert symbols.address("constant") == 0x1234


class Ram:
    def __init__(self, base: int, data: bytes) -> None:
        self.base, self.data = base, data

    def read(self, physical: int, length: int) -> Optional[bytes]:
        at = physical - self.base
        return self.data[at : at + length] if 0 <= at <= len(self.data) - length else None


def test_does_the_file_belong_to_the_memory(elf: Path) -> None:
    file = ElfFile(elf)
    text = next(segment for segment in file.segments() if segment.executable)
    assert not text.writable and text.data
    same = file.compare(Ram(text.physical, text.data))
    assert same.different == 0 and same.compared == len(text.data)
    other = file.compare(Ram(text.physical, b"\xcc" + text.data[1:]))
    assert (other.different, other.first) == (1, text.physical)
    assert file.compare(Ram(0, b"")).compared == 0


@pytest.mark.parametrize("data", [b"", b"\x7fELF", b"text\n", b"\x7fELF\x02\x01\x01" + bytes(57)])
def test_what_is_no_elf_is_a_clear_error(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "x.elf"
    path.write_bytes(data)
    with pytest.raises(SymbolError, match="x.elf"):
        ElfSymbols([(path, 0)])
    with pytest.raises(SymbolError, match="no such file"):
        ElfSymbols([(tmp_path / "none", 0)])


@pytest.mark.parametrize(
    "data, said",
    [
        (b"MZ\x90\x00" + bytes(64), "PE format"),
        (b"\xcf\xfa\xed\xfe" + bytes(64), "Mach-O"),
        (b"text\n", "no ELF file"),
    ],
)
def test_another_format_is_named(tmp_path: Path, data: bytes, said: str) -> None:
    path = tmp_path / "kernel"
    path.write_bytes(data)
    with pytest.raises(SymbolError, match=f"{said}.*expected the ELF file"):
        ElfSymbols([(path, 0)])
    with pytest.raises(SymbolError, match="a directory; expected"):
        ElfSymbols([(tmp_path, 0)])


def test_damaged_files_never_raise_anything_else(elf: Path, tmp_path: Path) -> None:
    good, source = elf.read_bytes(), random.Random(7)
    path = tmp_path / "bad.elf"
    for _ in range(150):
        bad = bytearray(good)
        for _ in range(source.randrange(1, 12)):
            bad[source.randrange(len(bad))] = source.randrange(256)
        path.write_bytes(bad[: source.choice([len(bad), source.randrange(len(bad))])])
        try:
            symbols = ElfSymbols([(path, 0)])
            symbols.lookup(0x401001)
            symbols.files[0].segments()
        except SymbolError as error:
            assert "bad.elf" in str(error)
