# SPDX-License-Identifier: BSD-2-Clause
"""Every lab on every emulator, judged: the matrix that `make labs` prints."""

from __future__ import annotations

import json
import sys
import textwrap
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from enum import Enum
from fnmatch import fnmatch
from os import cpu_count
from typing import Iterator, Sequence

from debug.cli.errors import CommandError
from debug.cli.exit_codes import ExitCode
from debug.kernel.machine import ROOT
from debug.labs.diagnose import diagnose, fitting, objection
from debug.labs.lab import ids, load
from debug.report import text
from debug.report.diagnosis import Diagnosis


class Verdict(str, Enum):
    """What became of one lab on one emulator."""

    RIGHT = "right"
    WRONG = "wrong"
    UNKNOWN = "unknown"  # nothing was named
    HIDDEN = "not reproducible"  # the emulator hides the defect, and the lab says why
    ERROR = "error"


BAD = (Verdict.WRONG, Verdict.UNKNOWN, Verdict.ERROR)


@dataclass(frozen=True)
class Judgement:
    """One cell of the matrix; `cause` is the first cause with its certainty."""

    lab: str
    emulator: str
    verdict: Verdict
    cause: str = ""
    reason: str = ""
    seconds: float = 0.0


def judge(lab_id: str, emulator: str, keep: bool = False) -> Judgement:
    """Build the lab, boot it and hold the diagnosis against what the lab expects.

    `keep`: a report from QEMU that is right becomes the one that the failure table shows.
    """
    lab, began = load(lab_id), time.monotonic()
    expected = lab.expect.get(emulator)
    if expected is None:
        reason = f"lab.toml has no [{emulator}]"
        return Judgement(lab_id, emulator, Verdict.ERROR, reason=reason)
    try:
        diagnosis = diagnose(lab, emulator)
    except CommandError as error:
        return Judgement(lab_id, emulator, Verdict.ERROR, reason=str(error))
    seconds = round(time.monotonic() - began, 1)
    first = diagnosis.causes[0] if diagnosis.causes else None
    cause = f"{first.row.id} ({first.certainty.value})" if first is not None else ""
    wrong = objection(diagnosis, expected)
    if wrong is not None:
        verdict = Verdict.WRONG if first is not None else Verdict.UNKNOWN
        wrong += f"; the whole report: {_kept(lab_id, emulator, diagnosis)}"
        return Judgement(lab_id, emulator, verdict, cause, wrong, seconds)
    expected, usual = fitting(diagnosis, expected), expected
    hidden = expected.status == "healthy" and bool(expected.reason)
    verdict = Verdict.HIDDEN if hidden else Verdict.RIGHT
    if keep and emulator == "qemu" and expected is usual:
        report = text.render(diagnosis).replace(f"{ROOT}/", "")
        lab.report.write_text(report.strip("\n") + "\n", encoding="utf-8")
    return Judgement(lab_id, emulator, verdict, cause, expected.reason, seconds)


def _kept(lab_id: str, emulator: str, diagnosis: Diagnosis) -> str:
    """Where the report is that was not expected: the next boot may not give it again."""
    path = ROOT / "build" / "labs" / lab_id / f"{emulator}.txt"
    path.write_text(text.render(diagnosis), encoding="utf-8")
    return str(path.relative_to(ROOT))


def chosen(patterns: Sequence[str]) -> list[str]:
    """The labs that any of the patterns fits, all of them without patterns.  Raises CommandError."""
    known = list(ids())
    for pattern in patterns:
        if not any(fnmatch(lab, pattern) for lab in known):
            raise CommandError(
                f"{pattern}: no lab has this id; tests/labs has them all", ExitCode.USAGE
            )
    return [lab for lab in known if not patterns or any(fnmatch(lab, p) for p in patterns)]


def run(
    labs: Sequence[str], emulators: Sequence[str], as_json: bool = False, keep: bool = False
) -> int:
    """Judge and print; the exit code is 0 if nothing was wrong."""
    cells: list[Judgement] = []
    width = max(map(len, labs), default=0)
    if not as_json:
        print(f"{'':{width}}  " + "  ".join(f"{name:16}" for name in emulators).rstrip())
    for row in _rows(labs, emulators, keep):
        cells += row
        if not as_json:
            _print_row(row, width)
        elif sys.stderr.isatty():
            print(f"\r{len(cells)} of {len(labs) * len(emulators)}", end="", file=sys.stderr)
    bad = [cell for cell in cells if cell.verdict in BAD]
    if as_json:
        print(json.dumps([asdict(cell) for cell in cells], indent=1))
    else:
        print()
        for emulator in emulators:
            counts = {
                verdict.value: sum(c.emulator == emulator and c.verdict is verdict for c in cells)
                for verdict in Verdict
            }
            told = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
            print(f"{emulator}: {told}")
    return ExitCode.DAMAGED if bad else ExitCode.HEALTHY


def _rows(labs: Sequence[str], emulators: Sequence[str], keep: bool) -> Iterator[list[Judgement]]:
    tasks = [(lab, emulator) for lab in labs for emulator in emulators]
    with ThreadPoolExecutor(cpu_count()) as pool:
        results = pool.map(lambda task: judge(task[0], task[1], keep), tasks)
        for _ in labs:
            yield [next(results) for _ in emulators]


def _print_row(row: Sequence[Judgement], width: int) -> None:
    cells = "  ".join(f"{cell.verdict.value:16}" for cell in row)
    causes = dict.fromkeys(cell.cause for cell in row if cell.cause)
    print(f"{row[0].lab:{width}}  {cells}  {' | '.join(causes)}".rstrip())
    for cell in row:
        if cell.reason:
            text = f"{cell.emulator}: {cell.reason}"
            print(textwrap.indent(textwrap.fill(text, 90), " " * 6))
    sys.stdout.flush()
