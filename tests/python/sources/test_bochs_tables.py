# SPDX-License-Identifier: BSD-2-Clause
"""Memory that a session with Bochs's debugger shows, against the guest that was recorded."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from debug.cli.explain import decode_stages, explain
from debug.evidence import Fragment
from debug.report.diagnosis import Diagnosis
from debug.sources.bochs_tables import MAX_BYTES, MAX_PAGES, PageDump, ShownMemory, parse, placed
from debug.sources.elf_symbols import ElfSymbols
from debug.sources.files import FileReader
from tests.tree import TREE

RECORDED = TREE / "tests/recorded/bochs"
SESSION = (RECORDED / "session.txt").read_text(encoding="utf-8")
ORIGIN = 0x7C00  # of the recorded guest, a boot sector

TASK = """\
<bochs:2> creg
CR0=0xe0000011: PG CD NW ac wp ne ET ts em mp PE
CR3=0x000000002000
CR4=0x00000000: cet pke
<bochs:3> info tss
tr:s={selector:#x}, base=0x0000000081000000, valid=1
ss:esp(0): {ss:#06x}:{esp:#010x}
ss:esp(1): 0x0000:0x00000000
cr3: 0x00001000
eip: 0x00000077
i/o map: 0x0000
"""
EMPTY_GDT = "Global Descriptor Table (base=0x0000000000003800, limit=39):\n" + "".join(
    f"GDT[{selector:#06x}]=??? descriptor hi=0x00000000, lo=0x00000000\n"
    for selector in range(0, 40, 8)
)
WALK = """\
<bochs:2> page 0x3fd000
 PDE: {pde:#018x}    ps         A pcd pwt S W P
 PTE: 0x00000000ffffffff       G PAT D A PCD PWT U W P
"""


def verdict(tmp_path: Path, text: str) -> Diagnosis:
    path = tmp_path / "session"
    path.write_text(text, encoding="utf-8")
    with FileReader(decode_stages) as reader:
        return explain(reader.read(str(path)), ElfSymbols(()))


def causes(tmp_path: Path, text: str) -> dict[str, str]:
    return {cause.row.id: cause.certainty.name.lower() for cause in verdict(tmp_path, text).causes}


@pytest.fixture(scope="module")
def guest(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The boot sector that was recorded, assembled anew."""
    image = tmp_path_factory.mktemp("guest") / "guest.img"
    source = RECORDED / "guest.asm"
    subprocess.run(
        ["nasm", "-f", "bin", "-D", "CASE_long64", str(source), "-o", str(image)], check=True
    )
    return image.read_bytes()


def test_what_x_and_xp_show_is_what_the_guest_holds(guest: bytes) -> None:
    shown = parse(SESSION)
    code = [one for one in shown.linear if one.address == ORIGIN]
    assert [len(one.data) for one in code] == [32, 32]  # x /8wx and x /4gx
    for one in (*code, *(one for one in shown.physical if one.address >= ORIGIN)):
        assert one.data == guest[one.address - ORIGIN :][: len(one.data)]
    assert [one.address for one in shown.physical] == [ORIGIN, ORIGIN + 0x20]


def test_a_walk_that_was_shown_can_be_walked_again() -> None:
    found, absent = parse(SESSION).pages
    assert found == PageDump(0x7C00, (("PML4", 0x2023), ("PDPE", 0x3023), ("PDE", 0xA3)))
    assert absent == PageDump(0x500000000, (("PML4", 0x2023), ("PDPE", 0)))
    memory = ShownMemory(tuple(placed(found, 0x1000) + placed(absent, 0x1000)))
    assert memory.read(0x1000, 8) == (0x2023).to_bytes(8, "little")
    assert memory.read(0x2000 + 20 * 8, 8) == bytes(8)
    assert memory.read(0x3000, 8) == (0xA3).to_bytes(8, "little")
    assert memory.read(0x1008, 8) is None and memory.read(0x1000, 16) is None


def test_the_entries_of_pae_lie_in_a_table_of_32_bytes() -> None:
    shown = placed(PageDump(0xC0200000, (("PDPE", 0x5001), ("PDE", 0x83))), 0x1020)
    assert shown == [
        Fragment(0x1020 + 3 * 8, (0x5001).to_bytes(8, "little")),
        Fragment(0x5000 + 8, (0x83).to_bytes(8, "little")),
    ]


def test_a_descriptor_in_words_is_left_out() -> None:
    gdt = [one for one in parse(SESSION).linear if one.address == 0x7CD8]
    assert gdt == [Fragment(0x7CD8, bytes(8))]  # the null one; code and data hide their DPL


def test_a_tss_without_a_stack_is_possible_from_a_state(tmp_path: Path) -> None:
    assert causes(tmp_path, TASK.format(selector=0x98, ss=0, esp=0)) == {
        "tss-stack-bad": "possible"
    }
    assert causes(tmp_path, TASK.format(selector=0x98, ss=0x10, esp=0x9000)) == {}
    assert causes(tmp_path, TASK.format(selector=0, ss=0, esp=0)) == {}  # no TSS was loaded


def test_what_a_tss_holds_is_not_what_the_cpu_has(tmp_path: Path) -> None:
    found = verdict(tmp_path, TASK.format(selector=0x98, ss=0x10, esp=0x9000))
    assert [cpu.registers.get("cr3") for cpu in found.evidence.cpus] == [0x2000]


def test_a_gdt_of_zeros_is_possible(tmp_path: Path) -> None:
    assert causes(tmp_path, EMPTY_GDT) == {"gdt-base-wrong": "possible"}
    filled = EMPTY_GDT.replace(
        "[0x0008]=??? descriptor hi=0x00000000", "[0x0008]=??? descriptor hi=0x00cf9a00"
    )
    assert causes(tmp_path, filled) == {}


def test_a_walk_through_the_vector_table_began_at_page_0(tmp_path: Path) -> None:
    assert causes(tmp_path, WALK.format(pde=0xF000FF73)) == {"cr3-zero": "possible"}
    assert causes(tmp_path, WALK.format(pde=0x00ABC023)) == {}


def test_a_cpu_that_stands_at_the_push_that_faulted(tmp_path: Path) -> None:
    assert causes(tmp_path, SESSION) == {"stack-unmapped": "possible"}
    elsewhere = SESSION.replace("laddr=0xffffffff7ffffff8", "laddr=0xffffffff7ffff000")
    assert causes(tmp_path, elsewhere) == {}
    no_push = SESSION.replace("push rax                  ; 50", "nop ; 90")
    assert causes(tmp_path, no_push) == {}


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from(SESSION.split("\n") + EMPTY_GDT.split("\n")), max_size=300))
def test_any_order_of_lines_is_read(lines: list[str]) -> None:
    shown = parse("\n".join(lines))
    assert len(shown.pages) <= MAX_PAGES
    for page in shown.pages:
        placed(page, 0x1000)


def test_what_is_kept_is_bounded() -> None:
    rows = "\n".join(f"0x{n * 8:016x} <bogus+ 0>:\t0x1122334455667788" for n in range(MAX_BYTES))
    shown = parse("<bochs:1> x /999gx 0\n" + rows)
    assert sum(len(one.data) for one in shown.linear) <= MAX_BYTES
