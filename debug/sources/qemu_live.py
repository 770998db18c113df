# SPDX-License-Identifier: BSD-2-Clause
"""A live QEMU: started from the user's own command line, watched until it ends, and read out.

    with QemuMachine(["qemu-system-x86_64", "-kernel", "kernel.elf"]) as machine:
        evidence = machine.observe()

QEMU stays alive, paused, until the block ends, so that `evidence.memory` can be read there.  It is
reached through one inherited socket: nothing listens anywhere.
"""

from __future__ import annotations

import os
import socket
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Mapping, Optional, Sequence

from debug.evidence import (
    Awaited,
    Ending,
    Evidence,
    Memory,
    NoMemory,
    NoSymbols,
    Pic,
    Registers,
    Symbols,
)
from debug.sources import qemu_evidence
from debug.sources.command_line import Additions, Launch, plan
from debug.sources.errors import StartError
from debug.sources.keyboard import Keyboard
from debug.sources.progress import Progress, watch
from debug.sources.qemu_ending import End, gone, shut_down, unanswered
from debug.sources.qemu_evidence import CpuState
from debug.sources.qemu_idle import IdleWatch
from debug.sources.qemu_lines import held
from debug.sources.qemu_log import QemuLog
from debug.sources.qemu_memory import QemuMemory
from debug.sources.qemu_moments import Moments
from debug.sources.qemu_output import Output
from debug.sources.qemu_process import Process, find_emulator, has_windows, log_items
from debug.sources.qemu_readout import (
    MONITOR_TIMEOUT,
    CpuList,
    accelerator,
    awake_alone,
    cpu_list,
    logs_by_cpu,
    read_controllers,
    read_cpus,
    version_of,
)
from debug.sources.qemu_text import parse_registers, split_cpus
from debug.sources.qmp import QmpClient, QmpClosed, QmpError, QmpTimeout
from debug.sources.room import AT_END, FULL, has_room, require_room
from debug.sources.scratch import Scratch
from debug.sources.signals import Signals
from debug.sources.watch import INTERRUPTED, Watch

POLL = 0.01  # seconds between looks at what QEMU writes
START_TIMEOUT = 30.0  # seconds for QEMU to greet: its host may be busy
QUIT_TIMEOUT = 3.0  # seconds for QEMU to close its disk images
CORE_TIMEOUT = 300.0  # seconds: a core is as large as the machine's memory
NOBODYS = 0  # the key of a log that no thread wrote alone
PRELAUNCH_POLL = 0.1  # seconds between looks at a machine that a debugger will start


@dataclass(frozen=True)
class Options(Watch):
    """How to watch a QEMU.

    log, ipis: have QEMU log exceptions, and writes to the local APICs.
    port_writes: have it log every port write too (an independent witness, slow).
    scratch_disks: what the guest writes to its disks is forgotten.
    """

    symbols: Symbols = field(default_factory=NoSymbols)
    log: bool = True
    ipis: bool = True
    port_writes: bool = False
    scratch_disks: bool = False


class QemuMachine:
    """One QEMU under observation.  Use as a context manager; leaving it ends everything.

    Entering raises CommandLineError for a command line that can't be observed and StartError when
    the emulator can't be run.
    """

    def __init__(self, argv: Sequence[str], options: Options = Options()) -> None:
        self._argv = list(argv)
        self._options = options
        self._scratch: Optional[Scratch] = None
        self._process: Optional[Process] = None
        self._qmp: Optional[QmpClient] = None
        self._moments: Optional[Moments] = None
        self._output: Optional[Output] = None
        self._memory: Optional[QemuMemory] = None
        self._launch: Optional[Launch] = None
        self._keyboard: Optional[Keyboard] = None
        self._signals = Signals()
        self._listed: CpuList = []
        self.directory: Optional[str] = None  # where the log and the consoles are meanwhile
        self.collect_seconds: Optional[float] = None  # from the end's notice to the evidence

    def __enter__(self) -> QemuMachine:
        try:
            self._signals.catch()
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

    def _start(self) -> None:
        options = self._options
        if not self._argv:
            raise StartError("no emulator to run")
        emulator = find_emulator(self._argv[0])
        if options.keep_dir is not None:
            options.keep_dir.mkdir(parents=True, exist_ok=True)
            directory = tempfile.mkdtemp(prefix="qemu-", dir=options.keep_dir.resolve())
        else:
            self._scratch = Scratch()
            directory = self._scratch.path
        require_room(directory)
        wanted = options.log or "-d" in self._argv
        ours, theirs = socket.socketpair()
        try:
            self._launch = plan(
                [emulator, *self._argv[1:]],
                Additions(
                    qmp_fd=theirs.fileno(),
                    directory=directory,
                    log=options.log,
                    log_per_thread=wanted and "tid" in log_items(emulator),
                    ipis=options.log and options.ipis,
                    port_writes=options.log and options.port_writes,
                    scratch_disks=options.scratch_disks,
                    windows=bool(os.environ.get("DISPLAY")) and has_windows(emulator),
                ),
            )
            self._output = Output(
                self._launch, options.keep_dir is None, options.on_output, options.until
            )
            self._qmp = QmpClient(ours, self._output.pump)
            self._moments = Moments(self._qmp)
            self._process = Process(self._launch.argv, theirs, self._launch.stdio)
            self._output.process = self._process
            if self._process.stdin is not None:
                self._keyboard = Keyboard(
                    self._process.stdin, self._launch.signals, self._launch.ctrl_a
                )
        finally:
            theirs.close()
            if self._qmp is None:
                ours.close()
        self._memory = QemuMemory(self._qmp, directory)
        self.directory = directory

    def close(self) -> None:
        """End QEMU, remove the temporary files, restore the signal handlers.  May be repeated."""
        try:
            self._quit()
        finally:
            self._end()

    def _quit(self) -> None:
        """Let QEMU go by itself: it writes its disk images' tables, and removes its sockets and its
        PID file."""
        if self._qmp is not None and self._process is not None and self._qmp.quit(QUIT_TIMEOUT):
            self._process.wait(QUIT_TIMEOUT)

    def _end(self) -> None:
        self._signals.ignore()
        if self._memory is not None:
            self._memory.detach()
        if self._process is not None:
            self._process.end()
        if self._keyboard is not None:
            self._keyboard.close()
        if self._qmp is not None:
            self._qmp.close()
        if self._output is not None:
            self._output.close()
        if self._scratch is not None:
            self._scratch.remove()
            self._scratch = None
        self._signals.restore()

    @property
    def streams(self) -> Mapping[str, bytes]:
        """What came from port 0xE9 (e9), COM1 (com1) and QEMU's own output (stdout), raw."""
        return self._output.streams() if self._output is not None else {}

    @property
    def overruled(self) -> tuple[str, ...]:
        """What the command line asks for and does not get."""
        return self._launch.notes if self._launch is not None else ()

    def dump(self, path: Path) -> str:
        """Write the paused machine's memory and registers as an ELF core; says what became of it."""
        assert self._qmp is not None
        if self._qmp.closed:
            return f"{path} was not written: QEMU has ended, and the machine with it"
        target = {"paging": False, "protocol": f"file:{path.resolve()}"}
        try:
            self._qmp.command("dump-guest-memory", target, CORE_TIMEOUT)
        except QmpError as error:
            return f"{path} was not written: {error}"
        if path.is_file():
            path.chmod(0o600)  # QEMU makes it read-only: its owner could not write the next one
        return f"{path} is the machine's core: lamppost explain {path}"

    def progress(self, words: Sequence[Awaited]) -> Progress:
        """Which loops get what they wait for, as the paused machine runs on for a moment."""
        assert self._memory is not None, "not entered"
        try:
            return watch(words, self._memory.now, self._later)
        except QmpError:
            return Progress((), self._memory.now)

    def _later(self) -> Optional[Mapping[int, Registers]]:
        """All registers after a moment of running; None if the machine ended in it."""
        assert self._moments is not None
        parts = split_cpus(self._moments.later())
        return {at: parse_registers(part)[0] for at, part in parts.items()} or None

    # -- watching

    def observe(self) -> Evidence:
        """Let the machine run until it ends by itself or by the options, and read it out."""
        assert self._qmp and self._moments and self._output and self._process, "not entered"
        end = self._run(self._qmp, self._moments, self._output, self._process)
        died_at = time.monotonic()
        evidence = self._collect(end)
        self.collect_seconds = time.monotonic() - died_at
        return evidence

    def _run(self, qmp: QmpClient, moments: Moments, output: Output, process: Process) -> End:
        assert self._launch is not None
        try:
            qmp.handshake(START_TIMEOUT)
            self._listed = cpu_list(qmp.command("query-cpus-fast"))
            if self._launch.starts_itself:
                qmp.command("cont", timeout=MONITOR_TIMEOUT)
            else:
                self._await_debugger(moments, output)
            if self._options.on_running is not None:
                self._options.on_running()
            return self._watch(moments, output, time.monotonic() + self._options.timeout)
        except QmpClosed:
            code = process.wait(5.0)
            output.pump()
            return gone(
                code, bool(self._listed), output.messages(), self._argv, self._signals.interrupted
            )
        except QmpTimeout as error:
            return unanswered(str(error), bool(self._listed))
        except QmpError as error:
            return End(Ending.EMULATOR_DIED, messages=(str(error),), readable=False)

    def _await_debugger(self, moments: Moments, output: Output) -> None:
        """The user said -S: somebody else lets it run, and no clock of ours runs until then."""
        while not self._signals.interrupted and moments.status() == "prelaunch":
            moments.listen(PRELAUNCH_POLL)
            self._pump(output)

    def _pump(self, output: Output) -> None:
        output.pump()
        if self._keyboard is not None:
            self._keyboard.pump()
            self._signals.interrupted |= self._keyboard.ended

    def _watch(self, moments: Moments, output: Output, deadline: float) -> End:
        options = self._options
        idle = IdleWatch(options.idle) if options.idle is not None else None
        while True:
            moments.listen(POLL)
            self._pump(output)
            if moments.shutdown is not None:
                return shut_down(moments.shutdown.data, moments.panicked)
            if (broken := moments.broken()) is not None:
                return broken
            if output.until_seen:
                return End(Ending.UNTIL)
            if options.stop_when is not None and options.stop_when():
                return End(Ending.STOPPED, messages=("stopped on request",))
            if self._signals.interrupted:
                return End(Ending.STOPPED, messages=(INTERRUPTED,))
            now = time.monotonic()
            if now >= deadline:
                return End(
                    Ending.STOPPED, messages=(f"stopped: the {options.timeout:g} s are over",)
                )
            if idle is not None and idle.wants_sample(now, output.activity):
                if idle.sample(now, moments.glance()) and moments.stands_still():
                    return End(
                        Ending.STOPPED,
                        messages=(
                            f"stopped: nothing was written and no CPU changed a register "
                            f"for {options.idle:g} s",
                        ),
                    )

    # -- reading out

    def _collect(self, end: End) -> Evidence:
        assert self._qmp and self._moments and self._output and self._launch
        quiet = self._output.printed.quiet
        states: list[CpuState] = []
        memory: Memory = NoMemory()
        accelerated, limits = "", []
        pics: tuple[Pic, ...] = ()
        io_apics: Optional[tuple[tuple[int, ...], ...]] = None
        running, written = False, self._output.printed.bytes
        if not self._qmp.closed and end.readable:
            try:
                running = end.ending in (Ending.STOPPED, Ending.UNTIL)
                earlier = self._stop(self._qmp, end.ending is Ending.UNTIL) if running else []
                self._listed, states = read_cpus(self._qmp, earlier)
                assert self._memory is not None
                memory = self._memory
                accelerated = accelerator(self._qmp)
                pics, io_apics = read_controllers(self._qmp)
            except QmpTimeout as error:
                end = unanswered(str(error), True)
            except QmpError as error:
                limits.append(f"QEMU could not be read out: {error}")
        elif self._qmp.closed:
            limits.append("QEMU has ended: its registers and memory are gone")
        self._output.pump()
        logs = self._output.logs()
        ending = end.ending
        if ending is Ending.RESET:
            ending = self._reset_or_death(logs, accelerated)
        if self.directory is not None and not has_room(self.directory, AT_END):
            limits.append(FULL.format(self.directory))
            ending = Ending.RESTARTED if ending is Ending.RESET else ending
        if not self._launch.logged or accelerated == "kvm":
            limits.append(qemu_evidence.NO_LOG)
        cpus, events, ipis, resets, more = qemu_evidence.build(
            logs_by_cpu(logs, self._listed),
            qemu_evidence.build_cpus(states, running, self._output.printed.bytes > written),
            ending,
        )
        indices = {one.apic_id: one.index for one in states if one.apic_id is not None}
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
            pics=pics,
            io_apics=io_apics,
            held_lines=held(self._moments.looks, indices),
            memory=memory,
            symbols=self._options.symbols,
            console=self._output.console(),
            quiet=quiet,
            messages=(*end.messages, *self._output.messages(), *told),
            expected_cpus=self._options.cpus,
            limits=(*limits, *more),
        )

    def _stop(self, qmp: QmpClient, expected: bool) -> list[str]:
        """Pause a running machine; all registers of some moments before, if it still ran then."""
        assert self._moments is not None
        samples = self._moments.samples(expected)
        if samples and (thread := self._alone(samples[-1])) is not None:
            self._log_a_moment(qmp, self._moments, thread)
        self._moments.stop()
        return samples

    def _alone(self, sample: str) -> Optional[int]:
        """The thread of the only CPU that executes anything, where nothing is logged yet.

        NOBODYS where an interrupt may wake another one meanwhile.
        """
        assert self._launch is not None
        if self._launch.logged or "-d" in self._argv:
            return None
        awake, alone = awake_alone(sample)
        thread = next((thread for index, thread, _ in self._listed if index == awake), None)
        return thread if alone or thread is None else NOBODYS

    def _log_a_moment(self, qmp: QmpClient, moments: Moments, thread: int) -> None:
        """See whether a CPU that never rests takes the same exception or interrupt for ever."""
        assert self._output is not None
        name = f"{self.directory}/moment"
        if not set(name).isdisjoint(' "%\\'):
            return
        qmp.monitor(f"logfile {name}", MONITOR_TIMEOUT)
        qmp.monitor("log int", MONITOR_TIMEOUT)
        moments.run()
        moments.stop()
        qmp.monitor("log none", MONITOR_TIMEOUT)
        self._output.follow(thread, name)

    def _reset_or_death(self, logs: Mapping[int, QemuLog], accelerated: str) -> Ending:
        """QEMU gives both the same reason; only its log tells a triple fault from a reset."""
        assert self._launch is not None
        if any(log.triple_faults for log in logs.values()):
            return Ending.TRIPLE_FAULT
        logged = self._launch.logged and accelerated == "tcg"
        return Ending.RESET if logged else Ending.RESTARTED
