# SPDX-License-Identifier: BSD-2-Clause
"""A kernel of one CPU, without lamps and without symbols: what it can't get past is named.

alone.asm, in 32-bit and in 64-bit code, on QEMU and on Bochs.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import pytest

from debug.failures.row import Certainty
from tests.foreign.images import assembled
from tests.foreign.test_hangs import observed
from tests.python.cli.machines import first_cause

pytestmark = pytest.mark.emulator

EMULATORS = ("qemu", "bochs")
WIDTHS = ("", "WIDE")


class Case(NamedTuple):
    bug: str
    statuses: tuple[str, ...]
    cause: str  # the first one
    certainty: Certainty
    widths: tuple[str, ...] = WIDTHS


CASES = (
    Case("masked", ("hang",), "interrupt-cannot-come", Certainty.LIKELY),
    # Where a stack without paging wraps round to, anything may follow.
    Case("recursion", ("hang", "triple-fault"), "recursion-without-end", Certainty.LIKELY),
    Case("real_ud2", ("hang",), "real-mode-fault-loop", Certainty.CERTAIN, ("",)),
)


CELLS = tuple((case, width) for case in CASES for width in case.widths)


def report(folder: Path, emulator: str, width: str, bug: str, cpus: int = 1) -> dict[str, Any]:
    defines = (word for word in (width, bug and f"BUG_{bug}") if word)
    return observed(emulator, assembled("alone", folder, *defines), cpus)


@pytest.mark.parametrize("emulator", EMULATORS)
@pytest.mark.parametrize(("case", "width"), CELLS, ids=[f"{c.bug}-{w}" for c, w in CELLS])
def test_named(case: Case, width: str, emulator: str, tmp_path: Path) -> None:
    found = report(tmp_path, emulator, width, case.bug)
    assert found["status"] in case.statuses, found
    assert first_cause(found) == (case.cause, case.certainty.value)


@pytest.mark.parametrize("emulator", EMULATORS)
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("bug", ["", "program"], ids=["sleeps", "program"])
def test_healthy(bug: str, width: str, emulator: str, tmp_path: Path) -> None:
    found = report(tmp_path, emulator, width, bug)
    assert (found["status"], found["causes"]) == ("healthy", [])


@pytest.mark.parametrize("emulator", EMULATORS)
def test_who_prints_for_ever_is_alive(emulator: str, tmp_path: Path) -> None:
    """On a machine with a second CPU, which it does not use."""
    found = report(tmp_path, emulator, "", "prints", 2)
    assert (found["status"], found["causes"]) == ("healthy", [])
    assert any(
        "still running and printing" in note and '"still at it"' in note for note in found["notes"]
    )
