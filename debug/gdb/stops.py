# SPDX-License-Identifier: BSD-2-Clause
"""What happens at each stop: the block, or, when the guest has died, the diagnosis."""

from __future__ import annotations

from typing import Optional

from debug.gdb.block import stop_block
from debug.gdb.commands.why import rendered
from debug.gdb.context import Lamp
from debug.gdb.debugger import DebuggerError
from debug.gdb.evidence import Life
from debug.gdb.going_on import GoingOn
from debug.gdb.guest_console import GuestConsole
from debug.gdb.trampoline import Trampoline
from debug.report.diagnosis import diagnose

DEADLY = ("SIGQUIT", "SIGABRT", "SIGINT", "0", "")  # INT: stopped from the monitor, or Ctrl-C


class Stops:
    """GDB's stop events come here."""

    def __init__(
        self,
        lamp: Lamp,
        going_on: GoingOn,
        life: Life,
        console: GuestConsole,
        trampoline: Trampoline,
    ) -> None:
        self._lamp = lamp
        self._going_on = going_on
        self._life = life
        self._console = console
        self._trampoline = trampoline

    def stopped(self, signal: str) -> None:
        """The machine stands still; `signal` is GDB's name for why, "" at a breakpoint."""
        lamp = self._lamp
        lamp.snapshot.clear()
        if self._going_on.busy:
            return
        try:
            lamp.debugger.write(self._console.since_last())
            if signal in DEADLY and self._life.dead():
                self._died()
                return
            lamp.interrupted = signal == "SIGINT"
            cpu = lamp.snapshot.chosen()
            lamp.debugger.write(self._trampoline.move())
            self._going_on.stopped(cpu)
            lamp.debugger.write("\n" + stop_block(lamp.snapshot, lamp.places, cpu))
        except DebuggerError as error:
            lamp.debugger.write(f"lamp: {error}\n")

    def _died(self) -> None:
        """Explain, and select the CPU that died: it is often not the one that GDB selects."""
        lamp = self._lamp
        if lamp.died:
            return
        lamp.died = True
        diagnosis = diagnose(lamp.gather())
        lamp.culprit = culprit = diagnosis.explanation.culprit
        lamp.debugger.write("\nthe guest has died\n\n" + rendered(diagnosis, lamp.colour))
        if culprit is not None and culprit in lamp.snapshot.cpus():
            lamp.debugger.select(culprit)
            lamp.debugger.write("\n" + stop_block(lamp.snapshot, lamp.places, culprit))

    def exited(self, code: Optional[int]) -> None:
        """GDB has lost the machine: it has ended, or GDB leaves it."""
        self._lamp.snapshot.clear()
        if code is None and not self._life.gone():
            return
        self._lamp.debugger.write(self._console.since_last())
        told = f" with exit code {code}" if code is not None else ""
        self._lamp.debugger.write(f"\nthe guest has ended the machine{told}\n")
