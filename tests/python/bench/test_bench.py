# SPDX-License-Identifier: BSD-2-Clause
"""The benchmark's arithmetic, its tables, and that its counter tells the truth."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from debug.stages.frames import parse_frame
from tests.bench import machine, peers, report, running_total, workload
from tests.bench.counts import (
    BringUp,
    CountError,
    clock_cycles,
    frame_bytes,
    growth,
    median,
    parse_counts,
)
from tests.bench.verdict import Verdict

FRAMES = (b"@01:10.0*67\n", b"@01:c3=2.1*b1\n", b"@00000101:a4.2*12\n")


def results(factor: int = 1) -> report.Results:
    """A run of a made-up machine, `factor` times as expensive as a small one."""
    cheap = BringUp(1000 * factor, (2000 * factor,) * 7)
    dear = BringUp(4000 * factor, (8000 * factor,) * 7)
    return report.Results(
        8,
        (
            report.Sink("TRACE=0", cheap, 0),
            report.Sink("trace=none", cheap, 0),
            report.Sink("trace=com1", dear, 264),
        ),
        (report.Size(2, dear, dear, cheap), report.Size(255, dear, cheap, cheap)),
        (505, 505),
        (146_691_421 * factor, 71_052),
        Verdict("ap-stack-unmapped", "stack-unmapped", 0.2, 0.01, 0.02),
    )


def test_an_ap_counts_until_the_barrier_and_the_bsp_to_the_end() -> None:
    counted = parse_counts("0 900 900 7\n2 5000 2100 0\n1 4000 1900 0\n", 3)
    assert counted == BringUp(900, (1900, 2100), 7)
    assert counted.second_sipis == 1
    assert counted.total == 4900
    assert counted.own == 2000
    assert counted.per_ap == 2450


@pytest.mark.parametrize(
    "text, cpus, told",
    [
        ("", 1, "none of CPU 0"),
        ("0 1 1 0\n2 1 1 0\n", 4, "none of CPU 1, 3"),
        ("0 1 1\n", 1, "four numbers"),
        ("0 -1 1 0\n", 1, "four numbers"),
        ("qemu: no\n", 1, "four numbers"),
    ],
)
def test_a_broken_count_is_refused(text: str, cpus: int, told: str) -> None:
    with pytest.raises(CountError, match=told):
        parse_counts(text, cpus)


def test_only_whole_frames_are_counted_as_an_aps_bytes() -> None:
    stream = b"Hello @@01:10.0*67\n" + FRAMES[0] + b"text @@" + FRAMES[1] + FRAMES[2] + b"@01:1"
    assert frame_bytes(stream) == {1: len(FRAMES[0] + FRAMES[1]), 0x101: len(FRAMES[2])}


def test_the_frames_are_those_of_the_decoder() -> None:
    """A change of the grammar must reach the benchmark."""
    summed = b"@01:10.0*"
    whole = [summed + b"%02x\n" % value for value in range(256)]
    accepted = [frame for frame in whole if parse_frame(frame) or parse_frame(frame[:-1])]
    assert len(accepted) == 1
    assert frame_bytes(accepted[0]) == {1: len(accepted[0])}


def test_growth_is_one_while_each_ap_costs_the_same() -> None:
    assert growth([BringUp(0, (100,)), BringUp(0, (100,) * 50), BringUp(0, (150, 150))]) == (
        1.0,
        1.0,
        1.5,
    )
    assert growth([]) == ()


def test_the_clock_is_read_from_the_console() -> None:
    assert clock_cycles("a\nbring-up took 36574350 TSC cycles (36576 us)\n") == 36574350
    assert clock_cycles("4 of 4 CPUs online") is None


def test_the_median_is_a_measured_value() -> None:
    assert median([3.0, 1.0, 2.0]) == 2.0
    with pytest.raises(CountError):
        median([])


@pytest.mark.parametrize("factor", [1, 20])
def test_the_tables_fit_80_columns(factor: int) -> None:
    lines = report.text(results(factor)).splitlines()
    assert max(map(len, lines)) <= 80


def test_the_tables_show_the_ratios() -> None:
    shown = report.text(results())
    row = next(line for line in shown.splitlines() if "trace=com1" in line)
    assert row.split() == ["trace=com1", "4", "000", "8", "000", "60", "000", "4.00", "4.00", "264"]
    last = next(line for line in shown.splitlines() if line.startswith("  255"))
    assert last.split()[-2:] == ["0.25", "4.00"]
    assert "agree" in shown and "DIFFER" not in shown


def test_json_says_the_same() -> None:
    document = json.loads(json.dumps(report.document(results())))
    assert document["schema"] == report.SCHEMA
    assert document["tracing"]["sinks"][2]["ratio_to_untraced"] == 4.0
    assert [size["cpus"] for size in document["cpus"]] == [2, 255]
    assert document["verdict"]["total"] == pytest.approx(0.03)


@pytest.fixture(scope="module")
def bench(kernel: Path, tmp_path_factory: pytest.TempPathFactory) -> machine.Bench:
    place = tmp_path_factory.mktemp("bench")
    return machine.Bench({"traced": kernel}, machine.build_plugin(place, kernel))


@pytest.mark.emulator
def test_counter_and_clock_agree_where_one_cpu_runs(bench: machine.Bench) -> None:
    boot = bench.boot("traced", 1, "smp=off", shift=0)
    assert boot.bring_up.total == boot.cycles


@pytest.mark.emulator
def test_a_bring_up_costs_the_same_each_time_and_more_with_frames(bench: machine.Bench) -> None:
    first, again = (bench.boot("traced", 2, "trace=all") for _ in range(2))
    assert first == again
    silent = bench.boot("traced", 2, "trace=none")
    assert silent.bring_up.total < first.bring_up.total
    assert (silent.ap_bytes, first.ap_bytes) == (0, bench.boot("traced", 2, "trace=com1").ap_bytes)
    assert first.ap_bytes > 0


@pytest.mark.emulator
def test_a_trace_in_memory_costs_a_twentieth_at_most() -> None:
    bench = machine.prepare()
    traced = bench.boot("traced", 8, "trace=mem").bring_up.total
    assert traced <= 1.05 * bench.boot("untraced", 8, "").bring_up.total


def test_the_first_init_of_a_peer_comes_after_the_firmwares() -> None:
    log = "".join(
        f"7@{time}:apic_mem_writel {register} = {value}\n"
        for time, register, value in (
            ("1.5", "0x300", "0x000c4500"),
            ("1.6", "0x300", "0x000c4610"),
            ("2.0", "0xf0", "0x0000010f"),
            ("3.0", "0x300", "0x000040fb"),
            ("3.25", "0x300", "0x0000c500"),
            ("3.5", "0x300", "0x00004608"),
        )
    )
    writes = peers.icr_writes(log)
    start = peers.first_init(writes)
    assert start is not None and writes[start] == (3.25, 0xC500)
    assert peers.first_init(writes[:2]) is None


def test_the_peers_are_compared_by_medians() -> None:
    ours = peers.Line("ours", (0.011, 0.010, 0.030), 63)
    other = peers.Line("other", (0.044, 0.050, 0.040), 126, 1234)
    lines = [line.split() for line in peers.table([ours, other], 64).splitlines()]
    assert ["other", "44.0", "40.0", "50.0", "4.0", "126", "1", "234"] in lines
    assert ["ours", "11.0", "10.0", "30.0", "1.0", "63", "not", "counted"] in lines


def test_a_peers_instructions_are_those_between_its_first_init_and_its_word() -> None:
    firmware = ["apic_mem_writel 0x300 = 0x000c4500", "executed 100"]
    firmware += ["apic_mem_writel 0x300 = 0x000c4610", "executed 110"]
    said = [
        line
        for at, letter in enumerate("2 CPUs up")
        for line in (
            f"executed {300 + at}",
            f"7@1.5:serial_write write addr 0x00 val 0x{ord(letter):02x}",
            "7@1.5:serial_write write addr 0x01 val 0x55",
        )
    ]
    kernel = ["7@1.0:apic_mem_writel 0x300 = 0x0000c500", "executed 200"]
    kernel += ["7@1.1:apic_mem_writel 0x300 = 0x00000608", "executed 230", "executed 240"]
    log = ["noise", *said, *firmware, *kernel]
    assert running_total.executed([*log, *said], r"\d CPUs") == 300 + len("2 CPUs") - 1 - 200
    assert running_total.executed(log, r"\d CPUs") is None
    assert running_total.executed([*log, *said], None) == 30  # it says nothing: its last SIPI
    assert running_total.executed(firmware, None) is None


TABLE = """
  CPUs     items   busiest speed-up   steals switches        us
     1     35538     35538     1.00        0       62    472720
     8     35538      5336     6.66       44      144     85246
"""


def test_the_workloads_table_gives_ratios() -> None:
    rows = workload.read(TABLE)
    assert [row.cpus for row in rows] == [1, 8]
    assert workload.gains(rows) == (1.0, 472720 / 85246)
    text = report.text(replace(results(), shared=tuple(rows)))
    assert ["8", "85", "246", "5.55", "6.66", "44", "144"] in [t.split() for t in text.splitlines()]
    assert "Bochs is not installed" in report.text(results())
    with pytest.raises(machine.BenchError, match="WRONG"):
        workload.read(TABLE.replace("85246", "85246  WRONG RESULT"))
