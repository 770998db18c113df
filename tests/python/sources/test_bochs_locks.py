# SPDX-License-Identifier: BSD-2-Clause
"""Bochs's lock files: none of ours stays, and one that is there is spoken of."""

from __future__ import annotations

from pathlib import Path

import pytest

from debug.sources.bochs_locks import Locks, absent_media, images
from debug.sources.errors import StartError


def test_images_are_those_of_disks() -> None:
    lines = [
        "ata0-master: type=disk, path=a.img, mode=flat",
        'ata1-slave: path="b c.img"',
        "x: path=d",
    ]
    assert images(lines + lines[:1]) == ["a.img", "b c.img"]


def test_a_lock_that_bochs_leaves_is_removed(tmp_path: Path) -> None:
    lines = [f"ata0-master: type=disk, path={tmp_path}/a.img"]
    locks = Locks(lines, ["bochs", "-q"])
    (tmp_path / "a.img.lock").touch()
    locks.release()
    locks.release()
    assert list(tmp_path.iterdir()) == []


def test_a_lock_that_was_there_is_named(tmp_path: Path) -> None:
    lines = [f"ata0-master: type=disk, path={tmp_path}/a.img"]
    (tmp_path / "a.img.lock").touch()
    with pytest.raises(StartError, match="a.img.lock exists: another Bochs .* -unlock"):
        Locks(lines, ["bochs", "-q"])
    Locks(lines, ["bochs", "-q", "-unlock"])


def test_media_that_are_missing_are_named(tmp_path: Path) -> None:
    there = tmp_path / "there.img"
    there.touch()
    lines = [
        f'floppya: 1_44="{there}", status=inserted',
        "floppyb: 1_44=gone.img, status=inserted",
        "ata0-master: type=cdrom, path=gone.iso, status=inserted",
        "ata0-slave: type=cdrom, path=$HOME/x.iso, status=inserted",
        "floppya: type=1_44, status=ejected",
    ]
    said = absent_media(lines)
    assert [text.split(",")[0] for text in said] == ["gone.img", "gone.iso"]
