# SPDX-License-Identifier: BSD-2-Clause
"""The stopped machine behind GDB as evidence: registers and memory from the debugger, exceptions
and IPIs from the log that the session had QEMU write."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Callable, Mapping, Optional

from debug.evidence import Ending, Evidence, StageEvent
from debug.gdb.debugger import DebuggerError
from debug.gdb.snapshot import Snapshot
from debug.sources import qemu_evidence
from debug.sources.elf_symbols import ElfFile
from debug.sources.qemu_evidence import CpuState
from debug.sources.qemu_log import QemuLog
from debug.sources.qemu_output import Output
from debug.sources.qemu_readout import logs_by_cpu
from debug.sources.qmp import QmpClient, QmpClosed, QmpError, QmpEvent
from debug.stages.elf import own_table
from debug.stages.gather import stages_of

ALIVE = (
    "the debugger has stopped the machine, it has not ended:"
    " what has not happened yet may still happen"
)
GONE_TIMEOUT = 1.0  # seconds for the control connection of an ended QEMU to close
UNKNOWN_RESET = "without an exception log a triple fault looks like a reset"


class Life:
    """Whether the machine lives: what its monitor said, and what QEMU's events said."""

    def __init__(self, snapshot: Snapshot, qmp: Optional[QmpClient]) -> None:
        self._snapshot = snapshot
        self._qmp = qmp
        self._shutdown: Optional[QmpEvent] = None
        self._panicked = False
        self._closed = False

    def dead(self) -> bool:
        """The machine was shut down or reset and is kept as it was."""
        try:
            status = self._snapshot.debugger.monitor("info status")
        except DebuggerError:
            return False
        return "(shutdown)" in status or "(guest-panicked)" in status

    def ending(self, logs: Mapping[int, QemuLog], tcg_log: bool) -> tuple[Ending, tuple[str, ...]]:
        """How it ended, and what of that is not known."""
        if not self.dead():
            return Ending.STOPPED, (ALIVE,)
        self._poll()
        reason = str(self._shutdown.data.get("reason", "")) if self._shutdown else ""
        if self._panicked or reason in ("guest-shutdown", "guest-panic"):
            return Ending.EXITED, ()
        if any(log.triple_faults for log in logs.values()):
            return Ending.TRIPLE_FAULT, ()
        if tcg_log and reason == "guest-reset":
            return Ending.RESET, ()
        return Ending.UNKNOWN, (UNKNOWN_RESET,)

    def gone(self) -> bool:
        """QEMU itself has ended."""
        deadline = time.monotonic() + GONE_TIMEOUT
        while self._qmp is not None and (left := deadline - time.monotonic()) > 0:
            self._poll(left)
        return self._closed

    def _poll(self, timeout: float = 0.0) -> None:
        if self._qmp is None:
            return
        try:
            for event in self._qmp.poll(timeout):
                if event.name == "SHUTDOWN":
                    self._shutdown = event
                elif event.name == "GUEST_PANICKED":
                    self._panicked = True
        except QmpClosed:
            self._qmp, self._closed = None, True
        except QmpError:
            self._qmp = None


@dataclass(frozen=True)
class Gatherer:
    """Makes the evidence.

    output: what QEMU writes, None where the session did not start it.
    files: the ELF files that are known by then.
    """

    snapshot: Snapshot
    life: Life
    output: Optional[Output] = None
    version: str = ""
    files: Callable[[], tuple[ElfFile, ...]] = tuple

    def gather(self) -> Evidence:
        """Everything that is known about the stopped machine.  Raises DebuggerError."""
        logs: Mapping[int, QemuLog] = {}
        streams: Mapping[str, bytes] = {}
        console, messages = "", tuple[str, ...]()
        if self.output is not None:
            self.output.pump()
            logs, streams = self.output.logs(), self.output.streams()
            console, messages = self.output.console(), self.output.messages()
        accelerator = self._accelerator()
        logged = self.output is not None and accelerator == "tcg"
        ending, limits = self.life.ending(logs, logged)
        if not logged:
            limits = (*limits, qemu_evidence.NO_LOG)
        states = self._states()
        listed = [(state.index, state.thread, "") for state in states]
        cpus, events, ipis, resets, more = qemu_evidence.build(
            logs_by_cpu(logs, listed), qemu_evidence.build_cpus(states, False), ending
        )
        told = tuple(message for log in logs.values() for message in log.messages)
        return Evidence(
            emulator="qemu",
            version=self.version,
            accelerator=accelerator,
            ending=ending,
            cpus=cpus,
            events=events,
            ipis=ipis,
            resets=resets,
            stages=self._stages(streams),
            memory=self.snapshot.memory,
            symbols=self.snapshot.symbols,
            stage_table=own_table(file.path for file in self.files()),
            console=console,
            messages=(*messages, *told),
            limits=(*limits, *more),
        )

    def _stages(self, streams: Mapping[str, bytes]) -> tuple[StageEvent, ...]:
        found = stages_of(streams, self.snapshot.memory)
        if found:
            return found
        return tuple(event for record in self.snapshot.trace().cpus for event in record.events)

    def _accelerator(self) -> str:
        try:
            text = self.snapshot.debugger.monitor("info kvm")
        except DebuggerError:
            return ""
        return "kvm" if "enabled" in text else "tcg"

    def _states(self) -> list[CpuState]:
        snapshot = self.snapshot
        threads = snapshot.host_threads()
        states = []
        for index in snapshot.cpus():
            apic_id = snapshot.apic_id(index)
            states.append(
                CpuState(
                    index,
                    threads.get(index, 0),
                    snapshot.texts().get(index, ""),
                    snapshot.lapic(apic_id),
                    apic_id,
                )
            )
        return states
