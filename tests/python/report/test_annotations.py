# SPDX-License-Identifier: BSD-2-Clause
"""Annotations: at the right line, and nothing in them that a CI system would obey."""

from __future__ import annotations

from dataclasses import replace
from typing import Optional

from debug.cli import annotate
from debug.evidence import NoSymbols, Symbol
from debug.report.annotations import STYLES, gcc, github
from debug.report.diagnosis import Diagnosis, diagnose
from tests.python.failures.row_cases import push_fault


class OneLine(NoSymbols):
    """Every address is in one line of one file."""

    def __init__(self, file: str) -> None:
        self._file = file

    def lookup(self, address: int) -> Optional[Symbol]:
        return Symbol("f", 4, self._file, 42)


def death(file: str) -> Diagnosis:
    return diagnose(replace(push_fault(1).evidence(), symbols=OneLine(file)))


def test_the_place_is_relative_to_the_checkout() -> None:
    assert github(death("/w/src/a.c"), "/w").startswith("::error file=src/a.c,line=42,title=")
    assert github(death("/else/a.c"), "/w").startswith("::error file=/else/a.c,line=42,title=")
    assert gcc(death("src/a.c"), "/w").startswith("src/a.c:42: error: CPU 1 ")


def test_without_symbols_there_is_no_place() -> None:
    diagnosis = diagnose(push_fault(1).evidence())
    assert github(diagnosis, "/w").startswith("::error title=")
    assert gcc(diagnosis, "/w").startswith("lamppost: error: CPU 1 ")


def test_a_file_name_can_not_end_the_command() -> None:
    text = github(death("a::b,c%\n::set-env name=X::y"), "/w")
    assert text.count("\n") == 1
    assert text.startswith("::error file=a%3A%3Ab%2Cc%25 %3A%3Aset-env name=X%3A%3Ay,line=42,")


def test_one_line_holds_cause_evidence_and_fix() -> None:
    diagnosis = death("a.c")
    text = github(diagnosis, "/w")
    row = diagnosis.causes[0].row
    assert f"title={row.id} (" in text and f"%0Afix: {row.fix}\n" in text.replace("%25", "%")
    assert diagnosis.causes[0].match.evidence[0].replace("%", "%25") in text


def test_the_option_names_every_style() -> None:
    assert sorted(STYLES) == sorted(annotate.NAMES)
