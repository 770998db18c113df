# SPDX-License-Identifier: BSD-2-Clause
"""`make diagnose`, `make lab`, `make labs` and `make picture-…`."""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace

from debug.cli.echo import Echo
from debug.cli.guard import guarded
from debug.cli.show import add_report_options, show
from debug.kernel import bochs
from debug.kernel.checkout import changed_sources
from debug.kernel.run import run
from debug.labs import matrix, mystery, picture
from debug.labs.diagnose import diagnose, objection
from debug.labs.lab import EMULATORS, ids, load
from debug.labs.workshop import build
from debug.pictures.wanted import KINDS


def _diagnose(options: argparse.Namespace) -> int:
    hidden = options.lab == mystery.NAME
    lab = mystery.chosen() if hidden else load(options.lab)
    diagnosis = diagnose(
        lab,
        options.emulator,
        Echo().take if options.console else None,
        mystery.NAME if hidden else "",
    )
    code = show(diagnosis, options)
    if options.guess:
        return code
    expected = lab.expect.get(options.emulator)
    wrong = objection(diagnosis, expected) if expected else None
    if wrong:
        print(f"{options.lab} on {options.emulator}: {wrong}", file=sys.stderr)
        if changed := changed_sources():
            print(changed, file=sys.stderr)
    return 1 if wrong else 0


def _lab(options: argparse.Namespace) -> int:
    """For a person: build it, say what one sees, boot it, and say how to go on."""
    if options.lab == "answer":
        lab = mystery.chosen()
        print(f"It was {lab.id}: {lab.title}. tests/labs/{lab.id}/break.patch is the bug.")
        return 0
    hidden = options.lab in ("random", mystery.NAME)
    if hidden:
        lab = mystery.choose(options.emulator) if options.lab == "random" else mystery.chosen()
    else:
        lab = load(options.lab)
    name = mystery.NAME if hidden else f"labs/{lab.id}"
    asked = mystery.NAME if hidden else lab.id
    on_bochs = options.emulator == "bochs"
    kernel = build(lab, "lamppost.iso" if on_bochs else "lamppost.elf", name)
    print("A mystery." if hidden else f"{lab.id}: {lab.title}.")
    print(f"What one sees: {lab.hint}.\n")
    if not options.headless and on_bochs:
        bochs.run(replace(kernel, extra=lab.bochs), headless=False)
        print("\nBochs has ended.\n")
    elif not options.headless:
        code = run(replace(kernel, extra=lab.qemu), headless=False)
        print(f"\nQEMU has ended (exit code {code}).\n")
    emulator = " EMULATOR=bochs" if on_bochs else ""
    step = "bochs" if on_bochs else "gdb"
    print(f"boot it again   make lab LAB={asked}{emulator}")
    print(f"step through    make {step} BUILD=build/{name} OPTIONS='{lab.options}'")
    print(f"the diagnosis   make diagnose LAB={asked}{emulator}")
    if hidden:
        print(f"a guess         make diagnose LAB={asked}{emulator} GUESS=ROW")
        print("its name        make lab LAB=answer")
    return 0


def _labs(options: argparse.Namespace) -> int:
    """Every lab on every emulator, as a matrix."""
    emulators = [options.emulator] if options.emulator else list(EMULATORS)
    return matrix.run(matrix.chosen(options.labs), emulators, options.json, options.keep)


def _picture(options: argparse.Namespace) -> int:
    """Draw one picture, or all that stand beside the chapters."""
    if options.kind == "all":
        todo = [(picture.named(path.name), path) for path in picture.committed()]
    else:
        wanted = picture.checked(
            picture.Picture(
                options.kind,
                options.lab or picture.HEALTHY,
                options.at or None,
                options.cpus,
                tuple(options.options.split()),
            )
        )
        todo = [(wanted, picture.PICTURES / wanted.name)]
    picture.write(todo, print)
    return 0


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
    command.add_argument("--emulator", choices=EMULATORS, default="qemu")
    command.add_argument("--headless", action="store_true", help="build it, do not boot it")
    command.set_defaults(function=_lab)
    command = commands.add_parser("labs", help="all labs on all emulators")
    command.add_argument("labs", nargs="*", help="ids or patterns (ap-*); without any: all")
    command.add_argument("--emulator", choices=EMULATORS, help="only on this one")
    command.add_argument("--json", action="store_true", help="a list of judgements")
    command.add_argument(
        "--keep", action="store_true", help="write QEMU's reports into the labs' directories"
    )
    command.set_defaults(function=_labs)
    command = commands.add_parser("picture", help="an SVG of the kernel or of a lab")
    command.add_argument("kind", choices=[*KINDS, "all"], help="all: the chapters' again")
    command.add_argument("--lab", help="a lab's kernel instead of the healthy one")
    command.add_argument("--at", help="walk: the address or symbol; without it, the fault's")
    command.add_argument("--cpus", type=int, default=picture.CPUS, help="how many CPUs (4)")
    command.add_argument("--options", default="", help="the kernel command line")
    command.set_defaults(function=_picture)
    command = commands.add_parser("list", help="the ids")
    command.set_defaults(function=lambda options: print("\n".join(ids())) or 0)
    options = parser.parse_args()
    return guarded(lambda: int(options.function(options)))


if __name__ == "__main__":
    sys.exit(main())
