# SPDX-License-Identifier: BSD-2-Clause
"""The pictures say what the report says, in XML that anybody's text can't break."""

from __future__ import annotations

import argparse
import re
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

from debug.cli.errors import CommandError
from debug.cli.explain import decode_stages, explain
from debug.pictures import gallery
from debug.pictures.drawing import STYLE, Drawing, NoPicture
from debug.pictures.easel import Easel
from debug.pictures.wanted import KINDS, wanted
from debug.report.diagnosis import Diagnosis, diagnose
from debug.sources.elf_symbols import ElfSymbols
from debug.sources.files import FileReader
from debug.sources.witness import merge
from tests.python.evidence_builder import KERNEL, NULL_IDT, STACKS, TRAMPOLINE, Machine, registers
from tests.tree import TREE

SVG = "{http://www.w3.org/2000/svg}"
HOSTILE = '</text><script>alert("1")</script>\x1b[31m\x00\u202e&amp;'


def dead() -> Machine:
    """The AP's stack is not mapped and it has no IDT."""
    machine = Machine().boot_trace().sipi().trace(1, 0x10, 0x13, 0x30, 0x34, 0x60)
    regs = registers(rip=TRAMPOLINE + 0x210, rsp=STACKS, idtr=NULL_IDT)
    machine.ram.write(TRAMPOLINE + 0x210, b"\x50")  # push rax
    return machine.kill(regs, 14, 2, STACKS - 8)


def seen(svg: str) -> list[str]:
    """Every line of text, the document parsed."""
    root = ElementTree.fromstring(svg)
    assert root.find(f"{SVG}title") is not None and root.find(f"{SVG}desc") is not None
    return [text.text or "" for text in root.iter(f"{SVG}text")]


@pytest.mark.parametrize("kind", KINDS)
def test_a_picture_is_self_contained_and_repeatable(kind: str) -> None:
    diagnosis = diagnose(dead().evidence())
    svg = gallery.draw(diagnosis, kind)
    assert seen(svg) and svg == gallery.draw(diagnose(dead().evidence()), kind)
    assert "prefers-color-scheme: dark" in svg
    assert not re.search(r"<script|<image|href|url\(|@import", svg)


def test_the_chain_goes_from_the_fault_to_the_shutdown() -> None:
    diagnosis = diagnose(dead().evidence())
    text = " ".join(seen(gallery.draw(diagnosis, "chain")))
    steps = diagnosis.explanation.chain
    assert len(steps) == 3
    places = [text.index(step.headline.split(":")[0]) for step in steps]
    assert places == sorted(places) and text.index("shutdown: the machine") > places[-1]
    cause = diagnosis.causes[0]
    assert f"{cause.row.id} ({cause.certainty.value})" in text and "push rax" in text


def test_a_healthy_machine_has_no_chain_to_draw() -> None:
    machine = Machine().boot_trace().sipi().trace(1, 0x10, 0xA4, 0xA6).trace(0, 0xC7, 0xC9)
    said = seen(gallery.draw(diagnose(machine.evidence()), "chain"))
    assert said[0].startswith("healthy") and not any("shutdown" in line for line in said)


def test_a_walk_of_the_fault_names_the_level_that_refused() -> None:
    said = seen(gallery.draw(diagnose(dead().evidence()), "walk"))
    assert "PT index 511" in said or any("not present" in line for line in said)
    assert any(line.startswith("#PF: P") and "not present" in line for line in said)
    assert said[0] == f"CPU 1: write to {STACKS - 8:#x}"


def test_a_walk_of_a_symbol_ends_at_its_page() -> None:
    said = seen(gallery.draw(diagnose(dead().evidence()), "walk", "ap_entry"))
    assert any("physical 0x101000, in a 4 KiB page: rwx" in line for line in said)
    assert [line for line in said if re.fullmatch(r"P[A-Z0-9]+\[\d+\]", line)] == [
        "PML4[511]",
        "PDPT[510]",
        "PD[0]",
        "PT[1]",
    ]


@pytest.mark.parametrize("subject", ["nobody", "0x"])
def test_a_walk_of_nothing_says_so(subject: str) -> None:
    with pytest.raises(NoPicture, match="neither an address nor a known symbol"):
        gallery.draw(diagnose(dead().evidence()), "walk", subject)


def test_the_memory_map_has_the_trampoline_and_what_maps_it() -> None:
    said = seen(gallery.draw(diagnose(dead().evidence()), "memory"))
    assert f"Memory below 1 MiB, trampoline at {TRAMPOLINE:#x}" in said
    at = said.index("trampoline page")
    assert said[at - 1] == f"{TRAMPOLINE:#x}" and "rwx" in said[at : at + 6]
    assert "lcpu_start64" in said and "interrupt vectors of real mode" in said


def hostile() -> Diagnosis:
    """The same death with text of a guest's in every place where a guest can put some."""
    machine = dead()
    machine.symbols.known = {HOSTILE: (TRAMPOLINE, 0x1000), "x" * 5000: (KERNEL, 0x1000)}
    found = diagnose(replace(machine.evidence(), console=HOSTILE))
    steps = tuple(
        replace(s, headline=HOSTILE, instruction=HOSTILE, details=(HOSTILE,) * 50)
        for s in found.explanation.chain
    )
    explanation = replace(found.explanation, headline=HOSTILE * 9, chain=steps * 20)
    return replace(found, explanation=explanation)


@pytest.mark.parametrize("kind", KINDS)
def test_a_guests_text_stays_text(kind: str) -> None:
    svg = gallery.draw(hostile(), kind)
    seen(svg)
    assert "<script" not in svg and "\x1b" not in svg and "\u202e" not in svg
    assert len(svg) < 200_000


def test_each_colour_of_text_can_be_read_on_each_ground() -> None:
    """WCAG 2: a contrast of 4.5 for text, in the light and in the dark."""
    light, dark = STYLE.split("@media")
    for sheet in (light, dark):
        fills = dict(re.findall(r"(?:^|\s)([.a-z0-9]+) \{ fill: (#[0-9a-f]{6})", sheet))
        grounds = [fills[f".{name}"] for name in ("paper", "box", "fault", "good", "here")]
        for ink in ("text", ".dim", ".ok", ".bad"):
            for ground in grounds:
                if ink in (".ok", ".bad") and ground == fills[".here"]:
                    continue  # never written there
                assert contrast(fills[ink], ground) >= 4.5, (ink, ground)


def contrast(one: str, two: str) -> float:
    def luminance(colour: str) -> float:
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        r, g, b = (p / 12.92 if p <= 0.03928 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
        return float(0.2126 * r + 0.7152 * g + 0.0722 * b)

    low, high = sorted((luminance(one), luminance(two)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("text", ["chain", "chain=", "nothing=a.svg", "chain:0x8000=a.svg"])
def test_a_wish_that_names_no_picture_is_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="expected KIND=FILE"):
        wanted(text)


def test_pictures_are_written_where_they_were_wished(tmp_path: Path) -> None:
    path = tmp_path / "a.svg"
    Easel([wanted(f"walk:0x8000={path}")]).paint(diagnose(dead().evidence()))
    assert "CPU 1: 0x8000" in seen(path.read_text(encoding="utf-8"))
    with pytest.raises(CommandError, match="No such file or directory"):
        nowhere = wanted(f"chain={tmp_path}/b/c.svg")
        Easel([nowhere]).paint(diagnose(dead().evidence()))


def test_numbers_are_short() -> None:
    picture = Drawing("t", "d")
    picture.box(1 / 3, 2.0, 10, 20)
    assert 'x="0.3" y="2"' in picture.svg(9)


RECORDED = sorted(p for p in (TREE / "tests" / "recorded").rglob("*") if p.suffix == ".log")


def test_every_recorded_machine_can_be_drawn() -> None:
    """Logs know little: a picture of one has gaps, and is a picture."""
    drawn = 0
    for path in RECORDED:
        with FileReader(decode_stages) as reader:
            diagnosis = explain(merge([reader.read(str(path))]), ElfSymbols(()))
            for kind in KINDS:
                try:
                    assert seen(gallery.draw(diagnosis, kind))
                    drawn += 1
                except NoPicture as error:
                    assert str(error)
    assert drawn > 2 * len(RECORDED) > 0


def test_of_two_runs_the_one_that_is_reported_is_drawn(tmp_path: Path) -> None:
    first, second = diagnose(dead().evidence()), diagnose(Machine().evidence())
    easel = Easel([wanted(f"chain={tmp_path}/a.svg")])
    easel.look(first)
    easel.look(second)
    easel.write(replace(first, causes=()))
    assert "triple-faulted" in (tmp_path / "a.svg").read_text(encoding="utf-8")
