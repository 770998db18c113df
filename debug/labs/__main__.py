# SPDX-License-Identifier: BSD-2-Clause
"""`make diagnose`, `make lab` and `make labs`."""

from __future__ import annotations

import argparse
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from os import cpu_count

from debug.cli.errors import CommandError
from debug.cli.guard import guarded
from debug.cli.observe import echo
from debug.cli.show import add_report_options, show
from debug.kernel.run import run
from debug.labs import mystery
from debug.labs.diagnose import diagnose, objection
from debug.labs.lab import EMULATORS, ids, load
from debug.labs.workshop import build


def _diagnose(options: argparse.Namespace) -> int:
    hidden = options.lab == mystery.NAME
    lab = mystery.chosen() if hidden else load(options.lab)
    diagnosis = diagnose(
        lab, options.emulator, echo if options.console else None, mystery.NAME if hidden else ""
    )
    show(diagnosis, options)
    expected = lab.expect.get(options.emulator)
    wrong = objection(diagnosis, expected) if expected else None
    if wrong:
        print(f"{options.lab} on {options.emulator}: {wrong}", file=sys.stderr)
    return 1 if wrong else 0


def _lab(options: argparse.Namespace) -> int:
    """For a person: build it, say what one sees, boot it, and say how to go on."""
    if options.lab == "answer":
        lab = mystery.chosen()
        print(f"It was {lab.id}: {lab.title}. tests/labs/{lab.id}/break.patch is the bug.")
        return 0
    hidden = options.lab in ("random", mystery.NAME)
    if hidden:
        lab = mystery.choose() if options.lab == "random" else mystery.chosen()
    else:
        lab = load(options.lab)
    name = mystery.NAME if hidden else f"labs/{lab.id}"
    kernel = build(lab, name=name)
    print("A mystery." if hidden else f"{lab.id}: {lab.title}.")
    print(f"What one sees: {lab.hint}.\n")
    if not options.headless:
        code = run(replace(kernel, extra=lab.qemu), headless=False)
        print(f"\nQEMU has ended (exit code {code}).\n")
    print(f"boot it again   make lab LAB={mystery.NAME if hidden else lab.id}")
    print(f"step through    make gdb BUILD=build/{name} OPTIONS='{lab.options}'")
    print(f"the diagnosis   make diagnose LAB={mystery.NAME if hidden else lab.id}")
    if hidden:
        print("its name        make lab LAB=answer")
    return 0


def _judge(task: tuple[str, str]) -> tuple[str, str, str, str]:
    lab_id, emulator = task
    lab = load(lab_id)
    expected = lab.expect.get(emulator)
    if expected is None:
        return lab_id, emulator, "not run", "the lab names no verdict for it"
    try:
        diagnosis = diagnose(lab, emulator)
    except CommandError as error:
        return lab_id, emulator, "error", str(error)
    wrong = objection(diagnosis, expected)
    if wrong:
        return lab_id, emulator, "unknown" if not diagnosis.causes else "wrong", wrong
    if not expected.causes:
        return lab_id, emulator, "hidden" if expected.reason else "right", expected.reason
    first = diagnosis.causes[0]
    return lab_id, emulator, "right", f"{first.row.id} ({first.certainty.value})"


def _labs(options: argparse.Namespace) -> int:
    """Every lab on every emulator, as a matrix."""
    tasks = [(lab, emulator) for lab in ids() for emulator in options.emulators.split(",")]
    bad = 0
    width = max(map(len, ids()), default=0)
    with ThreadPoolExecutor(cpu_count()) as pool:
        for lab, emulator, verdict, why in pool.map(_judge, tasks):
            bad += verdict not in ("right", "hidden", "not run")
            print(f"{lab:{width}}  {emulator:5}  {verdict:8} {why}", flush=True)
    print(f"{len(tasks) - bad} passed, {bad} failed")
    return 1 if bad else 0


def main() -> int:
    """Entry point: the exit code."""
    parser = argparse.ArgumentParser(prog="python3 -m debug.labs", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    command = commands.add_parser("diagnose", help="boot one lab and print its diagnosis")
    command.add_argument("lab")
    command.add_argument("--emulator", choices=EMULATORS, default="qemu")
    command.add_argument("--console", action="store_true", help="show the guest's consoles too")
    add_report_options(command)
    command.set_defaults(function=_diagnose)
    command = commands.add_parser("lab", help="build one lab for a person to find the bug")
    command.add_argument("lab", help="an id; random: a mystery; answer: the mystery's name")
    command.add_argument("--headless", action="store_true", help="build it, do not boot it")
    command.set_defaults(function=_lab)
    command = commands.add_parser("labs", help="all labs on all emulators")
    command.add_argument("--emulators", default=",".join(EMULATORS))
    command.set_defaults(function=_labs)
    command = commands.add_parser("list", help="the ids")
    command.set_defaults(function=lambda options: print("\n".join(ids())) or 0)
    options = parser.parse_args()
    return guarded(lambda: int(options.function(options)))


if __name__ == "__main__":
    sys.exit(main())
