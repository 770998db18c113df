# SPDX-License-Identifier: BSD-2-Clause
"""Consoles that repeat each other are shown once; nothing that is said only once is lost."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from debug.sources.chorus import Chorus


def show(*pieces: tuple[str, bytes]) -> bytes:
    chorus = Chorus()
    return b"".join(chorus.feed(name, data) for name, data in pieces)


def test_a_copy_is_not_shown() -> None:
    assert show(("e9", b"boot"), ("com1", b"bo"), ("com1", b"ot"), ("e9", b"!")) == b"boot!"


def test_a_copy_that_is_ahead_waits_for_the_leader() -> None:
    assert show(("e9", b"bo"), ("com1", b"boot"), ("e9", b"ot")) == b"boot"


def test_what_only_one_console_says_is_shown() -> None:
    assert show(("e9", b"stage"), ("com1", b"text"), ("e9", b"s"), ("com1", b"!")) == b"stagetexts!"


def test_a_copy_that_parts_from_the_leader_shows_where() -> None:
    assert show(("e9", b"abc"), ("com1", b"ab"), ("com1", b"X"), ("e9", b"d")) == b"abcXd"


@given(st.lists(st.binary(max_size=5), max_size=20), st.data())
def test_any_interleaving_of_two_copies_is_shown_once(
    pieces: list[bytes], data: st.DataObject
) -> None:
    chorus, shown = Chorus(), b""
    queues = {"e9": list(pieces), "com1": list(pieces)}
    while any(queues.values()):
        name = data.draw(st.sampled_from([n for n, queue in queues.items() if queue]))
        shown += chorus.feed(name, queues[name].pop(0))
    assert shown == b"".join(pieces)


def test_what_a_copy_said_beyond_the_leader_is_shown_at_the_end() -> None:
    chorus = Chorus()
    assert chorus.feed("e9", b"ready") + chorus.feed("com1", b"ready, go") == b"ready"
    assert (chorus.end(), chorus.end()) == (b", go", b"")
