# SPDX-License-Identifier: BSD-2-Clause
"""The results as tables of at most 80 columns, and as JSON.  Pure."""

from __future__ import annotations

import textwrap
from dataclasses import asdict, dataclass
from typing import Any, Optional, Sequence

from tests.bench.counts import BringUp, growth
from tests.bench.verdict import Verdict
from tests.bench.workload import Row, gains

SCHEMA = "lamppost-bench-1"
WIDTH = 80  # columns


@dataclass(frozen=True)
class Sink:
    """The cost of one choice of sinks: `name` as the user writes it."""

    name: str
    bring_up: BringUp
    ap_bytes: int  # that an AP sends to each port


@dataclass(frozen=True)
class Size:
    """The cost of one machine size: parallel and serial with all sinks, parallel with TRACE=0."""

    cpus: int
    parallel: BringUp
    serial: BringUp
    untraced: BringUp


@dataclass(frozen=True)
class Results:
    """Everything that one run measured.

    sinks: the first is TRACE=0, the second trace=none; checked: the same stretch by clock and by
    counter; jump: what clock and counter say with `sink_cpus` CPUs and all sinks; shared: the
    workload for 1 CPU and more, None without Bochs.
    """

    sink_cpus: int
    sinks: tuple[Sink, ...]
    sizes: tuple[Size, ...]
    checked: tuple[int, int]
    jump: tuple[int, int]
    verdict: Verdict
    shared: Optional[tuple[Row, ...]] = None


def _number(value: float) -> str:
    return f"{value:,.0f}".replace(",", " ")


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(cell) for cell in column) for column in zip(heads, *rows)]
    lines = []
    for row in (heads, *rows):
        cells = [row[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(row[1:], widths[1:])]
        lines.append("  " + "  ".join(cells).rstrip())
    return lines


def _sinks(results: Results) -> list[str]:
    removed, silent = results.sinks[0].bring_up.total, results.sinks[1].bring_up.total
    rows = [
        (
            sink.name,
            _number(sink.bring_up.bsp),
            _number(sink.bring_up.own),
            _number(sink.bring_up.total),
            f"{sink.bring_up.total / silent:.2f}",
            f"{sink.bring_up.total / removed:.2f}",
            _number(sink.ap_bytes),
        )
        for sink in results.sinks
    ]
    heads = ("sinks", "BSP", "each AP", "total", "÷ none", "÷ TRACE=0", "bytes an AP")
    return [
        f"What tracing costs: the bring-up of {results.sink_cpus} CPUs, guest instructions",
        "",
        *_table(heads, rows),
        "",
        "  TRACE=0: built without the stages.  bytes: of its frames, on each port.",
    ]


def _sizes(results: Results) -> list[str]:
    sizes = results.sizes

    def seconds(name: str) -> str:
        return " ".join(str(getattr(size, name).second_sipis) for size in sizes)

    rows = []
    for size, together, single in zip(
        sizes,
        growth([size.parallel for size in sizes]),
        growth([size.serial for size in sizes]),
    ):
        rows.append(
            (
                str(size.cpus),
                _number(size.parallel.total),
                _number(size.parallel.per_ap),
                f"{together:.2f}",
                _number(size.serial.total),
                _number(size.serial.per_ap),
                f"{single:.2f}",
                f"{size.serial.total / size.parallel.total:.2f}",
                f"{size.parallel.total / size.untraced.total:.2f}",
            )
        )
    heads = ("CPUs", "parallel", "per AP", "growth", "serial", "per AP", "growth", "s/p", "t/u")
    return [
        "What CPUs cost: the bring-up with all sinks, guest instructions of all CPUs",
        "",
        *_table(heads, rows),
        "",
        f"  growth: of what an AP costs, against {sizes[0].cpus} CPUs; 1.00 is linear.",
        "  s/p: serial ÷ parallel.  t/u: traced ÷ TRACE=0, parallel.",
        *_wrapped(
            f"Second SIPIs sent, each a frame more: {seconds('parallel')} in parallel,"
            f" {seconds('serial')} serial, {seconds('untraced')} with TRACE=0."
        ),
    ]


def _wrapped(sentences: str) -> list[str]:
    return textwrap.wrap(sentences, WIDTH, initial_indent="  ", subsequent_indent="  ")


def _shared(rows: Optional[Sequence[Row]]) -> list[str]:
    title = "What CPUs gain: threads that count the ways to place ten queens, on Bochs"
    if not rows:
        return [title, "", "  Not measured: Bochs is not installed (make setup)."]
    cells = [
        (
            str(row.cpus),
            _number(row.microseconds),
            f"{gain:.2f}",
            f"{row.shared:.2f}",
            _number(row.steals),
            _number(row.switches),
        )
        for row, gain in zip(rows, gains(rows))
    ]
    heads = ("CPUs", "us", "speed-up", "work shared", "steals", "switches")
    return [
        title,
        "",
        *_table(heads, cells),
        "",
        "  us, speed-up: by Bochs' clock.  work shared: all items ÷ the busiest CPU's.",
    ]


def _clock(results: Results) -> list[str]:
    (one_clock, one_count), (clock, count) = results.checked, results.jump
    verb = "agree" if one_clock == one_count else "DIFFER"
    return [
        "How it was counted: a QEMU plugin, under -icount",
        "",
        *_wrapped(
            f"Clock and counter {verb} where one CPU runs: {_number(one_clock)} ns,"
            f" {_number(one_count)} instructions. With {results.sink_cpus} CPUs the clock says"
            f" {_number(clock)} ns for {_number(count)} instructions: QEMU books a whole time"
            " slice as executed when an AP takes INIT (tests/bench/__init__.py)."
        ),
    ]


def _verdict(verdict: Verdict) -> list[str]:
    return [
        f"How soon a verdict comes: tests/labs/{verdict.lab}, found {verdict.cause}",
        "",
        *_wrapped(
            f"{verdict.total * 1000:.0f} ms from the notice of the death to the report:"
            f" {verdict.collect * 1000:.0f} ms to read the machine out,"
            f" {verdict.explain * 1000:.0f} ms to explain it. That is"
            f" {verdict.total / verdict.boot:.2f} of the boot before it ({verdict.boot:.1f} s)."
        ),
    ]


def text(results: Results) -> str:
    """For a person: at most 80 columns."""
    parts = (
        _sinks(results),
        _sizes(results),
        _shared(results.shared),
        _clock(results),
        _verdict(results.verdict),
    )
    return "\n\n".join("\n".join(part) for part in parts) + "\n"


def _bring_up(bring_up: BringUp) -> dict[str, Any]:
    return {
        "bsp": bring_up.bsp,
        "ap_own_mean": bring_up.own,
        "total": bring_up.total,
        "per_ap": bring_up.per_ap,
        "second_sipis": bring_up.second_sipis,
    }


def document(results: Results) -> dict[str, Any]:
    """The same as JSON values; instructions, bytes and seconds."""
    removed, silent = results.sinks[0].bring_up.total, results.sinks[1].bring_up.total
    return {
        "schema": SCHEMA,
        "tracing": {
            "cpus": results.sink_cpus,
            "sinks": [
                {
                    "name": sink.name,
                    **_bring_up(sink.bring_up),
                    "ap_bytes": sink.ap_bytes,
                    "ratio_to_none": sink.bring_up.total / silent,
                    "ratio_to_untraced": sink.bring_up.total / removed,
                }
                for sink in results.sinks
            ],
        },
        "cpus": [
            {
                "cpus": size.cpus,
                "parallel": _bring_up(size.parallel),
                "serial": _bring_up(size.serial),
                "untraced": _bring_up(size.untraced),
                "serial_to_parallel": size.serial.total / size.parallel.total,
                "traced_to_untraced": size.parallel.total / size.untraced.total,
            }
            for size in results.sizes
        ],
        "check": {"cycles": results.checked[0], "instructions": results.checked[1]},
        "jump": {"nanoseconds": results.jump[0], "instructions": results.jump[1]},
        "workload": [
            {**asdict(row), "speed_up": gain, "work_shared": row.shared}
            for row, gain in zip(results.shared, gains(results.shared))
        ]
        if results.shared
        else None,
        "verdict": {**asdict(results.verdict), "total": results.verdict.total},
    }
