# SPDX-License-Identifier: BSD-2-Clause
"""Scores `lamppost explain` on a directory of logs whose true causes are known.

    /usr/bin/python3 -m tests.score DIR [--expected FILE] [--family TEXT] [--wrong]

DIR has one directory a log, with log.txt and meta.json (root_cause, family, log_sufficient,
healthy_or_no_fault).  FILE is tab-separated: name of the log; the acceptable answers, separated by
blanks: ids of rows of the failure table, or a status preceded by `=`; further columns are remarks.
A log is

    right     the first cause, at certain or likely, is acceptable, or the status is
    hint      an acceptable row is there, but not first, or only as possible
    generic   the first cause is a row that says only what is proven, not why
    unknown   no cause, or only possible ones, and no acceptable one: nothing false was said
    wrong     the first cause is certain or likely, names a cause, and is not acceptable; or
              something healthy is called sick, or the other way round

Without --expected each verdict is printed beside the true cause, for reading.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional, Sequence

from debug.cli.explain import decode_stages, explain
from debug.report.diagnosis import Diagnosis
from debug.sources.elf_symbols import ElfSymbols
from debug.sources.files import FileError, FileReader

GRADES = ("right", "hint", "generic", "unknown", "wrong")


@dataclass(frozen=True)
class Result:
    """One log's verdict: `causes` are (id, certainty), best first; `generic` are ids."""

    name: str
    meta: dict[str, Any]
    status: str
    causes: tuple[tuple[str, str], ...]
    generic: frozenset[str]
    seconds: float

    @property
    def first(self) -> str:
        return f"{self.causes[0][0]} ({self.causes[0][1]})" if self.causes else "-"


def judge(result: Result, accepted: Sequence[str]) -> str:
    """The grade of one result."""
    statuses = {answer[1:] for answer in accepted if answer.startswith("=")}
    rows = [answer for answer in accepted if not answer.startswith("=")]
    strong = [cause for cause, certainty in result.causes if certainty != "possible"]
    named = [cause for cause in strong if cause not in result.generic]
    if strong and strong[0] in rows:
        return "right"
    if result.status in statuses and not named:
        return "right"
    if result.status == "healthy" or named:
        return "wrong"
    if any(cause in rows for cause, _ in result.causes):
        return "hint"
    return "generic" if strong else "unknown"


def read(directory: Path) -> Result:
    """Explain one log; never raises for its content."""
    meta = json.loads((directory / "meta.json").read_text(encoding="utf-8"))
    start = time.monotonic()
    try:
        with FileReader(decode_stages) as reader:
            found: Optional[Diagnosis] = explain(
                reader.read(str(directory / "log.txt")), ElfSymbols(())
            )
    except FileError:
        found = None
    seconds = time.monotonic() - start
    if found is None:
        return Result(directory.name, meta, "bad-input", (), frozenset(), seconds)
    causes = tuple((cause.row.id, cause.certainty.value) for cause in found.causes)
    generic = frozenset(cause.row.id for cause in found.causes if cause.row.generic)
    return Result(directory.name, meta, found.status, causes, generic, seconds)


def expectations(path: Path) -> dict[str, list[str]]:
    """log name → acceptable answers; a name may be cut to its number."""
    table = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.strip() and not line.startswith("#"):
            name, _, rest = line.partition("\t")
            table[name] = rest.split("\t")[0].split()
    return table


def main() -> int:
    parser = argparse.ArgumentParser(description="score `lamppost explain` on known logs")
    parser.add_argument("directory", type=Path)
    parser.add_argument("--expected", type=Path, metavar="FILE")
    parser.add_argument("--family", default="", help="only families with this text")
    parser.add_argument("--wrong", action="store_true", help="print only what is not right")
    options = parser.parse_args()
    places = sorted(place.parent for place in options.directory.glob("*/meta.json"))
    if not places:
        print(f"{options.directory}: no directory with a meta.json in it", file=sys.stderr)
        return 2
    table = expectations(options.expected) if options.expected else None
    totals = dict.fromkeys((*GRADES, "unjudged"), 0)
    enough = dict(totals)
    for place in places:
        result = read(place)
        if options.family not in str(result.meta.get("family", "")):
            continue
        accepted = None
        if table is not None:
            accepted = table.get(result.name, table.get(result.name.split("-")[0]))
        grade = "unjudged" if accepted is None else judge(result, accepted)
        totals[grade] += 1
        enough[grade] += bool(result.meta.get("log_sufficient"))
        if options.wrong and grade == "right":
            continue
        slow = f"  {result.seconds:.1f} s" if result.seconds > 0.5 else ""
        print(f"{grade:9}{result.name[:52]:53}{result.status:13}{result.first}{slow}")
        if grade not in ("right", "unjudged"):
            print(f"{'':9}accepted: {' '.join(accepted or [])}")
        if grade != "right":
            print(f"{'':9}truth:    {result.meta.get('root_cause', '')}")
            if table is None:
                print(f"{'':9}expert:   {result.meta.get('expert_reading', '')}")
    print()
    print("all            " + ", ".join(f"{n} {grade}" for grade, n in totals.items() if n))
    print("log sufficient " + ", ".join(f"{n} {grade}" for grade, n in enough.items() if n))
    return 0


if __name__ == "__main__":
    sys.exit(main())
