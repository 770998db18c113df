# SPDX-License-Identifier: BSD-2-Clause
"""What a killed observer left behind is removed by the next one, and nobody else's."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from debug.sources.scratch import PREFIX, Scratch, sweep

OLD = 1_000_000_000  # seconds since the epoch


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def left(directory: Path, name: str) -> Path:
    """An old directory with a file in it."""
    path = directory / name
    path.mkdir()
    (path / "log").write_text("Triple fault\n", encoding="ascii")
    os.utime(path, (OLD, OLD))
    return path


def test_a_run_removes_its_directory() -> None:
    scratch = Scratch()
    (Path(scratch.path) / "log").write_bytes(b"1")
    assert os.stat(scratch.path).st_mode & 0o777 == 0o700
    scratch.remove()
    assert not os.path.exists(scratch.path)


def test_the_next_run_removes_what_a_killed_one_left(temporary: Path) -> None:
    dead = left(temporary, PREFIX + "dead")
    scratch = Scratch()
    assert not dead.exists() and os.path.isdir(scratch.path)
    scratch.remove()


def test_what_is_in_use_or_just_made_or_somebody_elses_stays(temporary: Path) -> None:
    used = Scratch()
    os.utime(used.path, (OLD, OLD))
    young = temporary / (PREFIX + "young")
    young.mkdir()
    other = left(temporary, "lamppost-tutorial-x")
    target = left(temporary, "elsewhere")
    (temporary / (PREFIX + "link")).symlink_to(target)
    sweep()
    assert os.path.isdir(used.path) and young.is_dir() and (other / "log").is_file()
    assert (target / "log").is_file()
    used.remove()
