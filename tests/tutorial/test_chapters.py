# SPDX-License-Identifier: BSD-2-Clause
"""Every line of every chapter holds: executed, compared, applied.

All chapters take minutes: `make tutorial` sets LAMPPOST_TUTORIAL=all, `make test` has the first one.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.tutorial import host, index
from tests.tutorial.blocks import read
from tests.tutorial.chapter import chapters, execute
from tests.tutorial.places import places
from tests.tutorial.scratch import TUTORIAL

ALL = os.environ.get("LAMPPOST_TUTORIAL") == "all"


@pytest.mark.emulator
@pytest.mark.parametrize("name", [path.parent.name for path in chapters()[: None if ALL else 1]])
def test_every_block_of_the_chapter_holds(name: str, tmp_path: Path) -> None:
    outcome = execute(TUTORIAL / name / "README.md", tmp_path)
    if outcome.stale:
        told = outcome.report(host.reasons(outcome.programs))
        pytest.fail(f"stale (make tutorial-update shows what came):\n{told}", pytrace=False)


@pytest.mark.parametrize("path", chapters(), ids=[path.parent.name for path in chapters()])
def test_an_address_in_the_text_stands_in_a_block_too(path: Path) -> None:
    """There `make tutorial-update` renews it; in the text nobody would see that it is old."""
    blocks = read(path)
    shown = {place.name for block in blocks for line in block.lines for place in places(line)}
    inside = {block.line + i for block in blocks for i in range(len(block.lines) + 2)}
    text = enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
    said = {
        place.name
        for number, line in text
        if number not in inside
        for place in places(line)
        if line[: place.end - len(place.name)][-1:] != "="  # an option's value
    }
    assert said <= shown, "say it without the address, or show it"


def test_the_list_of_chapters_is_theirs() -> None:
    shown = (TUTORIAL / "README.md").read_text(encoding="utf-8")
    assert shown == index.index(chapters()), "make generate writes it anew"
