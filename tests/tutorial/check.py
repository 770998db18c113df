# SPDX-License-Identifier: BSD-2-Clause
"""`make check-NN`: boot the kernel in this tree and compare its trace with the exercise's.

The chapter's check.toml says what is expected:

    cpus = 2                    how many CPUs to boot with (4)
    options = "smp=serial"      the kernel's command line ("")
    bsp = "b0 b1 … c9"          the BSP's stages; … stands for any stages, also none
    ap = "10 11 … a6"           every AP's
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Optional, Sequence

import tomllib

from debug.cli.errors import CommandError
from debug.cli.exit_codes import ExitCode
from debug.cli.guard import guarded
from debug.cli.observe import observe
from debug.kernel.demo import watch
from debug.kernel.machine import REPEATABLE, ROOT, Kernel
from debug.stages.elf import table_for
from debug.stages.lanes import Lane, lanes
from debug.stages.model import StageTable
from tests.tutorial.chapter import TUTORIAL
from tests.tutorial.transcript import compare


@dataclass(frozen=True)
class Exercise:
    """What a chapter's check.toml asks for."""

    chapter: str
    cpus: int
    options: str
    bsp: tuple[str, ...]
    ap: tuple[str, ...]


def load(number: str) -> Exercise:
    """The exercise of a chapter, by its number.  Raises CommandError."""
    with_check = sorted(path.parent for path in TUTORIAL.glob("*/check.toml"))
    found = [path for path in with_check if path.name.startswith(f"{number}-")]
    if not found:
        known = ", ".join(path.name[:2] for path in with_check)
        raise CommandError(
            f"check-{number}: no chapter with this number has an exercise to check;"
            f" those that have: {known}",
            ExitCode.USAGE,
        )
    with (found[0] / "check.toml").open("rb") as file:
        table = tomllib.load(file)
    return Exercise(
        found[0].name,
        table.get("cpus", 4),
        table.get("options", ""),
        tuple(table.get("bsp", "…").split()),
        tuple(table.get("ap", "…").split()),
    )


def difference(lane: Lane, expected: Sequence[str], table: StageTable) -> Optional[str]:
    """The first stage of a CPU that is not as expected, in words; None if all are."""
    came = [f"{event.code:02x}" for event in lane.events]
    wrong = compare(expected, came)
    if wrong is None:
        return None

    def words(code: Optional[str]) -> str:
        return f"{code} {table.name(int(code, 16))}" if code is not None else "nothing more"

    at = len(came) if wrong.came is None else came.index(wrong.came)
    last = f"after {words(came[at - 1])}: " if at else ""
    return f"{lane.label}: {last}expected {words(wrong.shown)}, came {words(wrong.came)}"


def check(exercise: Exercise, kernel: Kernel) -> int:
    """Boot and compare; prints the first difference."""
    kernel = replace(
        kernel, cpus=exercise.cpus, options=exercise.options, extra=(*kernel.extra, *REPEATABLE)
    )
    table = table_for(kernel.elf)
    events = observe(kernel.qemu(), watch(kernel)).evidence.stages
    drawn = lanes(events, table)
    aps = [lane for lane in drawn if not lane.is_bsp]
    for lane in drawn:
        wrong = difference(lane, exercise.bsp if lane.is_bsp else exercise.ap, table)
        if wrong is not None:
            print(f"{exercise.chapter}: not yet\n  {wrong}")
            return ExitCode.DAMAGED
    if len(aps) < exercise.cpus - 1:
        print(f"{exercise.chapter}: not yet\n  {len(aps)} of {exercise.cpus - 1} APs lit a lamp")
        return ExitCode.DAMAGED
    print(f"{exercise.chapter}: as expected, {len(events)} stages of {len(drawn)} CPUs")
    return ExitCode.HEALTHY


def main() -> int:
    parser = argparse.ArgumentParser(prog="make check-NN", description=__doc__.splitlines()[0])
    parser.add_argument("number", help="the chapter's number, two digits")
    parser.add_argument("--build", type=Path, default=ROOT / "build", help="where the kernel is")
    options = parser.parse_args()
    kernel = Kernel(options.build.resolve())
    return guarded(lambda: check(load(options.number), kernel))


if __name__ == "__main__":
    sys.exit(main())
