# SPDX-License-Identifier: BSD-2-Clause
"""Each row names its cause on a machine that has it, and stays silent on a near miss."""

from __future__ import annotations

import pytest

from debug.report.diagnosis import diagnose
from tests.python.failures import (
    entry_cases,
    foreign_cases,
    lab_cases,
    row_cases,
    running_cases,
    switch_cases,
    unanswered_cases,
)
from tests.python.failures.row_cases import Case

CASES = (
    *row_cases.CASES,
    *running_cases.CASES,
    *lab_cases.CASES,
    *switch_cases.CASES,
    *entry_cases.CASES,
    *foreign_cases.CASES,
    *unanswered_cases.CASES,
)


def identify(case: Case) -> str:
    return case.row


@pytest.mark.parametrize("case", CASES, ids=identify)
def test_named(case: Case) -> None:
    diagnosis = diagnose(case.broken().evidence())
    named = [(cause.row.id, cause.certainty.value) for cause in diagnosis.causes]
    assert named[:1] == [(case.row, case.certainty)], (diagnosis.status, named)
    assert all(cause.match.evidence for cause in diagnosis.causes)


@pytest.mark.parametrize("case", CASES, ids=identify)
def test_near_miss(case: Case) -> None:
    diagnosis = diagnose(case.near().evidence())
    assert case.row not in [cause.row.id for cause in diagnosis.causes], diagnosis.explanation
