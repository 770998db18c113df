# SPDX-License-Identifier: BSD-2-Clause
"""A panic prints one report, whole, whatever the other CPUs are doing.

Each situation is a lab: the kernel itself has no fault switches.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Callable, NamedTuple, Optional

import pytest

from debug.labs.lab import load
from debug.labs.workshop import build
from debug.stages.frames import DamageKind
from debug.stages.table import BUILT_IN
from debug.stages.trace import Trace, decode
from tests.boot import machine, verdict

pytestmark = pytest.mark.emulator

CPUS = 4
EXITS = verdict.exit_codes()
REGISTERS = r"""    rip \w{16}  rsp \w{16}  rflags \w{16}
    rax \w{16}  rbx \w{16}  rcx \w{16}
    rdx \w{16}  rsi \w{16}  rdi \w{16}
    rbp \w{16}  r8  \w{16}  r9  \w{16}
    r10 \w{16}  r11 \w{16}  r12 \w{16}
    r13 \w{16}  r14 \w{16}  r15 \w{16}
    cr0 \w{16}  cr3 \w{16}  cr4 \w{16}
"""


class Case(NamedTuple):
    lab: str
    report: str  # a pattern for everything on the console from the first line of the report on
    stopped: Optional[tuple[int, ...]]  # the CPUs that say so; None while APs still come up


# CPUs may be stopped anywhere: in a handler, in a frame.
OTHERS = r"(?:    CPU \d \(APIC ID \d\) was at \w{16} with interrupts off\n)*"
PANIC = OTHERS + r"panic: no root file system\n"
UNEXPECTED = OTHERS + r"panic: an exception that the kernel does not expect\n"
CASES = [
    Case("ends-with-panic", PANIC, (1, 2, 3)),
    Case(
        "panic-cpu-stuck",
        OTHERS + r"    CPU 2 \(APIC ID 2\) was at ffffffff8\w{7} with interrupts off\n" + PANIC,
        (1, 2, 3),
    ),
    Case(
        "panic-in-console-lock",
        OTHERS + r"    CPU 2 \(APIC ID 2\) was at ffffffff8\w{7} with interrupts off\n" + PANIC,
        (1, 2, 3),
    ),
    Case(
        "panic-twice-at-once",
        OTHERS
        + r"(?:    CPU [02] \(APIC ID [02]\) panicked too\n)?"
        + OTHERS
        + r"panic: no root file system on CPU [02]\n",
        (1, 3),
    ),
    Case(
        "panic-in-panic",
        r"CPU 1 \(APIC ID 1\): #UD invalid opcode, vector 6\n    error code 0\n"
        + REGISTERS
        + r"panic inside panic: #PF page fault at rip 0xffffffff8\w{7}\n",
        (0, 2, 3),
    ),
    Case(
        "ap-double-fault",
        r"CPU 1 \(APIC ID 1\): #DF double fault, vector 8\n    error code 0\n"
        + REGISTERS
        + r"    last stage a7: [^\n]+\n"
        + UNEXPECTED,
        (0, 2, 3),
    ),
    Case(
        "ap-stack-overflow",
        r"CPU \d \(APIC ID \d\): #DF double fault, vector 8\n    error code 0\n"
        r"    cr2 \w{16} is the unmapped page below CPU \d's stack: the stack overflowed\n"
        + REGISTERS
        + r"(?:    called from \w+\n)*    last stage a4: [^\n]+\n"
        + UNEXPECTED,
        None,
    ),
]


def start_qemu(lab_id: str, directory: Path) -> machine.Machine:
    kernel = build(load(lab_id), "lamppost.elf")
    image = ["-kernel", str(kernel.elf), "-append", ""]
    return machine.qemu(image, str(CPUS), ["-accel", machine.SINGLE])


def start_bochs(lab_id: str, directory: Path) -> machine.Machine:
    return machine.bochs(build(load(lab_id), "lamppost.iso").iso, CPUS, directory)


STARTS: dict[str, Callable[[str, Path], machine.Machine]] = {
    "qemu": start_qemu,
    "bochs": start_bochs,
}


def check_frames(case: Case, trace: Trace) -> None:
    """Who reported did nothing after it, and the others stopped before it."""
    if case.stopped is None:
        return
    lit = [(f.apic_id, f.code) for f in trace.frames]
    panic = next(i for i, (_, code) in enumerate(lit) if code == BUILT_IN.by_name["PANIC"].code)
    late = {apic_id for apic_id, _ in lit[panic:]}
    assert late == {lit[panic][0]}, "a CPU wrote after the report began"
    stopped = {a for a, code in lit if code == BUILT_IN.by_name["STOPPED"].code}
    assert stopped >= set(case.stopped)


def name_of(case: Case) -> str:
    return case.lab


@pytest.mark.parametrize("emulator", ["qemu", "bochs"])
@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_the_report_is_whole(case: Case, emulator: str, tmp_path: Path) -> None:
    with STARTS[emulator](case.lab, tmp_path) as guest:
        boot = guest.run()
    assert boot.exit_code is not None, f"it hangs: {boot.e9[-1000:]!r}"
    if emulator == "qemu":
        assert boot.exit_code == EXITS["PANIC"] << 1 | 1
    trace = decode(boot.com1)
    # A CPU that is stopped inside a frame, or while it waits to send one, never ends it.
    assert {damage.kind for damage in trace.damage} <= {DamageKind.TORN, DamageKind.LOST}
    assert verdict.exit_argument(trace) == EXITS["PANIC"]
    assert re.search(r"(?:^|\n)" + case.report + r"\Z", trace.console), trace.console
    check_frames(case, trace)


def test_a_machine_check_is_reported(kernel: Path) -> None:
    """QEMU's monitor injects an uncorrected error into CPU 2, which stands in idle_halt()."""
    uncorrected = "0xbd00000000000000"  # MCi_STATUS: VAL, UC, EN, MISCV, ADDRV, PCC
    in_progress = "0x4"  # MCG_STATUS.MCIP
    image = machine.kernel_image(kernel, "")
    with machine.qemu(image, str(CPUS), ["-accel", machine.SINGLE], qmp=True) as guest:
        guest.wait_until(lambda: len(verdict.LAST_FRAME.findall(guest.com1)) == CPUS, "the end")
        assert guest.qmp is not None
        guest.qmp.monitor(f"mce 2 1 {uncorrected} {in_progress} 0x1234000 0x8c")
        boot = guest.run()
    assert boot.exit_code == EXITS["PANIC"] << 1 | 1
    console = decode(boot.com1).console
    found = re.search(r"\nCPU 2 \(APIC ID 2\): #MC machine check, vector 18\n", console)
    assert found, console
    assert re.search(UNEXPECTED + r"\Z", console), console
