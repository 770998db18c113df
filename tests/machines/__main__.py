# SPDX-License-Identifier: BSD-2-Clause
"""`make machines`: every machine of the matrices, and what is said of it."""

from __future__ import annotations

import argparse
import fnmatch
import sys
import time
from typing import Callable

from debug.report import text
from debug.report.diagnosis import Diagnosis
from tests.machines import broken, healthy
from tests.machines.packages import MachineError
from tests.machines.patch import PatchError


def _judge(name: str, run: Callable[[], Diagnosis], wrong: Callable[[Diagnosis], str]) -> bool:
    """Whether it was judged rightly; one line, and the report where it was not."""
    began = time.monotonic()
    try:
        diagnosis = run()
    except PatchError as error:
        print(f"{name:24}  WRONG  {error}", flush=True)
        return False
    problem = wrong(diagnosis)
    first = diagnosis.causes[0] if diagnosis.causes else None
    said = f"{first.row.id} ({first.certainty.value})" if first else diagnosis.status
    took = time.monotonic() - began
    print(f"{name:24} {took:6.1f} s  {'WRONG: ' + problem if problem else said}", flush=True)
    if problem:
        print(text.render(diagnosis))
    return not problem


def main() -> int:
    parser = argparse.ArgumentParser(prog="make machines", description=__doc__)
    parser.add_argument("pattern", nargs="*", default=["*"], help="ids, such as 'xen-*'")
    options = parser.parse_args()

    def chosen(name: str) -> bool:
        return any(fnmatch.fnmatch(name, pattern) for pattern in options.pattern)

    results = []
    try:
        for row in filter(lambda row: chosen(row.id), broken.rows()):
            results.append(
                _judge(row.id, lambda: broken.run(row), lambda found: broken.wrong(row, found))
            )
        for boot in filter(lambda boot: chosen(boot.id), healthy.boots()):
            results.append(
                _judge(boot.id, lambda: healthy.run(boot), lambda d: healthy.wrong(boot, d))
            )
    except MachineError as error:
        print(f"machines: {error}", file=sys.stderr)
        return 3
    print(f"{sum(results)} of {len(results)} right")
    return 0 if results and all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
