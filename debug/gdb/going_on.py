# SPDX-License-Identifier: BSD-2-Clause
"""Going on from a stop so that each CPU stops at a breakpoint exactly once.

GDB steps a thread over the breakpoint that it stands on, but it knows the place by $pc, which in
real mode is an offset without CS's base, and it only looks at the selected thread.  Where it would
not step, the CPU would stop at once where it stands, again and again; so we step it.

A step of QEMU may end before its instruction: an interrupt request that is taken meanwhile ends it
too, such as a second SIPI, which an AP that runs ignores.  GDB would report the breakpoint once
more; we step until the CPU has moved.
"""

from __future__ import annotations

from debug.gdb.debugger import Breakpoint, Debugger, DebuggerError
from debug.gdb.snapshot import Snapshot

STEPPING = ("stepi", "nexti", "step", "next")  # only the selected CPU runs, as the session sets it
RUNNING = ("continue", "finish", "until", "advance")
TRIES = 8  # steps until a CPU that does not move is left alone: it jumps to itself
DEAD = (
    "the machine is dead and can't go on: look around with `lamp why`, `lamp cpus`, `lamp walk`;"
    " leave with `quit`"
)


class GoingOn:
    """Keeps who has been reported where, and steps them off before the machine runs."""

    def __init__(self, debugger: Debugger, snapshot: Snapshot) -> None:
        self._debugger = debugger
        self._snapshot = snapshot
        self._reported: dict[int, int] = {}  # CPU -> linear address where the user saw it
        self._lifted: list[Breakpoint] = []  # disabled for one step
        self.busy = False  # our own step is under way: its stop is not the user's

    def stopped(self, cpu: int) -> None:
        """The user is shown that `cpu` stopped where it stands."""
        self._put_back()
        pc = self._snapshot.pc(cpu)
        if pc is not None:
            self._reported[cpu] = pc

    def before(self, command: str, dead: bool) -> None:
        """GDB is about to execute `command`, one of STEPPING or RUNNING.  Raises DebuggerError."""
        if self.busy:
            return
        if dead:
            raise DebuggerError(DEAD)
        self._put_back()
        selected = self._debugger.selected()
        for cpu, address in list(self._reported.items()):
            if self._snapshot.pc(cpu) != address:
                del self._reported[cpu]
                continue
            points = self._at(address)
            if not points:
                continue
            # For these GDB must know the frame that the user is in: it does the step.
            if command != "continue" and cpu == selected and self._gdb_knows(cpu, address):
                continue
            if command in STEPPING:
                if cpu == selected:
                    self._lift(points)
            else:
                self._step_off(cpu, points)
                del self._reported[cpu]

    def _gdb_knows(self, cpu: int, address: int) -> bool:
        return self._snapshot.registers(cpu).rip == address

    def _at(self, address: int) -> list[Breakpoint]:
        points = self._debugger.breakpoints()
        return [point for point in points if point.enabled and address in point.addresses]

    def _lift(self, points: list[Breakpoint]) -> None:
        for point in points:
            point.enable(False)
        self._lifted += points

    def _put_back(self) -> None:
        for point in self._lifted:
            point.enable(True)
        self._lifted.clear()

    def _step_off(self, cpu: int, points: list[Breakpoint]) -> None:
        self._lift(points)
        self.busy = True
        before = self._snapshot.texts().get(cpu)
        try:
            for _ in range(TRIES):
                self._debugger.step_alone(cpu)
                self._snapshot.clear()
                if self._snapshot.texts().get(cpu) != before:
                    break
        finally:
            self.busy = False
            self._put_back()
            self._snapshot.clear()
