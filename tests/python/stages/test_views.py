# SPDX-License-Identifier: BSD-2-Clause
"""The views of a trace: terminal, SVG, Perfetto."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from typing import Optional

from hypothesis import given
from hypothesis import strategies as st

from debug.evidence import StageEvent
from debug.pictures import timeline as svg
from debug.stages import perfetto, timeline
from debug.stages.lanes import Lane, lanes, roll_call, ticks_per_us
from debug.stages.model import Stage, StageTable
from debug.stages.scale import scale
from debug.stages.table import BUILT_IN

TRAMPOLINE_WAY = (0x10, 0x11, 0x12, 0x13, 0x30, 0x31, 0x32, 0x33, 0x34, 0x60, 0x61, 0x62, 0x63)
AP_WAY = (*TRAMPOLINE_WAY, 0x64, 0x65, 0xA0, 0xA1, 0xA2, 0xA3, 0xA4, 0xA5, 0xA6)


def events(
    apic_id: int, *codes: int | tuple[int, int], tsc: Optional[int] = None
) -> list[StageEvent]:
    result = []
    for number, code in enumerate(codes):
        value, argument = code if isinstance(code, tuple) else (code, None)
        stamp = None if tsc is None else tsc + number * 2400
        result.append(StageEvent(apic_id, value, argument, number & 15, stamp, "e9"))
    return result


BSP = events(0, 0xB8, (0xBD, 4), (0xBF, 2_400_000), (0xC3, 1), (0xC3, 2), (0xC3, 3), 0xC7, 0xC9)
FOUR = BSP + events(1, *AP_WAY) + events(2, *AP_WAY) + events(3, *AP_WAY[:10])


def drawn(stages: list[StageEvent], width: int = 80, **options: object) -> list[str]:
    lines = timeline.render(lanes(stages, BUILT_IN), BUILT_IN, width, **options)  # type: ignore
    return [line.plain for line in lines]


def test_each_cpu_is_a_row_and_the_one_that_stopped_says_where() -> None:
    rows = drawn(FOUR)
    assert rows[0].startswith("CPU 0 BSP  b8 · bd=4 · bf=249f00 · c3=1") and "c9 ✓" in rows[0]
    assert rows[1].startswith("CPU 1      10 · 11 · 12 · 13 · 30")
    assert rows[2].strip().endswith("a5 · a6 ✓")
    assert "60 ✗" in rows[5]
    assert " ".join(" ".join(rows[6:]).split()).startswith("60 AP_LONG64: 64-bit mode was entered")


@given(st.integers(40, 200), st.integers(0, 64))
def test_no_row_is_wider_than_asked(width: int, cpus: int) -> None:
    stages = [e for n in range(cpus) for e in events(n * 0x1000, *AP_WAY[: n % 23])]
    marks = timeline.ASCII if cpus % 2 else timeline.Marks()
    assert all(len(row) <= width for row in drawn(stages, width, marks=marks))


def test_waking_many_is_counted_not_listed() -> None:
    wakes = [(0xC3, n) for n in range(1, 64)] + [(0xC4, n) for n in range(1, 64)]
    rows = drawn(events(0, 0xC2, *wakes, 0xC7))
    assert rows == ["CPU 0 BSP  c2 · c3x63 · c4x63 · c7 ✓"]


def test_restored_stages_stand_in_parentheses() -> None:
    stages = events(1, 0x10, 0x11)
    stages[1] = replace(stages[1], damaged=True, source="memory")
    assert "10 · (11) ✗" in drawn(stages)[0]


def test_deltas_are_microseconds_when_the_rate_is_known() -> None:
    stages = events(1, 0x10, 0x11, tsc=1000)
    assert "11 +1.0us" in drawn(stages, ticks_per_us=2400.0, deltas=True)[0]
    assert "11 +2400" in drawn(stages, deltas=True)[0]


def test_a_cpu_that_started_again_has_a_row_for_each_run() -> None:
    rows = drawn(events(1, 0x10, 0x11) + events(1, *AP_WAY))
    assert rows[0].startswith("CPU 1 ") and any(row.startswith("CPU 1 run 2") for row in rows)


def test_another_kernels_stages_get_no_verdict() -> None:
    theirs = StageTable((Stage(0x10, "START", "real16", "a", "b"),), "theirs")
    lane = lanes(events(1, 0x10, 0x99), theirs)[0]
    assert lane.arrived is None


def test_the_roll_counts_and_names_the_silent() -> None:
    stages = events(0, (0xBD, 3), (0xC3, 1), (0xC3, 2), 0xC7) + events(1, *AP_WAY)
    roll = roll_call(lanes(stages, BUILT_IN), BUILT_IN, None)
    assert (roll.present, roll.online, roll.expected, roll.silent) == (2, 2, 3, (2,))
    assert timeline.summary(roll) == "2 of 3 CPUs online; woken and never seen: APIC ID 2"


def timed() -> tuple[tuple[Lane, ...], Optional[float]]:
    stages = events(0, 0xB8, (0xBF, 2_400_000), 0xC7, tsc=5000) + events(1, *AP_WAY, tsc=7000)
    all_lanes = lanes(stages, BUILT_IN)
    return all_lanes, ticks_per_us(all_lanes, BUILT_IN)


def test_svg_is_well_formed_self_contained_and_repeatable() -> None:
    all_lanes, rate = timed()
    text = svg.render(all_lanes, BUILT_IN, rate)
    root = ElementTree.fromstring(text)
    space = "{http://www.w3.org/2000/svg}"
    heading, *tips = [title.text or "" for title in root.iter(f"{space}title")]
    assert heading == "Stages of 2 CPUs over 21.8 µs"
    assert len(tips) == sum(len(lane.events) for lane in all_lanes)
    assert "CPU 1: 10 AP_REAL16 at 0.8 µs" in tips[3]
    assert text == svg.render(all_lanes, BUILT_IN, rate)
    assert "prefers-color-scheme: dark" in text
    assert "href" not in text and "url(" not in text


def test_svg_escapes_what_a_table_says() -> None:
    table = StageTable((Stage(0x10, "X", "real16", "<script>&", "b"),), "theirs")
    text = svg.render(lanes(events(1, 0x10), table), table, None)
    ElementTree.fromstring(text)
    assert "<script>" not in text


def test_perfetto_has_a_track_per_cpu_and_slices_that_meet() -> None:
    all_lanes, rate = timed()
    trace = json.loads(perfetto.render(all_lanes, BUILT_IN, rate))
    assert trace["otherData"]["unit"] == "us"
    names = [e["args"]["name"] for e in trace["traceEvents"] if e["name"] == "thread_name"]
    assert names == ["CPU 0 (BSP)", "CPU 1"]
    for track in (1, 2):
        own = [e for e in trace["traceEvents"] if e["tid"] == track and e["ph"] != "M"]
        assert own[-1]["ph"] == "i" and all(e["ph"] == "X" for e in own[:-1])
        for one, two in zip(own, own[1:]):
            assert abs(one["ts"] + one["dur"] - two["ts"]) < 0.01


@given(st.lists(st.tuples(st.integers(0, 3), st.one_of(st.none(), st.integers(0, 2**64 - 1)))))
def test_any_time_stamps_can_be_drawn(stamps: list[tuple[int, Optional[int]]]) -> None:
    stages = [StageEvent(cpu, 0x10, None, None, tsc) for cpu, tsc in stamps]
    all_lanes = lanes(stages, BUILT_IN)
    placed = scale(all_lanes, None)
    assert all(list(row) == sorted(row) for row in placed.rows)
    ElementTree.fromstring(svg.render(all_lanes, BUILT_IN, None))
    json.loads(perfetto.render(all_lanes, BUILT_IN, None))
