# SPDX-License-Identifier: BSD-2-Clause
"""When the guest dies under GDB, hangs or ends: the diagnosis, the selection, the words."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.gdb.drive import left_over, run

pytestmark = pytest.mark.emulator

DEATH = """
do("disable 1 2")
do("continue")
victim = cpu()
do("set $rip = 0x1234567000")
do("disable 3")
do("thread 1")
report["at_death"] = do("continue")
report["victim"], report["selected"] = victim, cpu()
report["why"] = json.loads(do("lamp why --json"))
report["cpus"] = do("lamp cpus")
report["on"] = fails("continue")
report["step"] = fails("stepi")
"""


def test_a_death_is_explained_and_its_cpu_selected(kernel: Path, tmp_path: Path) -> None:
    done = run(kernel, tmp_path, DEATH)
    report, victim = done.report, done.report["victim"]
    assert report["selected"] == victim != 0
    assert f"CPU {victim} (APIC ID {victim}) triple-faulted" in report["at_death"]
    assert "1  #PF" in report["at_death"]
    why = report["why"]
    assert (why["status"], why["culprit"]) == ("triple-fault", victim)
    assert [step["name"] for step in why["chain"]] == ["#PF", "#PF", "#DF"]
    assert why["chain"][0]["rip"] == 0x1234567000
    row = next(line for line in report["cpus"].splitlines() if line.startswith("*"))
    assert row.split()[1] == str(victim) and "shut down" in row
    assert "dead" in report["on"] and "dead" in report["step"]
    assert left_over(tmp_path) == []


ALIVE = """
do("continue")
report["json"] = json.loads(do("lamp why --json"))
report["text"] = do("lamp why")
report["thread"] = cpu()
do("thread 1")
do("lamp cpus"); do("lamp mode 2"); do("lamp stages"); do("lamp gdt --cpu 3")
report["kept"] = cpu()
"""


def test_a_machine_at_a_breakpoint_is_accused_of_nothing(kernel: Path, tmp_path: Path) -> None:
    report = run(kernel, tmp_path, ALIVE).report
    assert report["json"]["causes"] == [] and report["json"]["status"] == "unknown"
    assert "nothing has died" in report["text"]
    assert report["kept"] == 0 != report["thread"]


END = """
do("disable")
try:
    gdb.execute("continue")  # not in a string: that is lost with the connection
except gdb.error:
    pass
report["after"] = fails("lamp cpus")
"""


def test_a_guest_that_ends_the_machine(kernel: Path, tmp_path: Path) -> None:
    done = run(kernel, tmp_path, END, "--options", "selftest")
    assert "not connected" in done.report["after"]
    assert "the guest has ended the machine" in done.output
    assert "passed, 0 failed" in done.output  # the guest's console


ELSEWHERE = """
do("continue")
report["first"] = cpu()
report["block"] = do("lamp mode")
do("continue")
report["second"] = look()
"""


def test_symbols_follow_a_trampoline_that_is_elsewhere(kernel: Path, tmp_path: Path) -> None:
    report = run(
        *(kernel, tmp_path, ELSEWHERE),
        *("--options", "trampoline=0x9000", "--trampoline", "0xa000"),
    ).report
    assert report["first"] == 0  # it stopped to say that it moved
    assert report["second"]["pc"] == 0x9000 and report["second"]["cpu"] != 0
    assert "trampoline/trampoline.asm:" in report["second"]["mode"]


ERRORS = """
report["unknown"] = fails("lamp break AP_LONG")
report["none"] = fails("lamp break AP_STOPED")
report["what"] = fails("lamp break")
report["code"] = fails("lamp break f7")
report["cpu"] = fails("lamp mode 99")
report["number"] = fails("lamp mode x")
report["expression"] = fails("lamp walk no_such_symbol")
report["vector"] = fails("lamp idt 300")
report["help"] = do("help lamp")
report["walk"] = do("help lamp walk")
report["list"] = do("lamp break --list")
do("disconnect")
report["gone"] = fails("lamp why")
"""


def test_errors_say_what_to_do(kernel: Path, tmp_path: Path) -> None:
    report = run(kernel, tmp_path, ERRORS, "--cpus", "2").report
    assert "did you mean AP_LONG64" in report["unknown"]
    assert "lamp break --list" in report["what"] and "no such stage" in report["code"]
    assert "did you mean" in report["none"]
    assert "there are CPUs 0 to 1" in report["cpu"]
    assert "invalid int value" in report["number"] and "usage: lamp mode" in report["number"]
    assert "no_such_symbol" in report["expression"]
    assert "a vector is 0 to 255" in report["vector"]
    assert "not connected" in report["gone"]
    for name in "break cpus gdt idt mode stages walk why".split():
        assert f"lamp {name} -- " in report["help"]
    assert "--write" in report["walk"]
    assert "34  AP_PG" in report["list"]
