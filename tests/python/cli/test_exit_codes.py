# SPDX-License-Identifier: BSD-2-Clause
"""The exit codes: every status has its own, every code its meaning."""

from __future__ import annotations

import subprocess

import pytest

from debug.cli.exit_codes import MEANING, ExitCode, of_status
from tests.tree import TREE

STATUSES = "healthy triple-fault missing-cpu hang panic reset unknown bad-input".split()


def test_each_status_has_its_own_code() -> None:
    codes = [of_status(status) for status in STATUSES]
    assert codes == [0, 10, 11, 12, 13, 14, 15, 16]
    assert of_status("no such status") is ExitCode.UNKNOWN


def test_every_code_is_documented() -> None:
    assert set(MEANING) == set(ExitCode)


def run(redirections: str) -> subprocess.CompletedProcess[bytes]:
    """`lamppost failures cr3-zero` with its streams redirected as a shell writes it."""
    words = f"exec {TREE}/debug/lamppost failures cr3-zero {redirections}"
    return subprocess.run(["sh", "-c", words], capture_output=True, timeout=60, check=False)


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_closed_stream_is_no_failure(closed: str) -> None:
    done = run(closed)
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_full_disk_is_a_message() -> None:
    done = run(">/dev/full")
    assert done.returncode == ExitCode.BROKEN_PIPE
    assert done.stderr == b"lamppost: the output can't be written: No space left on device\n"
    assert run(">/dev/full 2>/dev/full").returncode == ExitCode.BROKEN_PIPE
