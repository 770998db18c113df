# SPDX-License-Identifier: BSD-2-Clause
"""The exit codes: every status has its own, every code its meaning."""

from __future__ import annotations

from debug.cli.exit_codes import MEANING, ExitCode, of_status

STATUSES = "healthy triple-fault missing-cpu hang panic reset unknown bad-input".split()


def test_each_status_has_its_own_code() -> None:
    codes = [of_status(status) for status in STATUSES]
    assert codes == [0, 10, 11, 12, 13, 14, 15, 16]
    assert of_status("no such status") is ExitCode.UNKNOWN


def test_every_code_is_documented() -> None:
    assert set(MEANING) == set(ExitCode)
