# SPDX-License-Identifier: BSD-2-Clause
"""A patch changes what it names, or says loudly that it can't."""

from __future__ import annotations

import pytest

from tests.machines.patch import PatchError, patched

IMAGE = bytes.fromhex("00 0f 22 d8 90 66 ea 00 0f 22 c0")


def test_a_patch_changes_the_bytes_that_it_names() -> None:
    assert (
        patched(IMAGE, "0f 22 d8 ??", ".. .. c3 cc").hex(" ") == "00 0f 22 c3 cc 66 ea 00 0f 22 c0"
    )


@pytest.mark.parametrize(
    "pattern, changed, said",
    [
        ("0f 22", ".. 20", "found 2 times"),
        ("0f 30", ".. 32", "found 0 times"),
        ("0f 22 d8", ".. ..", "3 bytes are looked for, 2 are put"),
        ("0f 22 d8", ".. 22 ..", "nothing is changed"),
    ],
)
def test_what_is_not_there_once_is_not_changed(pattern: str, changed: str, said: str) -> None:
    with pytest.raises(PatchError, match=said):
        patched(IMAGE, pattern, changed)


def test_places_that_overlap_are_two() -> None:
    with pytest.raises(PatchError, match="found 2 times"):
        patched(bytes.fromhex("aa aa aa"), "aa aa", "bb ..")
