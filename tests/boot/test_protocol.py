# SPDX-License-Identifier: BSD-2-Clause
"""64 CPUs that start at the same moment: port 0xE9, COM1 and memory tell the same story.

LAMPPOST_BOOTS says how many boots (default 20).  They run on single-threaded TCG, which switches
CPUs at every `pause` and at any time slice's end.  THREADED more run on one host thread a CPU: on a
busy host with few cores a lock's holder can then stand still for longer than TRACE_STEAL_AFTER_MS,
and what a steal tears must be mended.  In WITNESSED more QEMU itself testifies which CPU wrote
which byte; its log makes them slower.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from debug.evidence import StageEvent
from debug.stages.memory import MemoryTrace, read_memory
from debug.stages.repair import repair
from debug.stages.table import BUILT_IN
from debug.stages.trace import Trace, decode
from tests.bench.counts import frame_bytes
from tests.boot import machine, verdict, witness
from tests.boot.memory import Copy, read_record

pytestmark = pytest.mark.emulator

CPUS = 64
BOOTS = int(os.environ.get("LAMPPOST_BOOTS", "20"))
GROUPS = min(BOOTS, 10)  # so that several workers share the boots
THREADED = 2
WITNESSED = 5
AP_BYTES = 26 * 12  # what the way of an AP may put on a port: 26 stages without an argument

Event = tuple[int, int | None, int | None]  # code, argument, sequence


def stream_events(trace: Trace) -> dict[int, list[Event]]:
    return {
        apic_id: [(f.code, f.argument, f.sequence) for f in frames]
        for apic_id, frames in verdict.sequences(trace).items()
    }


def record_events(record: MemoryTrace) -> dict[int, list[Event]]:
    return {
        cpu.apic_id: [(e.code, e.argument, e.sequence or 0) for e in cpu.events]
        for cpu in record.cpus
    }


def in_order(events: tuple[StageEvent, ...]) -> bool:
    times = [event.tsc or 0 for event in events]
    return all(earlier < later for earlier, later in zip(times, times[1:]))


def wait_for_all(guest: machine.Machine) -> None:
    """Wait for the last lamp of every CPU on COM1, the last of the sinks.

    If a lock was stolen these frames can be torn themselves; the record in memory is enough then.
    """

    def done() -> bool:
        size, mended = -1, False
        while b"CPUs online" in guest.com1 and len(guest.com1) != size:
            size = len(guest.com1)  # reading memory takes in what arrives meanwhile
            mended = mended_by_memory(read_memory(Copy(guest.low_memory())))
        return mended or len(verdict.LAST_FRAME.findall(guest.com1)) == CPUS

    guest.wait_until(done, f"the last stage of {CPUS} CPUs")


def has_all(record: MemoryTrace) -> bool:
    """Whether the last lamp of every CPU is in the record."""
    last = {cpu.events[-1].code for cpu in record.cpus if cpu.events}
    return last <= {verdict.AP_LAST, verdict.BSP_LAST} and len(record.cpus) == CPUS


def mended_by_memory(record: MemoryTrace) -> bool:
    return has_all(record) and record.control is not None and record.control.steals > 0


def read_sinks(guest: machine.Machine) -> tuple[bytes, bytes, MemoryTrace]:
    """Stop a machine that has booted: port 0xE9, COM1, memory."""
    assert guest.qmp is not None
    guest.qmp.command("stop", timeout=machine.DEADLINE)
    record = read_record(guest.low_memory())
    assert record.control is not None and len(record.cpus) == CPUS
    assert all(not cpu.overwritten and in_order(cpu.events) for cpu in record.cpus)
    ways = {cpu.apic_id: tuple(e.code for e in cpu.events) for cpu in record.cpus}
    assert all(ways[apic_id] == verdict.AP_WAY for apic_id in range(1, CPUS))
    return bytes(guest.e9), bytes(guest.com1), record


def check_equal(e9_stream: bytes, com1_stream: bytes, record: MemoryTrace) -> tuple[Trace, Trace]:
    """Nothing is torn, and the three say the same."""
    assert record.control is not None and record.control.steals == 0
    e9 = verdict.decode_whole(e9_stream, "port 0xE9")
    com1 = verdict.decode_whole(com1_stream, "COM1")
    assert [f.event("") for f in e9.frames] == [f.event("") for f in com1.frames]
    assert stream_events(e9) == record_events(record)
    return e9, com1


def check_mended(stream: bytes, record: MemoryTrace) -> None:
    """Whatever tore: with the record each CPU's sequence is whole, and nothing is invented."""
    mended = repair(decode(stream).events(""), record.cpus)
    assert not mended.disagreements
    for cpu in record.cpus:
        own = [(e.code, e.argument) for e in mended.events if e.apic_id == cpu.apic_id]
        assert own == [(e.code, e.argument) for e in cpu.events]


def boot(kernel: Path, accel: str, *extra: str, options: str = "") -> machine.Machine:
    image = machine.kernel_image(kernel, options)
    return machine.qemu(image, str(CPUS), ["-accel", accel, *extra], qmp=True)


@pytest.mark.parametrize("group", range(GROUPS))
def test_three_sinks_agree(kernel: Path, group: int) -> None:
    for _ in range(group, BOOTS, GROUPS):
        with boot(kernel, machine.SINGLE) as guest:
            wait_for_all(guest)
            check_equal(*read_sinks(guest))


@pytest.mark.parametrize("number", range(THREADED))
def test_three_sinks_agree_with_a_thread_per_cpu(kernel: Path, number: int) -> None:
    with boot(kernel, "tcg,thread=multi") as guest:
        wait_for_all(guest)
        e9, com1, record = read_sinks(guest)
    assert record.control is not None
    if record.control.steals == 0:
        check_equal(e9, com1, record)
    check_mended(e9, record)
    check_mended(com1, record)


@pytest.mark.parametrize("number", range(WITNESSED))
def test_qemu_saw_each_cpu_write_its_own_frames(kernel: Path, tmp_path: Path, number: int) -> None:
    log = tmp_path / "witness.log"
    with boot(kernel, machine.SINGLE, *witness.OPTIONS, "-D", str(log)) as guest:
        wait_for_all(guest)
        traces = check_equal(*read_sinks(guest))
        assert guest.qmp is not None
        guest.qmp.command("quit")  # closes the log
        over = guest.run()
    seen = witness.read_witness(log)
    for writes, received, trace, name in zip(seen, (over.e9, over.com1), traces, ("e9", "com1")):
        assert witness.stream(writes) == received, f"{name}: QEMU saw other bytes"
        parts = witness.by_cpu(writes)
        assert set(parts) == set(range(CPUS)), name
        expected = verdict.sequences(trace)
        for cpu, part in parts.items():
            own = verdict.sequences(verdict.decode_whole(part, f"{name}, CPU {cpu}"))
            assert set(own) == {cpu}, f"{name}: CPU {cpu} wrote frames of {set(own)}"
            assert [f.event("") for f in own[cpu]] == [f.event("") for f in expected[cpu]]


def test_an_ap_keeps_within_its_bytes(kernel: Path) -> None:
    """A byte to port 0xE9 costs about 0.9 microseconds under QEMU, a polled one to COM1 1.3."""
    with machine.qemu(
        machine.kernel_image(kernel, "selftest"), "4", ["-accel", machine.SINGLE]
    ) as guest:
        sent = frame_bytes(guest.run().e9)
    assert all(200 < sent[apic_id] <= AP_BYTES for apic_id in (1, 2, 3)), sent


@pytest.mark.parametrize("accel", [machine.SINGLE, "tcg,thread=multi"])
def test_memory_alone_holds_every_way(kernel: Path, accel: str) -> None:
    """There the stages are stamped, not emitted; frames end when the BSP has read its options."""
    with boot(kernel, accel, options="trace=mem") as guest:
        guest.wait_until(
            lambda: has_all(read_memory(Copy(guest.low_memory()))), f"the last stage of {CPUS} CPUs"
        )
        e9, com1, record = read_sinks(guest)
    assert {f.apic_id for stream in (e9, com1) for f in decode(stream).frames} == {0}
    bsp = next(cpu for cpu in record.cpus if cpu.is_bsp)
    seen = [e.argument for e in bsp.events if BUILT_IN.name(e.code) == "BSP_AP_SEEN"]
    assert sorted(a for a in seen if a is not None) == list(range(1, CPUS))
