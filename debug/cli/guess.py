# SPDX-License-Identifier: BSD-2-Clause
"""`--guess ROW`: whether a reader's own diagnosis is the tool's, without telling that one."""

from __future__ import annotations

import argparse
import textwrap
from difflib import get_close_matches
from typing import TYPE_CHECKING

from debug.cli.exit_codes import ExitCode

if TYPE_CHECKING:
    from debug.failures.row import Row
    from debug.report.diagnosis import Diagnosis


def row(text: str) -> Row:
    """A row of the failure table, for argparse."""
    from debug.failures.table import ROWS, find

    found = find(text)
    if found is None:
        near = get_close_matches(text, [row.id for row in ROWS], 3)
        meant = f" (did you mean {' or '.join(near)}?)" if near else ""
        raise argparse.ArgumentTypeError(
            f"{text!r}: expected a row of the failure table{meant}; `lamppost failures` lists them"
        )
    return found


def judge(guess: Row, diagnosis: Diagnosis) -> tuple[str, ExitCode]:
    """What is said of the guess: right if no other cause is surer; and the exit code."""
    causes = diagnosis.causes
    if not causes:
        return f"{guess.id}: no cause was found; the report says what is known", ExitCode.DAMAGED
    for cause in causes:
        if cause.row == guess and cause.certainty is causes[0].certainty:
            return f"{guess.id}: right ({cause.certainty.value})", ExitCode.HEALTHY
    no = f"{guess.id}: no. For it this would have to be so: {guess.proves}"
    return "\n".join(textwrap.wrap(no, 80, break_on_hyphens=False)), ExitCode.DAMAGED
