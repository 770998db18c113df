# SPDX-License-Identifier: BSD-2-Clause
"""A machine under QEMU, seen at single moments while it runs, and what its events tell meanwhile."""

from __future__ import annotations

import time
from typing import Optional

from debug.evidence import Ending
from debug.sources.qemu_ending import BROKEN, End
from debug.sources.qemu_lines import Look, destinations
from debug.sources.qemu_readout import MONITOR_TIMEOUT, all_rest
from debug.sources.qmp import QmpClient, QmpClosed, QmpError, QmpEvent

SECOND_SAMPLE = 0.03  # seconds that a stopped machine runs between its last samples
SAMPLES = 4  # one may meet a CPU twice at the same place by chance


class Moments:
    """One machine.  Every method raises QmpError.

    shutdown: the event that ended it; panicked: a panic device was written to; looks: what its
    interrupt controllers showed in each sample.
    """

    def __init__(self, qmp: QmpClient) -> None:
        self._qmp = qmp
        self._stood = False
        self.shutdown: Optional[QmpEvent] = None
        self.panicked = False
        self.looks: list[Look] = []

    def listen(self, timeout: float = 0.0) -> None:
        """Take the events that came, waiting up to `timeout` seconds for the first."""
        for event in self._qmp.poll(timeout):
            if event.name == "SHUTDOWN" and self.shutdown is None:
                self.shutdown = event
            elif event.name == "GUEST_PANICKED":
                self.panicked = True
            elif event.name == "STOP":
                self._stood = True

    def broken(self) -> Optional[End]:
        """Whether QEMU stopped the machine for a reason of its own, after an event STOP."""
        if not self._stood:
            return None
        self._stood = False
        why = BROKEN.get(self.status())
        return End(Ending.EMULATOR_DIED, messages=(why,)) if why is not None else None

    def status(self) -> str:
        """What QEMU says of the machine: "running", "paused" …"""
        found = self._qmp.command("query-status", timeout=MONITOR_TIMEOUT)
        return str(found.get("status")) if isinstance(found, dict) else ""

    def glance(self) -> str:
        """All registers of the running machine, about; empty when it is not running."""
        return self._registers() if self.status() == "running" else ""

    def sample(self, look: bool = False) -> str:
        """All registers of one moment; empty when the machine is not running.

        look: at the interrupt controllers, too.
        """
        if self.status() != "running":
            return ""
        self.stop()
        text = self._registers()
        if look:
            self.looks.append(self._look(text))
        self.listen()
        if self.shutdown is None:
            try:
                self._qmp.command("cont", timeout=MONITOR_TIMEOUT)
            except QmpClosed:
                raise
            except QmpError:
                pass  # it shut down in between
        return text

    def samples(self, expected: bool) -> list[str]:
        """Some samples with a moment of running behind each; fewer if it runs no more.

        One moment is enough of CPUs that all rest, in a machine that came where it was `expected`.
        """
        found: list[str] = []
        while len(found) < SAMPLES and (sample := self.sample(look=True)):
            found.append(sample)
            self.run()
            if expected and all_rest(sample):
                break
        return found

    def stands_still(self) -> bool:
        """Whether two exact samples agree: a glance may show an old instruction pointer."""
        first = self.sample()
        self.run()
        return bool(first) and first == self.sample()

    def run(self) -> None:
        """Let some time pass, in which the machine may run."""
        until = time.monotonic() + SECOND_SAMPLE
        while (left := until - time.monotonic()) > 0 and self.shutdown is None:
            self.listen(left)

    def later(self) -> str:
        """All registers of a paused machine that ran on for a moment; empty if it ended in it."""
        self._qmp.command("cont", timeout=MONITOR_TIMEOUT)
        self.run()
        self.stop()
        return self._registers() if self.shutdown is None else ""

    def stop(self) -> None:
        """Pause it."""
        self._qmp.command("stop", timeout=MONITOR_TIMEOUT)

    def _look(self, registers: str) -> Look:
        controllers = self._qmp.monitor("info pic", MONITOR_TIMEOUT)
        named = destinations(controllers)
        lapics = {name: self._qmp.monitor(f"info lapic {name}", MONITOR_TIMEOUT) for name in named}
        return Look(registers, controllers, lapics)

    def _registers(self) -> str:
        return self._qmp.monitor("info registers -a", MONITOR_TIMEOUT)
