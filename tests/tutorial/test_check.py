# SPDX-License-Identifier: BSD-2-Clause
"""`make check-NN` names the first difference, and a reader's machine gets its one sentence."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Optional

import pytest

from debug.cli.errors import CommandError
from debug.evidence import StageEvent
from debug.explain.model import Explanation, Status, Step
from debug.kernel.arrival import Arrival, all_arrived
from debug.kernel.checkout import changed_sources
from debug.kernel.machine import Kernel
from debug.stages.checksum import encode
from debug.stages.elf import table_for
from debug.stages.lanes import lanes
from tests.tutorial import host
from tests.tutorial.chapter import Outcome
from tests.tutorial.check import (
    another_came,
    chain_of,
    difference,
    is_open,
    lane_difference,
    programs,
    stage_difference,
    wishes,
)
from tests.tutorial.exercise import load, read

HEALTHY = Explanation(Status.HEALTHY, "")


def events(trace: str, apic_id: int = 0) -> list[StageEvent]:
    """`bd=2 c9` as the events of one CPU."""
    made = []
    for token in trace.split():
        code, equals, argument = token.partition("=")
        made.append(StageEvent(apic_id, int(code, 16), int(argument, 16) if equals else None))
    return made


@pytest.mark.parametrize(
    ("expected", "came", "said"),
    [
        ("b0 b1", "b0 b1", None),
        ("b0 … c9", "b0 b1 b2 c9", None),
        ("b0 … c3 c4=1", "b0 c3=1 c4=1", None),
        (
            "b0 0f b1",
            "b0 b1",
            "after b0 BSP_PROT32: expected 0f (not in trampoline/stages.h), came b1 BSP_TABLES",
        ),
        ("b0 b1", "b0", "after b0 BSP_PROT32: expected b1 BSP_TABLES, came nothing more"),
        ("b0", "b0 b1", "after b0 BSP_PROT32: expected nothing more, came b1 BSP_TABLES"),
        ("c3=2", "c3=1", "expected c3=2 BSP_INIT_SENT, came c3=1 BSP_INIT_SENT"),
        (
            "c3=1 c3=2 c3=1",
            "c3=1 c3=2 c3=3",
            "after c3=2 BSP_INIT_SENT: expected c3=1 BSP_INIT_SENT, came c3=3 BSP_INIT_SENT",
        ),
    ],
)
def test_the_first_stage_that_differs_is_named(
    expected: str, came: str, said: Optional[str]
) -> None:
    table = table_for(None)
    (lane,) = lanes(events(came), table)
    found = lane_difference(lane, expected.split(), table)
    assert found == (said and f"CPU 0: {said}")


def test_an_ap_that_should_have_stayed_dark_is_counted() -> None:
    boot = read("x", {"cpus": 3, "aps": 1, "bsp": "b0 …", "ap": "10 …"}).boots[0]
    lit = [*events("b0"), *events("10", 1), *events("10", 2)]
    assert difference(boot, lit, HEALTHY) == "2 of the 2 APs lit a lamp, expected 1"
    assert difference(boot, lit[:2], HEALTHY) is None


def test_the_chain_is_that_of_the_cpu_that_died() -> None:
    steps = (Step(0, 14, "raised"), Step(0, 14, "not delivered"), Step(0, 8, "not delivered"))
    died = Explanation(Status.TRIPLE_FAULT, "", 0, chain=steps)
    assert chain_of(died) == ["#PF", "#DF", "shutdown"]
    boot = read("x", {"cpus": 1, "chain": "#UD #DF shutdown"}).boots[0]
    assert difference(boot, [], died) == ("exceptions: expected #UD, came #PF in: #PF #DF shutdown")
    assert difference(boot, [], HEALTHY) == ("exceptions: expected #UD, came nothing more in: none")


def test_each_boot_has_what_stands_above_them_all() -> None:
    one, two = read("x", {"cpus": 2, "boot": [{"options": "a"}, {"options": "b", "cpus": 3}]}).boots
    assert (one.cpus, one.options, two.cpus, two.options) == (2, "a", 3, "b")


def test_a_number_without_an_exercise_names_those_with_one() -> None:
    with pytest.raises(CommandError, match="those that have: 00"):
        load("99")


@pytest.mark.parametrize(
    ("installed", "piece"),
    [
        (None, "Bochs is not installed: what needs it can't run here (apt-get install bochs"),
        ("2.8", "this machine has Bochs 2.8, the chapters show 2.7"),
        ("", "Bochs of an unknown version"),
    ],
)
def test_another_emulator_gets_one_sentence(installed: Optional[str], piece: str) -> None:
    said = host.sentence(host.PROGRAMS["bochs"], installed)
    assert said is not None and piece in said and "\n" not in said
    assert host.sentence(host.PROGRAMS["bochs"], "2.7") is None


def test_an_exercise_asks_only_for_what_it_is_done_with(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "version", lambda program: None)
    assert not any("Bochs" in line for line in host.others(programs(load("02"))))
    assert any("Bochs" in line for line in host.others(programs(load("13"))))


def test_a_chapter_is_excused_by_what_it_uses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "version", lambda program: None)
    said = host.reasons(host.named(["make -s gdb HEADLESS=1", "0xffff bx_whatever"]))
    assert [line.split()[0] for line in said if "not installed" in line] == ["QEMU", "GDB"]
    assert host.named(["make diagnose EMULATOR=bochs"]) == ["console", "bochs"]


def test_an_earlier_change_gets_one_sentence(tmp_path: Path) -> None:
    assert changed_sources(tmp_path) is None  # no checkout
    git = ("git", "-C", str(tmp_path), "-c", "user.name=t", "-c", "user.email=t@localhost")
    (tmp_path / "src").mkdir()
    source = tmp_path / "src" / "kmain.c"
    source.write_text("int a;\n")
    for command in (("init", "-q"), ("add", "-A"), ("commit", "-q", "-m", "as cloned")):
        subprocess.run([*git, *command], check=True)
    (tmp_path / "trace.txt").write_text("what a chapter's command leaves\n")
    assert changed_sources(tmp_path) is None
    source.write_text("int b;\n")
    said = changed_sources(tmp_path)
    assert said is not None and "src/kmain.c" in said and "make pristine" in said
    assert "\n" not in said


def test_a_reason_stands_for_all_the_lines_that_differ() -> None:
    outcome = Outcome([f"README.md:{line}: differs" for line in range(30)])
    assert outcome.report(["another QEMU"]) == ("another QEMU\nREADME.md:0: differs\n(and 29 more)")
    assert len(outcome.report([]).splitlines()) == 30


def frames(*came: StageEvent) -> bytes:
    """What these CPUs write."""
    return b"".join(encode(e.apic_id, e.code, e.argument, i) for i, e in enumerate(came))


def test_a_boot_is_over_when_every_cpu_has_lit_its_last_stage() -> None:
    arrival = Arrival(all_arrived(2))
    assert not arrival.is_over()
    arrival.take(frames(*events("b0 ca")))
    assert not arrival.is_over(), "CPU 1 has lit nothing"
    arrival.take(frames(*events("10 a6", 1)))
    assert not arrival.is_over(), "CPU 1 is on its way"
    arrival.take(encode(1, 0xA7, None, 2)[:6])
    assert not arrival.is_over(), "half a frame"
    arrival.take(encode(1, 0xA7, None, 2)[6:])
    assert arrival.is_over()


def test_an_exercise_is_waited_for_until_it_is_right() -> None:
    (boot,) = read("00", {"cpus": 2, "bsp": "b0 …", "ap": "10 … 90 …"}).boots
    assert is_open(boot)
    arrival = Arrival(lambda came: stage_difference(boot, came) is None)
    arrival.take(frames(*events("b0"), *events("10", 1)))
    assert not arrival.is_over()
    arrival.take(encode(1, 0x90, None, 1))
    assert arrival.is_over()


@pytest.mark.parametrize("more", [{"bsp": "b0 b1"}, {"chain": "#UD shutdown"}])
def test_what_may_still_become_wrong_is_watched_to_its_end(more: dict[str, str]) -> None:
    (boot,) = read("00", {"cpus": 1, **more}).boots
    assert not is_open(boot)


def test_a_boot_that_went_by_the_expected_stage_is_over_with_the_last_one() -> None:
    (boot,) = read("00", {"cpus": 1, "bsp": "b0 … b9 9f ba …"}).boots
    watched = wishes(boot, Kernel(Path("build")))
    assert watched.on_output is not None and watched.stop_when is not None
    watched.on_output(frames(*events("b0 b9 ba")))
    assert not watched.stop_when(), "it may come later"
    watched.on_output(encode(0, 0xCA, None, 3))
    assert watched.stop_when()


def test_a_stage_behind_the_last_ones_is_waited_for() -> None:
    (boot,) = read("00", {"cpus": 2, "bsp": "b0 …", "ap": "10 … a7 91 …"}).boots
    assert not another_came(boot, [*events("b0 ca"), *events("10 a7", 1)])
