# SPDX-License-Identifier: BSD-2-Clause
"""An AP that stops at any stage costs exactly that AP, which is reported by name and stage.

GDB's stub stops the first AP that comes to a stage's site and makes it spin or halt there, before
the lamp is lit: the last one that it lit is the stage before.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from debug.sources.elf_symbols import ElfFile
from debug.stages.elf import read_sites
from debug.stages.table import BUILT_IN
from tests.boot import machine, verdict
from tests.boot.gdbstub import RIP

pytestmark = pytest.mark.emulator

CPUS = 4
PAGE = 0x8000
SPIN_AT = 0xFF0  # in the page's unused end
SPIN = bytes.fromhex("f390ebfc")  # pause; jmp to it: the same in 16-, 32- and 64-bit code
HALT = bytes.fromhex("faf4ebfc")  # cli; hlt; jmp to it: halt_forever(), once the page is gone
IN_C = BUILT_IN.by_name["AP_C"].code
MET = BUILT_IN.by_name["AP_BARRIER"].code
WAY = verdict.AP_WAY


def halt_address(kernel: Path) -> int:
    """Where the kernel's code stops a CPU for good."""
    for segment in ElfFile(kernel / "lamppost.elf").segments():
        at = segment.data.find(HALT)
        if at >= 0:
            return segment.virtual + at
    raise AssertionError("no halt_forever()")


def stage_name(code: int) -> str:
    return BUILT_IN.name(code)


@pytest.mark.parametrize("code", WAY, ids=stage_name)
def test_it_costs_one_cpu(kernel: Path, code: int) -> None:
    # The compiler may have copied a site in C onto two paths.
    sites = [s for s in read_sites(str(kernel / "lamppost.elf")) if s.code == code]
    places = [PAGE + s.address if s.in_trampoline else s.address for s in sites]
    real_mode_cs = sites[0].mode in ("real16", "prot16")
    image = machine.kernel_image(kernel, "")
    with machine.qemu(image, str(CPUS), ["-accel", machine.SINGLE], qmp=True, gdb=True) as guest:
        gdb = guest.gdb
        assert gdb is not None
        for place in places:
            gdb.stop_at(place)
        gdb.resume()
        cpu = gdb.stopped()
        for place in places:
            gdb.go_past(place)
        assert cpu != 0, "the BSP does not take an AP's way"
        gdb.use_physical_memory()
        gdb.write(PAGE + SPIN_AT, SPIN)
        gdb.select(cpu)
        if code >= IN_C:
            gdb.set_register(RIP, halt_address(kernel))
        else:
            gdb.set_register(RIP, SPIN_AT if real_mode_cs else PAGE + SPIN_AT)
        gdb.resume()
        guest.wait_until(
            lambda: len(verdict.LAST_FRAME.findall(guest.com1)) == CPUS - 1
            and b"  next: lamppost run" in guest.com1,
            "the other CPUs, and the report",
        )
        stream = bytes(guest.com1)

    trace = verdict.decode_whole(stream, "COM1")
    console = trace.console
    assert console.count("did not arrive within") == 1
    before = [earlier for earlier in WAY if earlier < code]
    if before:
        last = BUILT_IN.by_code[before[-1]]
        told = rf"Its last stage is {last.code:02x}: {re.escape(last.became)}\.\n"
    else:
        told = r"It lit no lamp: it did not reach the trampoline\.\n"
    assert re.search(rf"^CPU {cpu} \(APIC ID {cpu}\) did not arrive .*{told}", console, re.M)
    online = CPUS if code >= MET else CPUS - 1  # those that met
    assert f"{online} of {CPUS} CPUs online\n" in console
    ways = {a: tuple(f.code for f in frames) for a, frames in verdict.sequences(trace).items()}
    assert ways.get(cpu, ()) == tuple(before)
    others = [apic_id for apic_id in range(1, CPUS) if apic_id != cpu]
    assert all(ways[apic_id] == verdict.AP_WAY for apic_id in others)
