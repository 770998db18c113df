# SPDX-License-Identifier: BSD-2-Clause
"""The runner fails when it must: a chapter in which nothing is true, and its own parts."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.tutorial import blocks
from tests.tutorial.blocks import BlockError, Kind
from tests.tutorial.chapter import execute, rewrite
from tests.tutorial.session import SessionError, steps
from tests.tutorial.transcript import WILDCARD, Mismatch, Reading, compare, read, update

WRONG = Path(__file__).with_name("wrong") / "README.md"

# A piece of the line that is wrong, and of what must be said of it.
OBJECTIONS = (
    ("zwei", "shown 'zwei', came 'two'"),
    ("two", "shown and did not come: 'two'"),
    ("```", "came and is not shown: 'two'"),
    ("```", "came and is not shown: '9'"),
    ("main+0x10 at 0x8411", "0x8411 stands for another number above"),
    ("at 0x8411", "shown 'at 0x8411', came 'at 0x9411'"),
    ("$ false", "exit code 1, expected 0"),
    ("$ true", "exit code 0, expected 3"),
    ("```gdb", "expected the prompt '(gdb) ', came '$ ' after: no debugger here"),
    ('#include "no/such/header.h"', "src/kmain.c differs"),
    ("int main(void)", "src/kmain.c has no line 'int main(void)' to begin at"),
    ("```c file=src/no-such-file.c", "there is no file src/no-such-file.c"),
    ("```text file=/etc/hostname", "there is no file /etc/hostname"),
    ("```diff apply=yes", "the diff does not apply"),
    ("-    no such line", "the lab's patch differs"),
)


def test_every_wrong_block_is_named_with_its_line(tmp_path: Path) -> None:
    outcome = execute(WRONG, tmp_path)
    lines = WRONG.read_text(encoding="utf-8").splitlines()
    assert len(outcome.stale) == len(OBJECTIONS), "\n".join(outcome.stale)
    for said, (line, objection) in zip(outcome.stale, OBJECTIONS):
        place, _, why = said.partition(": ")
        name, _, number = place.rpartition(":")
        assert name == str(WRONG)
        assert lines[int(number) - 1] == line, said
        assert objection in why, said


def test_an_update_makes_true_what_can_be_true(tmp_path: Path) -> None:
    chapter = tmp_path / "README.md"
    chapter.write_text("```console\n$ echo one; echo 1234 ms\neins\n… ms\n```\n", encoding="utf-8")
    first = tmp_path / "first"
    assert rewrite(chapter, execute(chapter, first))
    assert chapter.read_text(encoding="utf-8") == (
        "```console\n$ echo one; echo 1234 ms\none\n… ms\n```\n"
    )
    again = execute(chapter, tmp_path / "again")
    assert not again.stale and not rewrite(chapter, again)


def test_a_command_over_two_lines_is_one_and_stays(tmp_path: Path) -> None:
    chapter = tmp_path / "README.md"
    text = "```console\n$ echo one \\\n    two\n{}\n```\n"
    chapter.write_text(text.format("eins zwei"), encoding="utf-8")
    outcome = execute(chapter, tmp_path / "first")
    assert [line.partition(": ")[0] for line in outcome.stale] == [f"{chapter}:4"]
    assert rewrite(chapter, outcome)
    assert chapter.read_text(encoding="utf-8") == text.format("one two")


def test_an_update_keeps_a_lone_wildcard_that_still_holds() -> None:
    came = ["1", "2", "3", "new", "5"]
    assert update(["1", WILDCARD, "3", "4"], came) == ["1", WILDCARD, "3", "new", "5"]
    assert update(["one", WILDCARD], came) == ["1", WILDCARD]


MOVED = (
    ("0xffffffff80123456", "0xffffffff8abcdef0"),
    ("ffffffff80123456 T main", "ffffffff80abcdef T main"),
    (
        "rip            0x83b1              0x83b1 <lcpu_start32+17>",
        "rip            0x83c1" "              0x83c1 <lcpu_start32+9>",
    ),
    ("at idle+0x2, src/cpu/idle.c:9", "at idle+0x112, src/cpu/idle.c:101"),
    ("GDT=     00008368 0000001f", "GDT=     00008378 0000001f"),
    ("CR3 0x16d000 → PT[31]", "CR3 0x17e000 → PT[31]"),
    ("53\t    mov esi, %1", "7\t    mov esi, %1"),
)


@pytest.mark.parametrize(("shown", "came"), MOVED)
def test_a_number_of_the_build_may_move_and_an_update_shows_it(shown: str, came: str) -> None:
    assert isinstance(read([shown], [came], Reading(0)), Reading)
    assert compare([shown], [came]) is not None, "an excerpt is literal"
    assert update([WILDCARD, shown + WILDCARD], ["above", came]) == [WILDCARD, came + WILDCARD]


@pytest.mark.parametrize(
    ("shown", "came"),
    [
        ("0x8000", "0x8010"),  # where a page begins is no accident
        ("0x300 = 0x00008500", "0x300 = 0x00008600"),
        ("limit 0x1f", "limit 0x3"),
        ("cr0            0x10033", "cr0            0x10031"),
        ("main+0x4", "exit+0x4"),
        ("src/kmain.c:4", "src/main.c:4"),
        ("0x8411 0x8411", "0x8411 0x8412"),
    ],
)
def test_all_other_numbers_stand_for_themselves(shown: str, came: str) -> None:
    assert isinstance(read([shown], [came], Reading(0)), Mismatch)


def test_a_diff_reaches_the_commands_after_it_and_not_the_tree(tmp_path: Path) -> None:
    chapter = tmp_path / "README.md"
    chapter.write_text(
        "```diff apply=yes\n--- /dev/null\n+++ b/new.txt\n@@ -0,0 +1 @@\n+hello\n```\n"
        "```console\n$ cat new.txt\nhello\n```\n",
        encoding="utf-8",
    )
    assert execute(chapter, tmp_path / "scratch").stale == []
    assert not Path("new.txt").exists()


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("```\nno kind\n```\n", "must be a session"),
        ("```text\nno reason\n```\n", "must be a session"),
        ("```console run=no\n$ true\n```\n", "must be a session"),
        ("```diff\n-a\n```\n", "must be a session"),
        ("```c src/kmain.c\n```\n", "is not key=value"),
        ("    indented\n", "use a fence"),
    ],
)
def test_a_block_of_no_kind_is_refused(tmp_path: Path, text: str, complaint: str) -> None:
    chapter = tmp_path / "README.md"
    chapter.write_text("# Title\n\n" + text, encoding="utf-8")
    with pytest.raises(BlockError, match=complaint) as caught:
        blocks.read(chapter)
    assert f"{chapter}:3:" in str(caught.value)


def test_text_that_is_not_run_says_why(tmp_path: Path) -> None:
    chapter = tmp_path / "README.md"
    chapter.write_text('```text why="a frame, taken apart"\n@00:b0.0*16\n```\n', encoding="utf-8")
    assert [block.kind for block in blocks.read(chapter)] == [Kind.TEXT]


def test_a_session_begins_with_a_prompt() -> None:
    with pytest.raises(SessionError, match="begins with a prompt"):
        steps(("output of nothing",))


LINES = st.lists(st.text(alphabet="ab …", max_size=4).map(str.rstrip), max_size=8)
PLAIN = st.lists(st.text(alphabet="ab ", max_size=4).map(str.rstrip), max_size=8)


@given(PLAIN)
def test_what_came_matches_itself(came: list[str]) -> None:
    assert compare(came, came) is None


@given(LINES, PLAIN)
def test_an_update_always_holds(shown: list[str], came: list[str]) -> None:
    assert compare(update(shown, came), came) is None


@given(PLAIN, st.data())
def test_a_lone_wildcard_stands_for_any_lines(came: list[str], data: st.DataObject) -> None:
    low = data.draw(st.integers(0, len(came)))
    high = data.draw(st.integers(low, len(came)))
    assert compare([*came[:low], WILDCARD, *came[high:]], came) is None


@given(PLAIN, st.data())
def test_a_changed_line_is_found(came: list[str], data: st.DataObject) -> None:
    if not came:
        return
    at = data.draw(st.integers(0, len(came) - 1))
    shown = [*came[:at], came[at] + "c", *came[at + 1 :]]
    wrong = compare(shown, came)
    assert wrong is not None and wrong.index == at
