# SPDX-License-Identifier: BSD-2-Clause
"""`make sweep`: healthy machines again and again; none may be called sick."""

from __future__ import annotations

import argparse
import sys
import time

from debug.cli.observe import Wishes, observe
from debug.failures.row import Certainty
from debug.report import text
from debug.report.diagnosis import Diagnosis
from tests.sweep.guests import WHERE, Guest, SweepError, guests

TIMEOUT = 240.0


def alarm(diagnosis: Diagnosis, cpus: int) -> str:
    """What is wrong with what was said of a healthy machine; "" if nothing."""
    if diagnosis.status != "healthy":
        return f"status {diagnosis.status}"
    firm = [c.row.id for c in diagnosis.causes if c.certainty is not Certainty.POSSIBLE]
    if firm:
        return f"called {', '.join(firm)}"
    up = sum(1 for view in diagnosis.explanation.cpus if view.arrived is not False)
    return "" if up == cpus else f"{up} of {cpus} CPUs are up"


def sweep(guest: Guest, runs: int) -> int:
    """So many runs of a guest; how many of them were called sick."""
    wrong = 0
    for run in range(runs):
        cpus = guest.cpus[run % len(guest.cpus)]
        began = time.monotonic()
        wishes = Wishes(timeout=TIMEOUT, cpus=cpus, until=guest.until)
        diagnosis = observe(guest.command(cpus), wishes)
        found = alarm(diagnosis, cpus)
        took = time.monotonic() - began
        print(f"{guest.name:10}  {cpus:3} CPUs  {took:6.1f} s  {found or 'healthy'}", flush=True)
        if found:
            wrong += 1
            print(text.render(diagnosis))
    return wrong


def main() -> int:
    parser = argparse.ArgumentParser(prog="make sweep", description=__doc__)
    parser.add_argument("--runs", type=int, default=20, help="of each guest (20)")
    parser.add_argument("guest", nargs="*", help="lamppost, memtest86+, linux; without any: all")
    options = parser.parse_args()
    WHERE.mkdir(parents=True, exist_ok=True)
    try:
        chosen = [g for g in guests() if not options.guest or g.name in options.guest]
    except SweepError as error:
        print(f"sweep: {error}", file=sys.stderr)
        return 3
    results = {guest.name: sweep(guest, options.runs) for guest in chosen}
    for name, wrong in results.items():
        print(f"{name}: {options.runs - wrong} of {options.runs} healthy")
    return 1 if any(results.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
