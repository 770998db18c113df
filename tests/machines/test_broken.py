# SPDX-License-Identifier: BSD-2-Clause
"""memtest86+ with one bug each, where it dies of it; `make machines` has the rest and the others."""

from __future__ import annotations

import pytest

from tests.machines import broken

ROWS = broken.rows()
QUICK = [row for row in ROWS if row.image == "memtest-x64" and row.dies]


@pytest.mark.emulator
@pytest.mark.parametrize("row", QUICK, ids=[row.id for row in QUICK])
def test_the_bug_is_named(row: broken.Row) -> None:
    assert broken.wrong(row, broken.run(row)) == ""


def test_the_matrix_is_as_large_as_it_is_said_to_be() -> None:
    assert len({row.id for row in ROWS}) == len(ROWS) >= 20
    assert sum(1 for row in ROWS if "0" not in row.cpu.split(",")) >= 6
