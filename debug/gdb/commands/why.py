# SPDX-License-Identifier: BSD-2-Clause
"""`lamp why`: the diagnosis of the machine as it stands."""

from __future__ import annotations

import argparse
import io

from debug.explain import Explanation, Status
from debug.gdb.commands import state
from debug.gdb.context import Lamp
from debug.report import machine, terminal
from debug.report.diagnosis import Diagnosis, diagnose

ALIVE = "nothing has died: the debugger has stopped the machine"
NOW = "`lamp why --now` judges it as if it had ended here"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument(
        "--now", action="store_true", help="judge a machine at a breakpoint as if it ended here"
    )


def run(lamp: Lamp, options: argparse.Namespace) -> str:
    """The same report as `lamppost run` prints of the same death."""
    lamp.snapshot.cpus()
    diagnosis = diagnose(lamp.gather())
    alive = not (lamp.died or lamp.interrupted or options.now)
    if options.json:
        return machine.to_json(_alive(diagnosis) if alive else diagnosis) + "\n"
    if alive:
        return f"{ALIVE}\n\n{state.cpus(lamp, options)}\n{NOW}\n"
    return rendered(diagnosis, lamp.colour)


def _alive(diagnosis: Diagnosis) -> Diagnosis:
    """What the CPUs do, and no cause: at a breakpoint all that seems missing may still come."""
    before = diagnosis.explanation
    explanation = Explanation(Status.UNKNOWN, ALIVE, None, before.cpus, notes=(NOW,))
    return Diagnosis(diagnosis.evidence, explanation, ())


def rendered(diagnosis: Diagnosis, colour: bool) -> str:
    """The report as text, with colours where the user's terminal shows them."""
    stream = _Stream(colour)
    terminal.write(diagnosis, stream)
    return stream.getvalue()


class _Stream(io.StringIO):
    """Text that calls itself a terminal, since GDB's own output never does."""

    encoding = "utf-8"

    def __init__(self, colour: bool) -> None:
        super().__init__()
        self._colour = colour

    def isatty(self) -> bool:
        return self._colour
