# SPDX-License-Identifier: BSD-2-Clause
"""Every line of every chapter holds: executed, compared, applied."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.tutorial.chapter import TUTORIAL, chapters, execute


@pytest.mark.emulator
@pytest.mark.parametrize("name", [path.parent.name for path in chapters()])
def test_every_block_of_the_chapter_holds(name: str, tmp_path: Path) -> None:
    outcome = execute(TUTORIAL / name / "README.md", tmp_path)
    assert not outcome.stale, "stale (make tutorial-update shows what came):\n" + "\n".join(
        outcome.stale
    )
