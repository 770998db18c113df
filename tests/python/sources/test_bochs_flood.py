# SPDX-License-Identifier: BSD-2-Clause
"""A CPU that faults for ever: its log is thinned, its end and its death are not."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from debug.sources.bochs_flood import (
    FLOOD,
    FLOOD_EXCEPTIONS,
    FLOOD_SECONDS,
    STORM_SECONDS,
    StormWatch,
    thinned,
)
from debug.sources.bochs_log import LogReader

IPS = 4_000_000


def fault(tick: int, cpu: int = 1, vector: int = 13) -> bytes:
    """One exception as Bochs 2.7 logs it at the CPUs' debug level."""
    return (
        b"%011de[CPU%d  ] read_virtual_checks(): read beyond limit\n" % (tick, cpu)
        + b"%011dd[CPU%d  ] exception(0x%02x): error_code=0000\n" % (tick, cpu, vector)
        + b"%011dd[CPU%d  ] interrupt(): vector = %02x, TYPE = 3, EXT = 1\n" % (tick, cpu, vector)
    )


def flood(begin: int = 0, count: int = 20_000, step: int = 50) -> bytes:
    return b"".join(fault(begin + n * step) for n in range(count))


def test_what_is_no_flood_is_not_touched() -> None:
    data = flood(count=100)
    assert thinned(data) == (data, 0)


def test_a_flood_keeps_its_first_and_last_lines_and_counts_the_rest() -> None:
    data = flood()
    kept, left_out = thinned(data)
    assert len(kept) < FLOOD < len(data)
    assert left_out + kept.count(b"\n") == data.count(b"\n")
    assert kept.startswith(fault(0)) and kept.endswith(fault(19_999 * 50))


def test_a_death_in_the_middle_keeps_the_chain_before_it() -> None:
    death = (
        b"00000500000d[CPU2  ] exception(0x0e): error_code=0002\n"
        b"00000500000e[CPU2  ] interrupt(): gate.type(0) != {5,6,7,14,15}\n"
        b"00000500000p[CPU2  ] >>PANIC<< exception(): 3rd (13) exception with no resolution\n"
    )
    data = flood() + death + flood(begin=500_050)
    kept, _ = thinned(data)
    assert death in kept and len(kept) < FLOOD
    reader = LogReader()
    reader.feed(data)
    assert reader.death is not None and (reader.death.cpu, reader.death.vector) == (2, 13)


def test_lines_of_devices_are_never_left_out() -> None:
    line = b"00000500000i[BIOS  ] Booting from 07c0:0000\n"
    kept, _ = thinned(flood() + line + flood())
    assert line in kept


@given(st.binary(max_size=2000), st.integers(0, 3))
def test_any_bytes_are_thinned_without_losing_a_line(noise: bytes, place: int) -> None:
    pieces = [flood(count=6000), flood(count=6000), flood(count=6000)]
    pieces.insert(place, noise.replace(b"\n", b" ") + b"\n")
    data = b"".join(pieces)
    kept, left_out = thinned(data)
    assert kept.count(b"\n") + left_out == data.count(b"\n")


def test_a_loop_on_the_clock_hides_no_exception() -> None:
    loop = b"".join(
        b"%011dd[CPU%d  ] RDTSC: ticks 0x00000000:%08x\n" % (tick, tick % 4, tick)
        for tick in range(100, 60_000)
    )
    reader = LogReader()
    reader.feed(loop + fault(60_000, vector=14) + loop)
    (event,) = reader.result().events
    assert event.vector == 14 and reader.lines == 2 * loop.count(b"\n") + 3


def test_the_first_exceptions_of_a_flood_stay() -> None:
    reader = LogReader()
    reader.feed(fault(1, vector=6) + flood(begin=100))
    events = reader.result().events
    assert events[0].vector == 6 and events[-1].vector == 13
    assert [event.tick for event in events] == sorted(event.tick or 0 for event in events)


def test_a_storm_is_exceptions_and_silence_for_a_while_of_the_guests_time() -> None:
    watch = StormWatch(IPS)
    step = int(STORM_SECONDS * IPS / 30_000) + 1
    assert not watch.rages(activity=7, now=0)
    watch.feed(flood(begin=0, count=30_000, step=step))
    assert not watch.rages(activity=8, now=1)  # something was written meanwhile
    watch.feed(flood(begin=watch.tick, count=30_000, step=step))
    assert watch.rages(activity=8, now=2)
    assert str(watch) == "stopped: 30000 exceptions and nothing written for 3.0 s of guest time"


def test_few_exceptions_or_a_short_time_are_no_storm() -> None:
    short, few, faults = StormWatch(IPS), StormWatch(IPS), StormWatch(IPS)
    for watch in (short, few, faults):
        watch.rages(activity=1, now=0)
    short.feed(flood(count=30_000, step=1))
    few.feed(flood(count=100, step=1_000_000))
    faults.feed(b"".join(fault(n * 1000, vector=14) for n in range(30_000)))
    assert not any(watch.rages(1, FLOOD_SECONDS + 1) for watch in (short, few, faults))


def test_a_flood_that_slows_the_guest_down_is_a_storm_all_the_same() -> None:
    watch = StormWatch(IPS)
    watch.rages(activity=1, now=0)
    piece = flood(count=50_000, step=1)
    for _ in range(FLOOD_EXCEPTIONS // 50_000):
        watch.feed(piece)
    assert not watch.rages(1, FLOOD_SECONDS - 1) and watch.rages(1, FLOOD_SECONDS)
