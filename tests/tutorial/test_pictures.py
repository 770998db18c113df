# SPDX-License-Identifier: BSD-2-Clause
"""The chapters' pictures: each is what its name says, drawn from a run that is made again."""

from __future__ import annotations

from pathlib import Path

import pytest

from debug.labs import picture
from debug.labs.lab import LabError
from debug.labs.picture import Picture, PictureError, content, named

NAMES = {
    "stages.healthy.cpus=2.smp=serial.svg": Picture("stages", cpus=2, options=("smp=serial",)),
    "chain.ap-cr3-zero.svg": Picture("chain", "ap-cr3-zero"),
    "walk.healthy.ap_entry.svg": Picture("walk", subject="ap_entry"),
    "memory.healthy.svg": Picture("memory"),
}


@pytest.mark.parametrize("name", NAMES)
def test_a_name_says_what_is_shown(name: str) -> None:
    assert named(name) == NAMES[name] and NAMES[name].name == name


@pytest.mark.parametrize(
    "name", ["stages.svg", "sounds.healthy.svg", "chain.healthy.0x8000.svg", "walk.healthy.a.b.svg"]
)
def test_a_name_that_says_nothing_is_refused(name: str) -> None:
    with pytest.raises(PictureError):
        named(name)


def test_a_picture_of_no_lab_is_refused() -> None:
    with pytest.raises(LabError, match="no lab 'ap-nothing'"):
        named("chain.ap-nothing.svg")


def test_addresses_and_times_may_move_and_words_may_not() -> None:
    old = "<text>CR3 0x138000, PT[31] at 0x83e1+0x61</text><text>10.0 ms</text>"
    new = "<text>CR3 0x13a000, PT[30] at 0x83e4+0x64</text><text>11.5 ms</text>"
    assert content(old) == content(new)
    assert content(old) != content(new.replace("CR3", "CR4"))
    assert content(old) != content(old + "<text>more</text>")


@pytest.mark.emulator
def test_the_same_kernel_gives_the_same_bytes(kernel: Path) -> None:
    wanted = Picture("stages", cpus=2)
    assert picture.render(wanted, kernel) == picture.render(wanted, kernel)


@pytest.mark.emulator
def test_every_picture_shows_what_a_run_shows_now(kernel: Path) -> None:
    stale = []
    for path in picture.committed():
        svg = picture.render(named(path.name), kernel)
        if content(svg) != content(path.read_text(encoding="utf-8")):
            stale.append(str(path))
    assert not stale, "make pictures draws them again"
