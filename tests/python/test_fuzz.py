# SPDX-License-Identifier: BSD-2-Clause
"""A small part of `make fuzz`, and that its harness can complain at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fuzz import __main__ as fuzz
from tests.fuzz import damage
from tests.tree import TREE

FILES = tuple(sorted((TREE / "tests/recorded").glob("*/*.[lt][ox][gt]")))


def test_damaged_logs_are_read_without_new_certainty(tmp_path: Path) -> None:
    share = fuzz.Share(0, 1, 20, 200, FILES, tmp_path)
    assert fuzz.work(share) == []


def test_the_harness_sees_a_verdict_that_grew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = iter([fuzz.Verdict("unknown", ())] + [fuzz.Verdict("hang", (("x", "certain"),))] * 99)
    monkeypatch.setattr(fuzz, "verdict", lambda path: next(answers))
    (complaint, *_) = fuzz.work(fuzz.Share(0, 1, 1, 8, FILES[:1], tmp_path))
    assert "became certain" in complaint


def test_the_harness_sees_a_crash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def verdict(path: Path) -> fuzz.Verdict:
        calls.append(path)
        if len(calls) > 1:
            raise ZeroDivisionError("in the parser")
        return fuzz.Verdict("unknown", ())

    monkeypatch.setattr(fuzz, "verdict", verdict)
    (complaint, *_) = fuzz.work(fuzz.Share(0, 1, 1, 8, FILES[:1], tmp_path))
    assert "crash: ZeroDivisionError" in complaint


def test_what_a_report_cites_is_left_alone() -> None:
    data = b"CR3=0000000000001000 RBX=00000000deadbeef 00012939250d"
    assert [data[a:b] for a, b in damage.uncited(data, {0x1000})] == [b"00000000deadbeef"]
