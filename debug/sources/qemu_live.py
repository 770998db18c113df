# SPDX-License-Identifier: BSD-2-Clause
"""A live QEMU: started from the user's own command line, watched until it ends, and read out.

    with QemuMachine(["qemu-system-x86_64", "-kernel", "kernel.elf"]) as machine:
        evidence = machine.observe()

QEMU stays alive, paused, until the block ends, so that `evidence.memory` can be read there.  It is
reached through one inherited socket: nothing listens anywhere.
"""

from __future__ import annotations

import shutil
import signal
import socket
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Callable, Mapping, Optional, Sequence

from debug.evidence import Ending, Evidence, Memory, NoMemory, NoSymbols, Symbols
from debug.sources import qemu_evidence
from debug.sources.command_line import Additions, Launch, plan
from debug.sources.errors import CommandLineError, StartError
from debug.sources.qemu_evidence import CpuState
from debug.sources.qemu_idle import IdleWatch
from debug.sources.qemu_log import QemuLog
from debug.sources.qemu_memory import QemuMemory
from debug.sources.qemu_output import Output
from debug.sources.qemu_process import Process, find_emulator, log_items
from debug.sources.qemu_readout import (
    MONITOR_TIMEOUT,
    CpuList,
    accelerator,
    cpu_list,
    logs_by_cpu,
    read_cpus,
    version_of,
)
from debug.sources.qmp import QmpClient, QmpClosed, QmpError, QmpEvent
from debug.sources.watch import Watch

POLL = 0.01  # seconds between looks at what QEMU writes
START_TIMEOUT = 30.0  # seconds for QEMU to greet: its host may be busy
SECOND_SAMPLE = 0.03  # seconds that a stopped machine runs between its last two samples


@dataclass(frozen=True)
class Options(Watch):
    """How to watch a QEMU.

    log, ipis: have QEMU log exceptions, and writes to the local APICs.
    port_writes: have it log every port write too (an independent witness, slow).
    """

    symbols: Symbols = field(default_factory=NoSymbols)
    log: bool = True
    ipis: bool = True
    port_writes: bool = False


@dataclass
class _End:
    ending: Ending
    exit_code: Optional[int] = None
    messages: tuple[str, ...] = ()
    died_at: float = 0.0


class QemuMachine:
    """One QEMU under observation.  Use as a context manager; leaving it ends everything.

    Entering raises CommandLineError for a command line that can't be observed and StartError when
    the emulator can't be run.
    """

    def __init__(self, argv: Sequence[str], options: Options = Options()) -> None:
        self._argv = list(argv)
        self._options = options
        self._directory: Optional[str] = None
        self._process: Optional[Process] = None
        self._qmp: Optional[QmpClient] = None
        self._output: Optional[Output] = None
        self._memory: Optional[QemuMemory] = None
        self._launch: Optional[Launch] = None
        self._handlers: dict[signal.Signals, Any] = {}
        self._listed: CpuList = []
        self._shutdown: Optional[QmpEvent] = None
        self._panicked = False
        self.directory: Optional[str] = None  # where the log and the consoles are meanwhile
        self.collect_seconds: Optional[float] = None  # from the end's notice to the evidence

    def __enter__(self) -> QemuMachine:
        try:
            self._catch_signals()
            self._start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: Optional[type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        self.close()

    # -- start and end

    def _catch_signals(self) -> None:
        """SIGTERM and SIGHUP end this process through its exception handlers, not around them."""
        if threading.current_thread() is not threading.main_thread():
            return
        for number in (signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is signal.SIG_DFL:
                self._handlers[number] = signal.signal(number, _leave)

    def _start(self) -> None:
        options = self._options
        if not self._argv:
            raise StartError("no emulator to run")
        emulator = find_emulator(self._argv[0])
        if options.keep_dir is not None:
            options.keep_dir.mkdir(parents=True, exist_ok=True)
            directory = tempfile.mkdtemp(prefix="qemu-", dir=options.keep_dir.resolve())
        else:
            self._directory = directory = tempfile.mkdtemp(prefix="lamppost-")
        ours, theirs = socket.socketpair()
        try:
            self._launch = plan(
                [emulator, *self._argv[1:]],
                Additions(
                    qmp_fd=theirs.fileno(),
                    directory=directory,
                    log=options.log,
                    log_per_thread=options.log and "tid" in log_items(emulator),
                    ipis=options.log and options.ipis,
                    port_writes=options.log and options.port_writes,
                ),
            )
            self._output = Output(
                self._launch, options.keep_dir is None, options.on_output, options.until
            )
            self._qmp = QmpClient(ours, self._output.pump)
            self._process = Process(self._launch.argv, theirs)
            self._output.process = self._process
        finally:
            theirs.close()
            if self._qmp is None:
                ours.close()
        self._memory = QemuMemory(self._qmp, directory)
        self.directory = directory

    def close(self) -> None:
        """End QEMU, remove the temporary files, restore the signal handlers.  May be repeated."""
        if self._memory is not None:
            self._memory.detach()
        if self._process is not None:
            self._process.end()
        if self._qmp is not None:
            self._qmp.close()
        if self._output is not None:
            self._output.close()
        if self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)
            self._directory = None
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers.clear()

    @property
    def streams(self) -> Mapping[str, bytes]:
        """What came from port 0xE9 (e9), COM1 (com1) and QEMU's own output (stdout), raw."""
        return self._output.streams() if self._output is not None else {}

    # -- watching

    def observe(self) -> Evidence:
        """Let the machine run until it ends by itself or by the options, and read it out."""
        assert self._qmp and self._output and self._process and self._launch, "not entered"
        end = self._run(self._qmp, self._output, self._process, self._launch)
        end.died_at = time.monotonic()
        evidence = self._collect(end)
        self.collect_seconds = time.monotonic() - end.died_at
        return evidence

    def _run(self, qmp: QmpClient, output: Output, process: Process, launch: Launch) -> _End:
        deadline = time.monotonic() + self._options.timeout
        try:
            qmp.handshake(START_TIMEOUT)
            self._listed = cpu_list(qmp.command("query-cpus-fast"))
            if launch.starts_itself:
                qmp.command("cont", timeout=MONITOR_TIMEOUT)
            return self._watch(qmp, output, process, deadline)
        except QmpClosed:
            return self._gone(output, process, bool(qmp.greeting))
        except QmpError as error:
            return _End(Ending.EMULATOR_DIED, messages=(str(error),))

    def _watch(self, qmp: QmpClient, output: Output, process: Process, deadline: float) -> _End:
        options = self._options
        idle = IdleWatch(options.idle) if options.idle is not None else None
        while True:
            self._note(qmp.poll(POLL))
            output.pump()
            if self._shutdown is not None:
                return self._shut_down(output)
            if output.until_seen:
                return _End(Ending.UNTIL)
            if options.stop_when is not None and options.stop_when():
                return _End(Ending.STOPPED, messages=("stopped on request",))
            now = time.monotonic()
            if now >= deadline:
                return _End(
                    Ending.STOPPED, messages=(f"stopped: the {options.timeout:g} s are over",)
                )
            if idle is not None and idle.wants_sample(now, output.activity):
                if idle.sample(now, self._sample(qmp)):
                    return _End(
                        Ending.STOPPED,
                        messages=(
                            f"stopped: nothing was written and no CPU changed a register "
                            f"for {options.idle:g} s",
                        ),
                    )

    def _note(self, events: Sequence[QmpEvent]) -> None:
        for event in events:
            if event.name == "SHUTDOWN" and self._shutdown is None:
                self._shutdown = event
            elif event.name == "GUEST_PANICKED":
                self._panicked = True

    def _sample(self, qmp: QmpClient) -> str:
        """All registers while nothing runs; empty when the machine is not running."""
        status = qmp.command("query-status", timeout=MONITOR_TIMEOUT)
        if not isinstance(status, dict) or not status.get("running"):
            return ""
        qmp.command("stop", timeout=MONITOR_TIMEOUT)
        text = qmp.monitor("info registers -a", MONITOR_TIMEOUT)
        self._note(qmp.poll())
        if self._shutdown is None:
            try:
                qmp.command("cont", timeout=MONITOR_TIMEOUT)
            except QmpClosed:
                raise
            except QmpError:
                pass  # it shut down in between
        return text

    def _shut_down(self, output: Output) -> _End:
        assert self._shutdown is not None
        output.pump()
        reason = str(self._shutdown.data.get("reason", ""))
        if not self._shutdown.data.get("guest"):
            return _End(Ending.STOPPED, messages=(f"QEMU was told to end: {reason}",))
        if reason == "guest-reset":
            return _End(Ending.RESET)
        if reason == "guest-panic" or self._panicked:
            return _End(Ending.EXITED, messages=("the guest told QEMU that it panicked",))
        return _End(Ending.EXITED, messages=(f"the guest ended the machine: {reason}",))

    def _gone(self, output: Output, process: Process, greeted: bool) -> _End:
        code = process.wait(5.0)
        output.pump()
        said = [line for line in output.messages() if "warning:" not in line]
        if code is None:
            return _End(Ending.EMULATOR_DIED, messages=("QEMU closed its monitor",))
        if code < 0:
            name = signal.Signals(-code).name if -code in set(signal.Signals) else str(-code)
            return _End(Ending.EMULATOR_DIED, messages=(f"QEMU was ended by {name}",))
        if not greeted:
            return _End(
                Ending.EMULATOR_DIED, code, (f"QEMU did not start: it ended with code {code}",)
            )
        if code == 0:
            if any("terminating on signal" in line for line in said):
                return _End(Ending.STOPPED, 0)
            return _End(Ending.EXITED, 0)
        device = any(word.startswith("isa-debug-exit") for word in self._argv)
        if device and code & 1 and not (code == 1 and any("qemu" in line for line in said)):
            return _End(Ending.EXITED, code)
        return _End(Ending.EMULATOR_DIED, code, (f"QEMU ended with code {code}",))

    # -- reading out

    def _collect(self, end: _End) -> Evidence:
        assert self._qmp and self._output and self._launch
        states: list[CpuState] = []
        memory: Memory = NoMemory()
        accelerated, limits = "", []
        running = False
        if not self._qmp.closed and end.ending is not Ending.EMULATOR_DIED:
            try:
                running = end.ending in (Ending.STOPPED, Ending.UNTIL)
                earlier = self._stop(self._qmp) if running else ""
                self._listed, states = read_cpus(self._qmp, earlier)
                assert self._memory is not None
                memory = self._memory
                accelerated = accelerator(self._qmp)
            except QmpError as error:
                limits.append(f"QEMU could not be read out: {error}")
        else:
            limits.append("QEMU has ended: its registers and memory are gone")
        self._output.pump()
        logs = self._output.logs() if self._options.log else {}
        ending = end.ending
        if ending is Ending.RESET:
            ending, limit = self._reset_or_death(logs, accelerated)
            limits += limit
        if not self._options.log or accelerated == "kvm":
            limits.append(qemu_evidence.NO_LOG)
        cpus, events, ipis, resets, more = qemu_evidence.build(
            logs_by_cpu(logs, self._listed), qemu_evidence.build_cpus(states, running), ending
        )
        told = [message for log in logs.values() for message in log.messages]
        return Evidence(
            emulator="qemu",
            version=version_of(self._qmp.greeting),
            accelerator=accelerated,
            ending=ending,
            exit_code=end.exit_code,
            cpus=cpus,
            events=events,
            ipis=ipis,
            resets=resets,
            memory=memory,
            symbols=self._options.symbols,
            console=self._output.console(),
            messages=(*end.messages, *self._output.messages(), *told),
            expected_cpus=self._options.cpus,
            limits=(*limits, *more),
        )

    def _stop(self, qmp: QmpClient) -> str:
        """Pause a running machine; all registers a moment before, if it still ran then."""
        first = self._sample(qmp)
        if first:
            self._run_a_moment(qmp)
        qmp.command("stop", timeout=MONITOR_TIMEOUT)
        return first

    def _run_a_moment(self, qmp: QmpClient) -> None:
        until = time.monotonic() + SECOND_SAMPLE
        while (left := until - time.monotonic()) > 0 and self._shutdown is None:
            self._note(qmp.poll(left))

    def _reset_or_death(
        self, logs: Mapping[int, QemuLog], accelerated: str
    ) -> tuple[Ending, list[str]]:
        """QEMU gives both the same reason; only its log tells a triple fault from a reset."""
        if any(log.triple_faults for log in logs.values()):
            return Ending.TRIPLE_FAULT, []
        if self._options.log and accelerated == "tcg":
            return Ending.RESET, []
        return Ending.UNKNOWN, ["without an exception log a triple fault looks like a reset"]


def _leave(number: int, frame: Optional[FrameType]) -> None:
    raise SystemExit(128 + number)
