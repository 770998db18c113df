# SPDX-License-Identifier: BSD-2-Clause
"""The report: its JSON is what the schema says, its text what a person can read and trust."""

from __future__ import annotations

import io
import json
from dataclasses import replace

import jsonschema
import pytest

from debug.report import machine as machine_report
from debug.report import terminal, text
from debug.report.diagnosis import diagnose
from tests.python.evidence_builder import Machine, SymbolTable, registers
from tests.python.failures.row_cases import CASES, Case, push_fault, waiting
from tests.python.failures.running_cases import CASES as RUNNING
from tests.python.streams import Terminal

SCHEMA = json.loads(machine_report.SCHEMA_PATH.read_text(encoding="utf-8"))


def identify(case: Case) -> str:
    return case.row


@pytest.mark.parametrize("case", CASES, ids=identify)
def test_every_case_has_a_valid_report(case: Case) -> None:
    diagnosis = diagnose(case.broken().evidence())
    jsonschema.validate(json.loads(machine_report.to_json(diagnosis)), SCHEMA)
    lines = text.render(diagnosis).splitlines()
    assert max(map(len, lines)) <= 80
    assert case.row in "\n".join(lines)


def test_healthy_report() -> None:
    diagnosis = diagnose(Machine().evidence())
    data = json.loads(machine_report.to_json(diagnosis))
    jsonschema.validate(data, SCHEMA)
    assert data["status"] == "healthy" and data["causes"] == [] and data["chain"] == []
    assert text.render(diagnosis).splitlines()[0] == "healthy: 2 of 2 CPUs online"


def test_bad_input() -> None:
    jsonschema.validate(machine_report.bad_input("x.log: not a log\x1b[2J"), SCHEMA)


def test_text_of_a_triple_fault() -> None:
    shown = text.render(diagnose(push_fault(0xFFFFFFFF80009000, cr3=0x40000).evidence()))
    assert shown.splitlines()[0] == "CPU 1 (APIC ID 1) triple-faulted in 64-bit mode at" or (
        "triple-faulted in 64-bit mode at lcpu_start64+0x10" in shown
    )
    assert " 62 ✗" in shown
    assert "1  #PF write to 0xffffffff80008ff8: not present" in shown
    assert "push rax" in shown
    assert "CR3 0x40000 → PML4[511] is 0x0: not present" in shown
    assert "why    stack-unmapped (certain)" in shown
    assert "the BSP's CR3 0x10000 maps 0xffffffff80008ff8" in " ".join(shown.split())
    assert "lamppost failures stack-unmapped" in " ".join(shown.split())


def test_json_of_a_triple_fault() -> None:
    data = machine_report.to_object(diagnose(push_fault(0).evidence()))
    assert data["culprit"] == 1 and data["cpus"][1]["state"] == "shut-down"
    assert data["chain"][0]["vector"] == 14 and data["chain"][0]["error_code"] == 2
    cause = data["causes"][0]
    assert (cause["id"], cause["certainty"]) == ("stack-null", "certain")
    assert "STK-01" in cause["catalogue"] and cause["evidence"]


def test_guest_text_can_not_reach_the_terminal() -> None:
    machine = Machine()
    machine.console = "panic: \x1b]0;owned\x07\x1b[2J\u202eevil\n"
    machine.symbols = SymbolTable({"\x1b[31mred[/red][bold]": (0xFFFFFFFF80000000, 16)})
    diagnosis = diagnose(machine.evidence())
    for shown in (text.render(diagnosis), machine_report.to_json(diagnosis)):
        assert "\x1b" not in shown and "\x07" not in shown and "\u202e" not in shown
    stream = Terminal()
    terminal.write(diagnosis, stream)
    assert "[/red][bold]" in stream.getvalue() and "\x1b[31mred" not in stream.getvalue()


def test_colours_only_in_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    diagnosis = diagnose(push_fault(0).evidence())
    coloured, plain = Terminal(), io.StringIO()
    terminal.write(diagnosis, coloured)
    terminal.write(diagnosis, plain)
    assert "\x1b[" in coloured.getvalue() and "\x1b" not in plain.getvalue()
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "60")
    mono = Terminal()
    terminal.write(diagnosis, mono)
    assert mono.getvalue() == text.render(diagnosis, 60) != text.render(diagnosis)
    terminal.write(diagnosis, file := io.StringIO())
    assert any(len(line) > 60 for line in file.getvalue().splitlines())  # of 80 columns


def test_ascii_stream() -> None:
    class Ascii(io.StringIO):
        @property
        def encoding(self) -> str:  # type: ignore[override]
            return "ascii"

    stream = Ascii()
    terminal.write(diagnose(push_fault(0).evidence()), stream)
    stream.getvalue().encode("ascii")
    assert "62 x" in stream.getvalue()


def test_many_cpus_stay_readable() -> None:
    machine = waiting()
    evidence = machine.evidence()
    more = tuple(replace(machine.ap, index=n, apic_id=n) for n in range(1, 200))
    shown = text.render(diagnose(replace(evidence, cpus=(machine.bsp, *more))))
    assert "199 of 200 CPUs did not arrive" in shown and len(shown.splitlines()) < 80


def test_unknown_is_said() -> None:
    machine = Machine()
    machine.stop(registers(rip=0xFFFFFFFF80000100, rsp=0xFFFFFFFFC0004000), moved=None)
    machine.ram.write(0x100100, bytes(range(1, 64)))
    shown = text.render(diagnose(machine.evidence()))
    assert "does not tell" in shown and "no cause in the failure table fits" in shown


def test_what_is_only_possible_is_told_whole_where_nothing_firmer_has_a_name() -> None:
    case = next(one for one in RUNNING if one.row == "higher-half-wrong-frame")
    diagnosis = diagnose(case.broken().evidence())
    firm = [c.row for c in diagnosis.causes if c.certainty.value != "possible"]
    assert firm and all(row.generic for row in firm)
    told = text.render(diagnosis)
    assert "higher-half-wrong-frame (possible)" in told
    assert diagnosis.causes[0].match.evidence[0][:40] in " ".join(told.split())
