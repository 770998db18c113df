# SPDX-License-Identifier: BSD-2-Clause
"""`lamppost failures` as a user calls it."""

from __future__ import annotations

import json

import pytest

from debug.cli.main import main
from debug.failures.table import ROWS


def test_list(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["failures"]) == 0
    shown = capsys.readouterr().out
    assert all(row.id in shown for row in ROWS)
    assert max(map(len, shown.splitlines())) <= 80


@pytest.mark.parametrize("wanted", ["stack-unmapped", "STK-02"])
def test_one_row(wanted: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["failures", wanted]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("stack-unmapped\n") and "fix" in shown and "STK-02" in shown


def test_search(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["failures", "SIPI sent but no response"]) == 0
    shown = capsys.readouterr().out
    assert "sipi-wrong-vector" in shown and "trampoline-not-copied" in shown


def test_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["failures", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)) == len(ROWS)


def test_unknown(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["failures", "no-such-\x1b[2Jrow"]) == 2
    error = capsys.readouterr().err
    assert "lists all ids" in error and "\x1b" not in error
