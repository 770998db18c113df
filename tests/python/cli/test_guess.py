# SPDX-License-Identifier: BSD-2-Clause
"""`--guess`: a reader's diagnosis, compared; the tool's own is not told."""

from __future__ import annotations

from pathlib import Path

import pytest

from debug.cli.exit_codes import ExitCode
from debug.cli.main import main
from debug.labs import mystery
from debug.labs.lab import EMULATORS, Lab

LOG = Path(__file__).resolve().parents[2] / "recorded" / "qemu" / "ap-long-mode.log"


@pytest.fixture
def cr3_zero(tmp_path: Path) -> str:
    """The log of a CPU that died with 0 in CR3."""
    path = tmp_path / "cr3-zero.log"
    path.write_bytes(LOG.read_bytes().replace(b"CR3=0000000000001000", b"CR3=0000000000000000"))
    return str(path)


def test_the_cause_is_right(cr3_zero: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "--guess", "cr3-zero", cr3_zero]) == ExitCode.HEALTHY
    assert capsys.readouterr().out.startswith("cr3-zero: right (")


def test_another_row_is_not_and_the_cause_is_kept(
    cr3_zero: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["explain", "--guess", "lme-missing", cr3_zero]) == ExitCode.DAMAGED
    out = capsys.readouterr().out
    assert out.startswith("lme-missing: no. ") and "cr3-zero" not in out


def test_what_is_no_row_is_refused_with_the_nearest(
    cr3_zero: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["explain", "--guess", "cr3-zreo", cr3_zero]) == ExitCode.USAGE
    assert "did you mean cr3-zero" in capsys.readouterr().err


@pytest.mark.parametrize("emulator", EMULATORS)
def test_a_mystery_has_a_cause_on_its_emulator(
    emulator: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mystery, "ANSWER", tmp_path / "answer")
    offered: list[list[Lab]] = []

    def first(labs: list[Lab]) -> Lab:
        offered.append(labs)
        return labs[0]

    monkeypatch.setattr("random.choice", first)
    mystery.choose(emulator)
    assert offered[0] and all(lab.expect[emulator].causes for lab in offered[0])
