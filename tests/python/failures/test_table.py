# SPDX-License-Identifier: BSD-2-Clause
"""The table itself: complete rows, unique ids, a current document."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from debug.failures import document
from debug.failures.row import Row
from debug.failures.table import ROWS, find
from tests.python.failures.near_misses import ELSEWHERE
from tests.python.failures.test_rows import CASES

ROOT = Path(__file__).resolve().parents[3]


def identify(row: Row) -> str:
    return row.id


def test_ids_are_unique() -> None:
    ids = [row.id for row in ROWS]
    assert sorted(ids) == sorted(set(ids))


@pytest.mark.parametrize("row", ROWS, ids=identify)
def test_row_is_complete(row: Row) -> None:
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", row.id)
    assert row.symptom and all(row.symptom)
    for text in (row.title, row.proves, row.disproves, row.fix):
        assert len(text) > 4 and not text.endswith(".") and text == text.strip()
    assert re.fullmatch(r"\d\d-[a-z0-9-]+", row.chapter)
    for number in row.catalogue:
        assert re.fullmatch(r"[A-Z0-9]{2,4}-[0-9]{2}", number)


@pytest.mark.parametrize("row", [row for row in ROWS if row.labs], ids=identify)
def test_labs_exist(row: Row) -> None:
    for lab in row.labs:
        assert (ROOT / "tests" / "labs" / lab).is_dir()


def test_a_row_sends_to_the_chapter_that_says_it_teaches_it() -> None:
    """The rows that a chapter names under "What you can now diagnose"."""
    taught: dict[str, set[str]] = {}
    for chapter in sorted((ROOT / "docs" / "tutorial").glob("[0-9]*/README.md")):
        end = chapter.read_text(encoding="utf-8").partition("## What you can now diagnose")[2]
        for name in re.findall(r"`([a-z0-9]+(?:-[a-z0-9]+)+)`", end):
            taught.setdefault(name, set()).add(chapter.parent.name)
    rows = {row.id: row.chapter for row in ROWS}
    assert len(taught) > 10 and taught.keys() <= rows.keys()
    assert not {name: where for name, where in taught.items() if rows[name] not in where}


def test_cases_name_rows() -> None:
    assert {case.row for case in CASES} <= {row.id for row in ROWS}


def test_every_row_has_a_near_miss() -> None:
    """A machine that looks like the cause, without its decisive evidence, and is not called so."""
    tested = {case.row for case in CASES} | set(ELSEWHERE)
    assert not {row.id for row in ROWS} - tested, "give it a Case with a near miss"


def test_find() -> None:
    row = find("stack-unmapped")
    assert row is not None and row.id == "stack-unmapped"
    covered = find("stk-02")
    assert covered is not None and covered.id == "stack-unmapped"
    assert find("no such row") is None


def test_document_is_current() -> None:
    assert document.PATH.read_text(encoding="utf-8") == document.document()
