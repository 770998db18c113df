# SPDX-License-Identifier: BSD-2-Clause
"""A kernel without lamps and without symbols that hangs, loses CPUs or dies: what is said of it.

guest.asm, healthy and with one bug each, on QEMU and on Bochs.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from debug.failures.row import Certainty
from tests.foreign.images import assembled
from tests.python.cli.machines import Scene, first_cause
from tests.tree import TREE

pytestmark = pytest.mark.emulator

PAGE = 0x9000  # guest.asm
FURTHEST_AP = 0x60  # 64-bit mode


class Case(NamedTuple):
    bug: str
    status: str
    cause: str  # the first one
    certainty: Certainty  # at least
    evidence: str  # a regular expression for one line of it
    cpus: int = 2
    culprit: int | None = 1
    bochs: bool = True
    told: bool = True  # how many CPUs there must be


CASES = (
    Case("no_init", "missing-cpu", "init-not-sent", Certainty.LIKELY, "no INIT was sent to APIC"),
    Case("no_sipi", "missing-cpu", "no-sipi", Certainty.LIKELY, "no SIPI was sent at all"),
    Case(
        "no_ipi",
        "hang",
        "no-sipi",
        Certainty.LIKELY,
        r"CPU 0 waits for 0x[0-9a-f]+, which the APs write: 0x[0-9a-f]+: lock inc",
        culprit=0,
        told=False,
    ),
    Case(
        "one_more",
        "hang",
        "waits-for-more-cpus",
        Certainty.LIKELY,
        r"CPU 0 waits at .* until 0x[0-9a-f]+ is 3; it is 2",
        cpus=3,
        culprit=0,
        told=False,
    ),
    Case(
        "filled",
        "missing-cpu",
        "trampoline-not-copied",
        Certainty.LIKELY,
        "page at 0x9000 holds the byte 0x41 over and over",
    ),
    Case(
        "target",
        "missing-cpu",
        "ipi-wrong-destination",
        Certainty.CERTAIN,
        r"sent to APIC ID 65; the CPUs have 0, 1",
    ),
    Case(
        "vector",
        "missing-cpu",
        "sipi-wrong-vector",
        Certainty.LIKELY,
        "looks like a trampoline is at 0x9000",
        bochs=False,  # there the AP runs through the zeros, into what lies behind them
    ),
    Case(
        "firmware",
        "missing-cpu",
        "sipi-vector-rom",
        Certainty.CERTAIN,
        "vector 0xf0 starts the CPU at 0xf0000",
        bochs=False,
    ),
    Case(
        "not_copied",
        "missing-cpu",
        "trampoline-not-copied",
        Certainty.CERTAIN,
        "page at 0x9000 holds zeros",
        bochs=False,
    ),
    Case(
        "overwritten",
        "missing-cpu",
        "trampoline-overwritten",
        Certainty.CERTAIN,
        "APIC ID 1 ran through the page at 0x9000 before",
        cpus=3,
        culprit=2,
        bochs=False,
    ),
    Case(
        "lock",
        "hang",
        "lock-not-released",
        Certainty.LIKELY,
        r"loop reads it with: test dword ptr",
        culprit=None,
    ),
    Case(
        "flag",
        "hang",
        "waits-in-a-circle",
        Certainty.LIKELY,
        r"CPU 1 waits at .* for 0x[0-9a-f]+, which holds 0x0",
        culprit=None,
    ),
    Case(
        "halted",
        "hang",
        "halted-forever",
        Certainty.LIKELY,
        "executed HLT at .* with interrupts off",
        culprit=None,
    ),
    Case(
        "other_flag",
        "hang",
        "cpu-there-not-seen",
        Certainty.LIKELY,
        "CPU 1 is up: idle",
        culprit=0,
    ),
    Case(
        "storm",
        "hang",
        "unreachable-reached",
        Certainty.CERTAIN,
        "ud2",
        bochs=False,
    ),
    Case(
        "interrupts",
        "hang",
        "interrupt-storm",
        Certainty.LIKELY,
        "interrupt 0x40 was taken",
        culprit=None,
        bochs=False,
    ),
    Case(
        "level",
        "hang",
        "interrupt-storm",
        Certainty.LIKELY,
        "pin 4 of the I/O APIC is level-triggered",
        bochs=False,  # its debugger does not tell which lines are active
    ),
    Case(
        "zeros",
        "hang",
        "executing-zeros",
        Certainty.CERTAIN,
        "are zeros",
        culprit=None,
        bochs=False,
    ),
    Case(
        "gives_up",
        "hang",
        "data-segment-beyond-gdt",
        Certainty.CERTAIN,
        r"selector 0x0070: GDT\[14\]",
        bochs=False,  # its log does not have the instruction, so the selector alone is named
    ),
    Case(
        "death",
        "triple-fault",
        "page-fault-undelivered",
        Certainty.CERTAIN,
        "write to 0x100000000",
    ),
)


def build(folder: Path, bug: str, cpus: int) -> Path:
    return assembled("guest", folder, f"CPUS={cpus}", *([f"BUG_{bug}"] if bug else []))


def command(emulator: str, image: Path, cpus: int) -> list[str]:
    if emulator == "qemu":
        drive = f"format=raw,if=floppy,file={image}"
        return ["qemu-system-x86_64", "-drive", drive, "-smp", str(cpus)]
    return [
        *("bochs", "-qf", str(TREE / "bochsrc")),
        "ata0-master: type=none",
        f'floppya: 1_44="{image}", status=inserted',
        "boot: floppy",
        f"cpu: count={cpus}",
    ]


def observed(emulator: str, image: Path, cpus: int, *options: str) -> dict[str, Any]:
    """The report of `lamppost run` on a floppy image."""
    if emulator == "bochs" and not shutil.which("bochs"):
        pytest.skip("bochs is not installed")
    patience = "6" if emulator == "qemu" else "15"
    words = [*options, "--timeout", patience, "--"]
    return Scene(image.parent).report(*words, *command(emulator, image, cpus))


def report(folder: Path, emulator: str, bug: str, cpus: int, told: bool = True) -> dict[str, Any]:
    options = ("--cpus", str(cpus)) if told else ()
    return observed(emulator, build(folder, bug, cpus), cpus, *options)


def judge(found: dict[str, Any], case: Case) -> None:
    """The verdict, its evidence, and that nothing stronger is said than can be known."""
    first = first_cause(found)
    assert first is not None, found
    assert (found["status"], first[0]) == (case.status, case.cause)
    assert Certainty(first[1]).rank <= case.certainty.rank
    assert any(re.search(case.evidence, line) for line in found["causes"][0]["evidence"])
    if case.culprit is not None:
        assert found["culprit"] == case.culprit
    assert found["causes"][0]["fix"]


def identify(case: Case) -> str:
    return case.bug


@pytest.mark.parametrize("case", CASES, ids=identify)
def test_on_qemu(case: Case, tmp_path: Path) -> None:
    judge(report(tmp_path, "qemu", case.bug, case.cpus, case.told), case)


@pytest.mark.parametrize("case", [c for c in CASES if c.bochs], ids=identify)
def test_on_bochs(case: Case, tmp_path: Path) -> None:
    judge(report(tmp_path, "bochs", case.bug, case.cpus, case.told), case)


@pytest.mark.parametrize("emulator", ["qemu", "bochs"])
def test_the_same_kernel_without_a_bug_is_healthy(emulator: str, tmp_path: Path) -> None:
    found = report(tmp_path, emulator, "", 3)
    assert (found["status"], found["causes"]) == ("healthy", [])
    assert [cpu["arrived"] for cpu in found["cpus"]] == [True, True, True]
    reached = [[one["code"] for one in cpu["reached"]] for cpu in found["cpus"]]
    assert 0xB6 in reached[0] and FURTHEST_AP in reached[1] and FURTHEST_AP in reached[2]


@pytest.mark.parametrize("emulator", ["qemu", "bochs"])
def test_cpus_that_contend_for_a_lock_are_healthy(emulator: str, tmp_path: Path) -> None:
    """Each look finds them in the same loop, and the word that it reads moves on."""
    found = report(tmp_path, emulator, "tickets", 3)
    assert (found["status"], found["causes"]) == ("healthy", [])
    assert not any("second run" in note for note in found["notes"])


@pytest.mark.parametrize("emulator", ["qemu", "bochs"])
def test_aps_parked_on_purpose_are_healthy(emulator: str, tmp_path: Path) -> None:
    found = report(tmp_path, emulator, "parked", 3)
    assert (found["status"], found["causes"]) == ("healthy", [])
    assert any("parked on purpose" in note for note in found["notes"])
    if emulator == "qemu":  # Bochs always has its log
        assert any("a second run" in note for note in found["notes"])


@pytest.mark.parametrize("emulator", ["qemu", "bochs"])
def test_the_way_of_a_dead_ap_is_seen_from_outside(emulator: str, tmp_path: Path) -> None:
    found = report(tmp_path, emulator, "death", 2)
    ap = found["cpus"][1]
    codes = [one["code"] for one in ap["reached"]]
    assert codes[:2] == [0x10, 0x12] and {0x13, 0x31, 0x32, 0x33, 0x34, 0x60} <= set(codes)
    assert ap["stages"] == [] and ap["last_stage"] is None
    assert {one["became"] for one in ap["reached"]} >= {
        "CR4.PAE is set",
        "paging is on: compatibility mode (EFER.LMA=1, CS.L=0)",
    }
    page = found["trampoline"]
    assert (page["page"], page["switches"]) == (PAGE, True)
    assert page["gdt"]["limit"] == 4 * 8 - 1
    assert [jump["selector"] for jump in page["far_jumps"]] == [0x18, 0x08]


def test_without_a_sipi_the_trampoline_is_found_by_its_code(tmp_path: Path) -> None:
    found = report(tmp_path, "qemu", "no_sipi", 2)
    assert found["trampoline"]["page"] == PAGE
    assert "16-bit code that sets CR0.PE begins there" in found["trampoline"]["how"]
    assert [(ipi["kind"], ipi["destination"]) for ipi in found["starts"]] == [("INIT", 1)]
