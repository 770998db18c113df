# SPDX-License-Identifier: BSD-2-Clause
"""The kit's files stand alone, and docs/drop-in-kit.md says of them what is true."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from debug.stages.elf import read_table
from tests.kit.build import KIT, gcc, nasm
from tests.tree import TREE

PAGE = (TREE / "docs/drop-in-kit.md").read_text(encoding="utf-8")
LIMIT = 60  # seconds
FILES = ("lamppost.inc", "lamppost_gas.inc", "lamppost.h")
ALL = "bits 16\na: LAMP 0x10\nb: LAMPPOST_EMITTER\nbits 32\nc: LAMP 0x30\nd: LAMPPOST_EMITTER\n"
ALL += "bits 64\ne: LAMP 0x60\nf: LAMPPOST_EMITTER\ng:\n"
STATE = "%define LAMPPOST_COM1\n%define LAMPPOST_STATE16 fs:0\n%define LAMPPOST_STATE32 0x7000\n"
STATE += "%define LAMPPOST_STATE64 abs 0x7000\n"
INCLUDE = '%include "lamppost.inc"\n'


def example(language: str) -> str:
    """The page's example in this language."""
    found = re.search(rf"^```{language}\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    assert found is not None
    return found[1]


def row(name: str) -> list[int]:
    """The numbers in a row of the page's tables."""
    found = re.search(rf"^\| {re.escape(name)} \|(.*)\|$", PAGE, re.MULTILINE)
    assert found is not None
    return [int(cell) for cell in found[1].split("|")]


def sizes(source: str, directory: Path) -> list[int]:
    """Bytes between the labels a to g."""
    (directory / "all.asm").write_text(source, encoding="ascii")
    built = nasm(directory / "all.asm", directory / "all.o", form="elf64")
    listing = subprocess.run(
        ["nm", built], capture_output=True, text=True, timeout=LIMIT, check=True
    )
    at = {name: int(value, 16) for value, _, name in map(str.split, listing.stdout.splitlines())}
    return [at[following] - at[label] for label, following in zip("abcdef", "bcdefg")]


def test_each_file_stands_alone_under_its_own_licence() -> None:
    assert sorted(path.name for path in KIT.iterdir()) == sorted(FILES)
    for name in FILES:
        text = (KIT / name).read_text(encoding="ascii")
        assert "SPDX-License-Identifier: 0BSD" in text.splitlines()[0]
        included = re.findall(r"^[#%.]include\s+(\S+)", text, re.MULTILINE)
        assert included == (["<stdint.h>"] if name.endswith(".h") else [])


def test_the_sizes_on_the_page_are_the_real_ones(tmp_path: Path) -> None:
    alone = sizes(INCLUDE + ALL, tmp_path)
    assert row("bytes per lamp, NASM") == alone[0::2]
    assert row("bytes of the emitter, NASM") == alone[1::2]
    assert row("with COM1 and a state") == sizes(STATE + INCLUDE + ALL, tmp_path)[1::2]


def test_the_examples_on_the_page_assemble_and_compile(tmp_path: Path) -> None:
    (tmp_path / "a.asm").write_text(example("nasm"), encoding="ascii")
    (tmp_path / "b.s").write_text(example("gas"), encoding="ascii")
    (tmp_path / "c.c").write_text(
        "void ap_main(unsigned apic_id);\n" + example("c"), encoding="ascii"
    )
    nasm(tmp_path / "a.asm", tmp_path / "a.o")
    gcc(tmp_path / "b.s", tmp_path / "b.o")
    read_back = read_table(str(gcc(tmp_path / "c.c", tmp_path / "c.o", bits=64)))
    assert [stage.name for stage in read_back.stages] == ["MY_HEAP"]


def test_a_flat_binary_needs_no_linker(tmp_path: Path) -> None:
    (tmp_path / "flat.asm").write_text(
        "org 0x8000\n" + INCLUDE + 'LAMPPOST_NAME 0x80, A, "real16", "b", "c"\n' + ALL,
        encoding="ascii",
    )
    data = nasm(tmp_path / "flat.asm", tmp_path / "flat", form="bin").read_bytes()
    assert data[:3] == b"\xbe\x10\x00"  # mov si, 10h
    assert data[3:6] == b"\xbf\x09\x80"  # mov di, 8009h: where the lamp is left


def test_a_page_known_at_run_time_is_added(tmp_path: Path) -> None:
    (tmp_path / "a.asm").write_text(
        "%define LAMPPOST_ADD32 ebp\n%define LAMPPOST_BASE32 page\n" + INCLUDE + "bits 32\n"
        "times 32 nop\npage: LAMP 0x30\nLAMPPOST_EMITTER\n",
        encoding="ascii",
    )
    data = code(nasm(tmp_path / "a.asm", tmp_path / "a.o"))
    assert data[32 + 5 :].startswith(b"\x8d\x7d\x0d")  # lea edi, [ebp + 0dh]


@pytest.mark.parametrize("name", ["lamppost.inc", "lamppost_gas.inc", "lamppost.h"])
def test_switched_off_it_leaves_nothing(name: str, tmp_path: Path) -> None:
    (tmp_path / "off.asm").write_text(INCLUDE + ALL, encoding="ascii")
    (tmp_path / "off.S").write_text(
        '.set LAMPPOST_OFF, 1\n.include "lamppost_gas.inc"\nLAMP32 1\nLAMPPOST_EMITTER32\n',
        encoding="ascii",
    )
    (tmp_path / "off.c").write_text(
        '#include "lamppost.h"\nvoid f(void);\nvoid f(void) { LAMP(1); LAMP_ARG(2, 3); }\n',
        encoding="ascii",
    )
    (tmp_path / "empty.c").write_text("void f(void);\nvoid f(void) {}\n", encoding="ascii")
    if name == "lamppost.inc":
        assert code(nasm(tmp_path / "off.asm", tmp_path / "o", "LAMPPOST_OFF")) == b""
    elif name == "lamppost_gas.inc":
        assert code(gcc(tmp_path / "off.S", tmp_path / "o")) == b""
    else:
        empty = code(gcc(tmp_path / "empty.c", tmp_path / "e"))
        assert code(gcc(tmp_path / "off.c", tmp_path / "o", "LAMPPOST_OFF")) == empty


def code(built: Path) -> bytes:
    """The bytes of .text."""
    output = built.with_suffix(".text")
    subprocess.run(
        ["objcopy", "-O", "binary", "-j", ".text", built, output], timeout=LIMIT, check=True
    )
    return output.read_bytes()


@pytest.mark.parametrize("bits", [16, 32, 64])
@pytest.mark.parametrize("define", [(), ("LAMPPOST_COM1", "LAMPPOST_STATE=0x7000")])
def test_c_compiles_strictly_in_every_mode(
    bits: int, define: tuple[str, ...], tmp_path: Path
) -> None:
    (tmp_path / "a.c").write_text(
        '#pragma GCC diagnostic error "-Wconversion"\n'
        '#pragma GCC diagnostic error "-Wundef"\n#pragma GCC diagnostic error "-Wpedantic"\n'
        '#include "lamppost.h"\n'
        "void f(int x);\nvoid f(int x) { LAMP(0x80); LAMP_ARG(0x81, x); }\n",
        encoding="ascii",
    )
    built = gcc(tmp_path / "a.c", tmp_path / "a.o", *define, bits=bits)
    missing = subprocess.run(["nm", "-u", built], capture_output=True, timeout=LIMIT, check=True)
    assert missing.stdout == b""  # no library
