# SPDX-License-Identifier: BSD-2-Clause
"""A CPU that stops inside the frame writer does not silence the others.

GDB's stub stops one AP between two bytes of a frame, while it holds the trace lock, and makes it
spin there.  The others must go on after TRACE_STEAL_AFTER_MS; what is torn must be seen and mended
from memory.  Then the AP goes on, and the rest of its frame must not be taken for another one.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

import pytest

from debug.stages.frames import DamageKind
from debug.stages.memory import MemoryTrace
from debug.stages.repair import repair
from debug.stages.table import BUILT_IN
from debug.stages.trace import Trace, decode
from tests.boot import machine, verdict
from tests.boot.emitters import Emitter, find_emitter
from tests.boot.gdbstub import RIP, GdbStub
from tests.boot.memory import read_record

pytestmark = pytest.mark.emulator

CPUS = 4
PAGE = 0x8000
SPIN_AT = 0xFF0  # in the page's unused end
SPIN = bytes.fromhex("f390ebfc")  # pause; jmp to it: the same in 16-, 32- and 64-bit code
BYTES_SENT = 5  # "@01:6" has gone out when the AP stops
ABANDONED = BUILT_IN.by_name["AP_ABANDONED"]


class Case(NamedTuple):
    bits: int
    sink: str  # where the frame tears: e9 or com1
    stage: str  # the emitter's first stage: where the AP stops


CASES = [
    Case(16, "e9", "AP_REAL16"),
    Case(32, "e9", "AP_PROT32"),
    Case(64, "e9", "AP_LONG64"),
    Case(64, "com1", "AP_LONG64"),
    Case(16, "com1", "AP_REAL16"),
]


def stop_inside_frame(gdb: GdbStub, emitter: Emitter, sink: str) -> tuple[int, int]:
    """Let the machine run until an AP has sent the first bytes of a frame; its index and RIP."""
    place = PAGE + (emitter.rep_outsb if sink == "e9" else emitter.out_com1)
    gdb.stop_at(place)
    gdb.resume()
    cpu = gdb.stopped()
    assert cpu != 0, "the BSP does not run in the trampoline"
    if sink == "com1":  # a stop before each byte
        for _ in range(BYTES_SENT):
            gdb.go_past(place)
            gdb.step(cpu)
            gdb.stop_at(place)
            gdb.resume()
            assert gdb.stopped() == cpu, "another CPU writes inside the frame"
    gdb.go_past(place)
    if sink == "e9":  # one step of a REP is one byte
        for _ in range(BYTES_SENT):
            gdb.step(cpu)
    gdb.select(cpu)
    return cpu, gdb.register(RIP)


def finish(guest: machine.Machine) -> MemoryTrace:
    """Stop the machine and read the record."""
    assert guest.qmp is not None
    guest.qmp.command("stop")
    return read_record(guest.low_memory())


def longest_wait(record: MemoryTrace, stopped: int) -> int:
    """The longest time, in TSC cycles, between two stages of an AP other than the stopped one."""
    return max(
        (later.tsc or 0) - (earlier.tsc or 0)
        for cpu in record.cpus
        if cpu.apic_id not in (0, stopped)
        for earlier, later in zip(cpu.events, cpu.events[1:])
    )


def check_mended(trace: Trace, record: MemoryTrace, torn: bool) -> None:
    """Whatever is damaged: the record mends it, and nothing was read that no CPU recorded."""
    mended = repair(trace.events("e9"), record.cpus)
    assert not mended.disagreements, "a frame was decoded that no CPU wrote"
    for cpu in record.cpus:
        events = [e for e in mended.events if e.apic_id == cpu.apic_id]
        assert [e.code for e in events] == [e.code for e in cpu.events]
    assert bool(mended.restored) == torn


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.bits}-bit-{case.sink}")
def test_the_lock_is_stolen_and_the_torn_frame_mended(kernel: Path, case: Case) -> None:
    emitter = find_emitter(kernel, case.bits)
    stage = BUILT_IN.by_name[case.stage]
    image = machine.kernel_image(kernel, "")
    with machine.qemu(image, str(CPUS), ["-accel", machine.SINGLE], qmp=True, gdb=True) as guest:
        gdb = guest.gdb
        assert gdb is not None and guest.qmp is not None
        cpu, where = stop_inside_frame(gdb, emitter, case.sink)
        gdb.use_physical_memory()
        gdb.write(PAGE + SPIN_AT, SPIN)
        base = PAGE if case.bits != 16 else 0
        gdb.set_register(RIP, base + SPIN_AT)
        gdb.resume()

        guest.wait_until(
            lambda: len(verdict.LAST_FRAME.findall(guest.com1)) == CPUS - 1,
            "the other CPUs",
        )
        gdb.interrupt()
        torn_streams = {"e9": bytes(guest.e9), "com1": bytes(guest.com1)}
        torn_record = read_record(guest.low_memory())

        # The AP goes on where it was.
        gdb.select(cpu)
        gdb.set_register(RIP, where)
        gdb.resume()
        last = b"@%02x:%02x." % (cpu, ABANDONED.code)
        guest.wait_until(lambda: last in guest.com1, "the late AP's last stage")
        guest.wait_until(lambda: guest.com1.endswith(b"\n"), "the end of its frame")
        late_record = finish(guest)
        late_streams = {"e9": bytes(guest.e9), "com1": bytes(guest.com1)}

    control = torn_record.control
    assert control is not None and control.steals >= 1
    assert longest_wait(torn_record, cpu) >= control.steal_after, "stolen before the deadline"
    torn = decode(torn_streams[case.sink])
    heads = [d for d in torn.damage if d.kind is DamageKind.TORN]
    assert [d.text for d in heads] == [f"@{cpu:02x}:{stage.code:02x}"[:BYTES_SENT]]
    check_mended(torn, torn_record, True)

    # Every other CPU went its whole way; the BSP says which one is missing, and where it was.
    others = [apic_id for apic_id in range(1, CPUS) if apic_id != cpu]
    ways = {a: tuple(f.code for f in frames) for a, frames in verdict.sequences(torn).items()}
    assert all(ways[apic_id] == verdict.AP_WAY for apic_id in others)
    report = f"CPU {cpu} (APIC ID {cpu}) did not arrive within "
    assert torn.console.count(report) == 1
    told = torn.console[torn.console.index(report) :]
    assert re.search(rf"Its last stage is {stage.code:02x}: {re.escape(stage.became)}\.\n", told)
    assert re.search(r"^  next: \S", told, re.MULTILINE)
    assert f"{CPUS - 1} of {CPUS} CPUs online\n" in told

    # The rest of the frame completes the torn head or is damage: never another frame.
    late = decode(late_streams[case.sink])
    stray = [f for f in late.frames if f.apic_id == cpu and f.code == stage.code]
    assert all(frame.damaged for frame in stray)
    assert stray or any(d.kind is DamageKind.ORPHAN for d in late.damage)
    check_mended(late, late_record, not stray)
    assert late_record.control is not None
    final = {c.apic_id: c.events[-1].code for c in late_record.cpus}
    assert final[cpu] == ABANDONED.code
