# SPDX-License-Identifier: BSD-2-Clause
"""Every manual that the tree cites stands in docs/references.md, and every trick where it says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Iterator

import pytest

from debug.failures.table import ROWS
from tests.tree import TREE, tracked

REFERENCES = TREE / "docs" / "references.md"
TRICKS = TREE / "docs" / "tricks.md"
CITING = ("src/*", "trampoline/*", "debug/*", "tests/*.py", "docs/tutorial/*.md")
OWN = "tests/checks/test_references.py"  # its examples cite nothing
CITATION = re.compile(r"\[((?:SDM \d|MP \d|ACPI \d|Multiboot|APM)[^\[\]]*)\]")
MANUAL = re.compile(r"(SDM 1|SDM 2|SDM 3A|SDM 4|MP 1\.4|ACPI 6\.5|Multiboot2? [0-9.]+)")
TITLE = re.compile(r'"([^"]+)"')


def plain(title: str) -> str:
    """A title as it is compared: dashes and case alike, without what stands in parentheses.

    An instruction's page is known by its mnemonics, which stand before the dash.
    """
    text = re.sub(r"[‐-―]", "-", title.lower())
    text = re.sub(r"\s*\([^)]*\)", "", text)
    return " ".join(text.split())


def entries() -> dict[str, set[str]]:
    """The titles of each manual's table."""
    found: dict[str, set[str]] = {}
    manual = ""
    for line in REFERENCES.read_text(encoding="utf-8").splitlines():
        if line.startswith("## "):
            manual = line[3:]
        elif line.startswith("|") and manual and manual != "Editions":
            cell = line.split("|")[1].strip()
            if cell != "title" and not cell.startswith("--"):
                titles = re.split(r" / ", cell)
                found.setdefault(manual, set()).update(plain(title) for title in titles)
    return found


def known(title: str, titles: set[str]) -> bool:
    """Whether a table has the title, or the instruction that it begins with."""
    wanted = plain(title)
    first = wanted.split("-")[0].strip()
    return wanted in titles or any(t.split("-")[0].strip() == first for t in titles if "-" in t)


def citations(text: str) -> Iterator[tuple[str, str]]:
    """(manual, title) of each citation; a comment's line breaks are none."""
    joined = re.sub(r"\n[ \t]*(?:\*|//|;|#)*[ \t]*", " ", text)
    for found in CITATION.finditer(joined):
        manual = ""
        for part in re.split(r'("[^"]*")', found.group(1)):
            if named := MANUAL.findall(part):
                manual = named[-1]
            if title := TITLE.fullmatch(part):
                yield manual, title.group(1)


def test_every_citation_has_an_entry() -> None:
    titles, missing, count = entries(), set(), 0
    for name in tracked(*CITING):
        if name.startswith("tests/recorded/") or name == OWN:
            continue
        try:
            text = (TREE / name).read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        for manual, title in citations(text):
            count += 1
            if not known(title, titles.get(manual, set())):
                missing.add(f'{name}: [{manual} "{title}"]')
    assert count > 50
    assert not missing, "not in docs/references.md:\n" + "\n".join(sorted(missing))


def test_every_row_of_the_failure_table_cites_an_entry() -> None:
    every = set[str]().union(*entries().values())
    assert not [f"{r.id}: {r.manual}" for r in ROWS if r.manual and not known(r.manual, every)]


def test_every_manual_has_its_edition() -> None:
    text = REFERENCES.read_text(encoding="utf-8")
    for manual in entries():
        assert f"| {manual} |" in text


@pytest.mark.parametrize(
    "text, found",
    [
        ('[SDM 3A "A", "B"; SDM 2 "C"]', [("SDM 3A", "A"), ("SDM 3A", "B"), ("SDM 2", "C")]),
        ('/* [MP 1.4 "B.4\n * Startup"] */', [("MP 1.4", "B.4 Startup")]),
        ("an [SDM of nothing]", []),
    ],
)
def test_citations_are_read(text: str, found: list[tuple[str, str]]) -> None:
    assert list(citations(text)) == found


def test_a_title_that_is_not_there_is_missed() -> None:
    titles = {"hlt-halt", "paging"}
    assert known("HLT—Halt", titles) and known("HLT", titles) and known("Paging (4)", titles)
    assert not known("Pagination", titles)


ANCHOR = re.compile(r"\[`([^`]+)`\]\(\.\./([^)#]+)\)")


def test_every_trick_is_where_it_is_said_to_be() -> None:
    """A trick's link is a file of the tree, and the link's text stands in that file."""
    found = ANCHOR.findall(TRICKS.read_text(encoding="utf-8"))
    assert len(found) > 10
    astray = []
    for words, name in found:
        path = Path(TREE / name)
        if not path.is_file() or words not in path.read_text(encoding="utf-8"):
            astray.append(f"{name}: {words}")
    assert not astray, "docs/tricks.md names what is not there:\n" + "\n".join(astray)
