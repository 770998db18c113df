# SPDX-License-Identifier: BSD-2-Clause
"""`make sweep`: healthy machines again and again; none may be called sick."""

from __future__ import annotations

import argparse
import sys
import time

from debug.cli.observe import Wishes, observe
from debug.report import text
from tests.machines.healthy import alarm
from tests.machines.packages import MachineError
from tests.sweep.guests import Guest, guests

TIMEOUT = 240.0


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
    try:
        chosen = [g for g in guests() if not options.guest or g.name in options.guest]
    except MachineError as error:
        print(f"sweep: {error}", file=sys.stderr)
        return 3
    results = {guest.name: sweep(guest, options.runs) for guest in chosen}
    for name, wrong in results.items():
        print(f"{name}: {options.runs - wrong} of {options.runs} healthy")
    return 1 if any(results.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
