# SPDX-License-Identifier: BSD-2-Clause
"""The stage table: its source, what is made from it, and what an ELF file says."""

from __future__ import annotations

import re
import shutil
import struct
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from debug.stages import generate, tsv
from debug.stages.elf import read_sites, read_table, table_for
from debug.stages.header import parse_header
from debug.stages.model import StageTableError
from debug.stages.table import BUILT_IN

HEADER = (generate.ROOT / generate.SOURCE).read_text()
ENTRY = 'STAGE(0x10, AP_REAL16, real16,\n "one " "two",\n "three")\n'


def test_the_committed_products_are_current() -> None:
    assert generate.stale(parse_header(HEADER, generate.SOURCE), generate.ROOT) == []
    assert generate.main(["--check"]) == 0


def test_a_stale_product_is_named(tmp_path: Path) -> None:
    table = parse_header(HEADER, "stages.h")
    for path, text in generate.committed(table).items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    (tmp_path / "docs/stage-codes.md").write_text("old")
    assert generate.stale(table, tmp_path) == ["docs/stage-codes.md"]


def test_every_entry_of_the_source_is_read() -> None:
    """Against a witness that only counts."""
    table = parse_header(HEADER, "stages.h")
    assert len(table.stages) == len(re.findall(r"^STAGE\(", HEADER, re.MULTILINE))
    assert table.get(0x60) is not None and table.name(0x60) == "AP_LONG64"
    assert table.stages == BUILT_IN.stages


def test_adjacent_strings_join_and_comments_do_not_count() -> None:
    table = parse_header("// STAGE(\n/* STAGE(1)\n */" + ENTRY, "t.h")
    assert table.stages[0].became == "one two"


@pytest.mark.parametrize(
    "text, complaint",
    [
        (ENTRY + ENTRY, "t.h:4: code 0x10 is already taken by line 1"),
        (ENTRY + ENTRY.replace("0x10", "0x11"), "t.h:4: AP_REAL16 is already taken by line 1"),
        (ENTRY.replace("real16,", "real32,"), "t.h:1: mode real32 is not one of"),
        (ENTRY.replace("real16,", "long64,"), "t.h:1: a stage 1x can't run in long64"),
        (ENTRY.replace("0x10", "0x0f"), "t.h:1: code 0x0f is in no group"),
        (ENTRY.replace("0x10", "0xf0"), "t.h:1: code 0xf0 is in no group"),
        (ENTRY.replace("0x10", "0x100"), "t.h:1: code 0x100 is in no group"),
        (ENTRY.replace('"three"', '""'), "t.h:3: the sentence for what is needed next is empty"),
        (ENTRY.replace('"three"', '"thr\tee"'), "t.h:3:"),
        (ENTRY.replace('"three")', '"three"'), "expected ) after the second sentence"),
        (ENTRY.replace('"three"', '"three'), "t.h:3: this string has no end on its line"),
        (ENTRY + "/* open", "t.h:4: this comment has no end"),
        (ENTRY + "#define X 1", "t.h:4: unexpected '#define X 1'"),
        (ENTRY.replace("STAGE", "STAGES"), "t.h:1: expected STAGE, found STAGES"),
        (ENTRY.replace("AP_REAL16", "ap"), "t.h:1: name ap: expected capitals"),
        ("", "no STAGE(...) entry"),
    ],
)
def test_mistakes_in_the_source_are_named_with_their_line(text: str, complaint: str) -> None:
    with pytest.raises(StageTableError, match=re.escape(complaint)):
        parse_header(text, "t.h")


@given(st.text(max_size=60))
def test_any_source_is_a_table_or_an_error(text: str) -> None:
    try:
        parse_header(ENTRY + text, "t.h")
    except StageTableError as error:
        assert str(error).startswith("t.h:")


def test_the_document_names_every_stage_and_a_right_frame() -> None:
    text = generate.committed(BUILT_IN)["docs/stage-codes.md"]
    for stage in BUILT_IN.stages:
        assert f"| `{stage.code:02x}` | `{stage.name}` |" in text
    assert "@03:60.c*" in text


@pytest.mark.skipif(shutil.which("nasm") is None, reason="nasm is not installed")
def test_nasm_sees_the_codes_and_modes(tmp_path: Path) -> None:
    assert generate.main(["--nasm", str(tmp_path / "stages.inc")]) == 0
    source = '%include "stages.inc"\ndb STAGE_AP_PG, MODE_OF_AP_PG, STAGE_BSP_EXIT, MODE_REAL16\n'
    (tmp_path / "a.asm").write_text(source)
    subprocess.run(["nasm", "-f", "bin", "a.asm", "-o", "a.bin"], cwd=tmp_path, check=True)
    assert (tmp_path / "a.bin").read_bytes() == bytes([0x34, 4, 0xCF, 1])


def test_the_text_of_the_section_gives_the_table_back() -> None:
    text = tsv.format_tsv(BUILT_IN.stages).encode()
    assert tsv.parse_tsv(text + b"\0\0", "x").stages == BUILT_IN.stages


@pytest.mark.parametrize(
    "data, complaint",
    [
        (b"", "x: the stage table is empty"),
        (b"10\tA\treal16\tb\n", "x: line 1 of the stage table has 4 fields, expected 5"),
        (b"1g\tA\treal16\tb\tc\n", "'1g' is not a code"),
        (b"10\tA B\treal16\tb\tc\n", "'A B' is not a name"),
        (b"10\tA\treal17\tb\tc\n", "'real17' is not one of"),
        (b"10\tA\treal16\tb\tc\n10\tB\treal16\tb\tc\n", "line 2 of the stage table gives code 10"),
        (b"\n" * 100_000, "over"),
    ],
)
def test_a_malformed_section_is_refused(data: bytes, complaint: str) -> None:
    with pytest.raises(StageTableError, match=re.escape(complaint)):
        tsv.parse_tsv(data, "x")


def test_the_sections_sentences_can_not_steer_a_terminal() -> None:
    table = tsv.parse_tsv(b"10\tA\treal16\t\x1b[2Jb\tc\xff\n", "x")
    assert table.stages[0].became == "?[2Jb"


def elf_with(sections: dict[str, bytes]) -> bytes:
    """A 64-bit little-endian ELF with these unloaded sections, made by hand."""
    names = b"\0" + b"".join(name.encode() + b"\0" for name in [*sections, ".shstrtab"])
    body, headers, at = b"", [bytes(64)], 64
    for name, data in [*sections.items(), (".shstrtab", names)]:
        kind = 3 if name == ".shstrtab" else 1
        offset = names.index(name.encode() + b"\0")
        headers.append(struct.pack("<IIQQQQIIQQ", offset, kind, 0, 0, at, len(data), 0, 0, 1, 0))
        body += data
        at += len(data)
    header = b"\x7fELF\2\1\1" + bytes(9)
    header += struct.pack("<HHIQQQIHHHHHH", 2, 62, 1, 0, 0, at, 0, 64, 56, 0, 64, 0, 0)
    header = header[:60] + struct.pack("<HH", len(headers), len(headers) - 1)
    return header + body + b"".join(headers)


SITES = struct.pack("<QBB6x", 0x12, 0x10, 1) + struct.pack("<QBB6x", 0xFFFFFFFF80101234, 0xB8, 5)
GOOD = elf_with({".lamppost.stages": b"10\tMINE\treal16\tb\tc\n", ".lamppost.sites": SITES})


def test_an_elf_gives_its_table_and_its_sites(tmp_path: Path) -> None:
    path = tmp_path / "kernel"
    path.write_bytes(GOOD)
    assert read_table(str(path)).name(0x10) == "MINE"
    sites = read_sites(str(path))
    assert [(s.address, s.code, s.mode, s.in_trampoline) for s in sites] == [
        (0x12, 0x10, "real16", True),
        (0xFFFFFFFF80101234, 0xB8, "long64", False),
    ]
    assert table_for(None) is BUILT_IN


@pytest.mark.parametrize(
    "data, complaint",
    [
        (elf_with({".text": b"x"}), "ELF without a stage table"),
        (b"hello", "not an ELF file"),
        (b"", "not an ELF file"),
        (GOOD[:30], "damaged ELF file: it ends before offset 0x0"),
        (GOOD[:5] + b"\2" + GOOD[6:], "expected 32 or 64 bits, little endian"),
        (elf_with({".lamppost.stages": b"\0"}), "the stage table is empty"),
    ],
)
def test_an_elf_without_a_table_says_so(tmp_path: Path, data: bytes, complaint: str) -> None:
    path = tmp_path / "kernel"
    path.write_bytes(data)
    with pytest.raises(StageTableError, match=re.escape(complaint)):
        read_table(str(path))


@given(st.lists(st.tuples(st.integers(0, len(GOOD) - 1), st.integers(0, 255)), max_size=12))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_a_damaged_elf_is_a_table_or_an_error(
    tmp_path: Path, wounds: list[tuple[int, int]]
) -> None:
    data = bytearray(GOOD)
    for at, value in wounds:
        data[at] = value
    path = tmp_path / "kernel"
    path.write_bytes(data)
    for read in (read_table, read_sites):
        try:
            read(str(path))
        except StageTableError as error:
            assert str(path) in str(error)
