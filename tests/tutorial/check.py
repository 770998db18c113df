# SPDX-License-Identifier: BSD-2-Clause
"""`make check-NN`: boot the kernel in this tree and compare its trace with the exercise's.

It stops at the first difference.  What is expected: tests/tutorial/exercise.py.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from typing import Optional, Sequence

from debug.cli.exit_codes import ExitCode
from debug.cli.guard import guarded
from debug.cli.observe import Wishes, observe
from debug.evidence import StageEvent
from debug.explain.model import Explanation, Status
from debug.kernel.arrival import Arrival, all_arrived
from debug.kernel.checkout import changed_sources
from debug.kernel.demo import watch
from debug.kernel.machine import REPEATABLE, ROOT, Kernel
from debug.stages.elf import table_for
from debug.stages.lanes import Lane, lanes
from debug.stages.model import StageTable
from debug.x86.exceptions import vector
from tests.tutorial import host
from tests.tutorial.exercise import Boot, Exercise, load
from tests.tutorial.transcript import WILDCARD, Mismatch, compare


def _came(event: StageEvent) -> str:
    argument = f"={event.argument:x}" if event.argument is not None else ""
    return f"{event.code:02x}{argument}"


def _pattern(token: str) -> str:
    """A stage without an argument stands for that stage with any."""
    return token if "=" in token or WILDCARD in token else token + WILDCARD


def _words(token: Optional[str], table: StageTable) -> str:
    if token is None:
        return "nothing more"
    token = token.rstrip(WILDCARD)
    stage = table.get(int(token.partition("=")[0], 16))
    return f"{token} {stage.name if stage else '(not in trampoline/stages.h)'}"


def _compared(lane: Lane, expected: Sequence[str]) -> tuple[list[str], Optional[Mismatch]]:
    came = [_came(event) for event in lane.events]
    return came, compare([_pattern(token) for token in expected], came)


def lane_difference(lane: Lane, expected: Sequence[str], table: StageTable) -> Optional[str]:
    """The first stage of a CPU that is not as expected, in words; None if all are."""
    came, wrong = _compared(lane, expected)
    if wrong is None:
        return None
    last = f"after {_words(came[wrong.at - 1], table)}: " if 0 < wrong.at <= len(came) else ""
    return (
        f"{lane.label}: {last}expected {_words(wrong.shown, table)},"
        f" came {_words(wrong.came, table)}"
    )


def chain_of(explanation: Explanation) -> list[str]:
    """The exceptions of the CPU that died, each once for each time it was raised."""
    vectors = [step.vector for step in explanation.chain]
    once = [v for i, v in enumerate(vectors) if i == 0 or v != vectors[i - 1]]
    end = ["shutdown"] if explanation.status is Status.TRIPLE_FAULT else []
    return [vector(v).mnemonic for v in once] + end


def stage_difference(boot: Boot, events: Sequence[StageEvent]) -> Optional[str]:
    """The first stage of a boot that is not as expected, in words; None if all are."""
    table = table_for(None)
    drawn = lanes(events, table)
    for lane in drawn:
        wrong = lane_difference(lane, boot.bsp if lane.is_bsp else boot.ap, table)
        if wrong is not None:
            return wrong
    aps = len({lane.apic_id for lane in drawn if not lane.is_bsp})
    if aps != boot.aps:
        return f"{aps} of the {boot.cpus - 1} APs lit a lamp, expected {boot.aps}"
    return None


def another_came(boot: Boot, events: Sequence[StageEvent]) -> bool:
    """Whether a CPU lit another stage in the place of one that is expected."""
    compared = (
        _compared(lane, boot.bsp if lane.is_bsp else boot.ap)
        for lane in lanes(events, table_for(None))
    )
    return any(wrong is not None and wrong.came is not None for _, wrong in compared)


def difference(boot: Boot, events: Sequence[StageEvent], came: Explanation) -> Optional[str]:
    """The first thing of a boot that is not as expected, in words; None if all is."""
    wrong = stage_difference(boot, events)
    if wrong is not None:
        return wrong
    if boot.chain is not None:
        chain = chain_of(came)
        unlike = compare(boot.chain, chain)
        if unlike is not None:
            return (
                f"exceptions: expected {unlike.shown or 'nothing more'}, came"
                f" {unlike.came or 'nothing more'} in: {' '.join(chain) or 'none'}"
            )
    return None


def command_line(boot: Boot, kernel: Kernel) -> Sequence[str]:
    """How an exercise's machine is started."""
    if boot.emulator == "bochs":
        return kernel.bochs()
    ours = replace(kernel, extra=REPEATABLE).qemu()
    return [boot.image if boot.image and word == str(kernel.elf) else word for word in ours]


def is_open(boot: Boot) -> bool:
    """Whether a boot that was as expected so far stays so whatever comes."""
    return boot.chain is None and all(
        not lane or lane[-1] == WILDCARD for lane in (boot.bsp, boot.ap)
    )


def wishes(boot: Boot, kernel: Kernel) -> Wishes:
    """How a boot is watched: until it is as expected, or has come to its last stages without what is
    expected before them, if that can be seen; else to its end.
    """
    if not is_open(boot):
        return watch(kernel)
    arrived = all_arrived(boot.cpus)

    def over(events: Sequence[StageEvent]) -> bool:
        if not events:
            return False
        return stage_difference(boot, events) is None or (
            arrived(events) and another_came(boot, events)
        )

    arrival = Arrival(over)
    return replace(watch(kernel), on_output=arrival.take, stop_when=arrival.is_over)


def programs(exercise: Exercise) -> set[str]:
    """What an exercise is done with: the emulators that it boots, and GDB to look into them."""
    return {"gdb"} | {"bochs" if boot.emulator == "bochs" else "console" for boot in exercise.boots}


def check(exercise: Exercise, kernel: Kernel) -> int:
    """Boot and compare; prints the first difference."""
    for program in host.others(programs(exercise)):
        print(f"note: {program}")
    for boot in exercise.boots:
        kernel = replace(kernel, cpus=boot.cpus, options=boot.options)
        seen = observe(command_line(boot, kernel), wishes(boot, kernel))
        wrong = difference(boot, seen.evidence.stages, seen.explanation)
        if wrong is not None:
            print(f"{exercise.chapter}: not yet\n  {wrong}")
            if boot.options:
                print(f"  booted with: {boot.options}")
            if changed := changed_sources():
                print(f"  {changed}")
            return ExitCode.DAMAGED
    print(f"{exercise.chapter}: as expected")
    return ExitCode.HEALTHY


def main() -> int:
    """Entry point: the exit code."""
    parser = argparse.ArgumentParser(prog="make check-NN", description=__doc__.splitlines()[0])
    parser.add_argument("number", help="the chapter's number, two digits")
    parser.add_argument("--build", type=Path, default=ROOT / "build", help="where the kernel is")
    options = parser.parse_args()
    kernel = Kernel(options.build.resolve())
    return guarded(lambda: check(load(options.number), kernel))


if __name__ == "__main__":
    sys.exit(main())
