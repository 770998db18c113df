# SPDX-License-Identifier: BSD-2-Clause
"""A Bochs that we start, watch and read out.

One run is enough.  With `panic: action=report` and `reset_on_triple_fault=0` a triple fault puts the
CPU into shutdown state, the others stay as they are and Bochs's debugger takes over: registers and
memory can be read as at the death.  (A time breakpoint one tick earlier, in a second run, would be
no alternative: with more than one CPU Bochs 2.7 never stops at it.)
"""

from __future__ import annotations

import os
import re
import time
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Mapping, Optional, Sequence

from debug.evidence import Awaited, Cpu, Ending, Evidence, Pic, Registers, Symbols
from debug.sources import bochs_evidence
from debug.sources.bochs_command_line import MODULES, Launch, com1_file_of, plan, settings
from debug.sources.bochs_config import read_config
from debug.sources.bochs_ending import MUTE, NOTHING_TO_BOOT, UNBUILT, End, gone, logged, refused
from debug.sources.bochs_flood import StormWatch
from debug.sources.bochs_idle import IdleWatch
from debug.sources.bochs_locks import Locks, absent_media
from debug.sources.bochs_log import LogReader
from debug.sources.bochs_memory import BochsMemory
from debug.sources.bochs_messages import complaints
from debug.sources.bochs_options import Options
from debug.sources.bochs_output import Output
from debug.sources.bochs_process import BochsProcess, DebuggerError
from debug.sources.bochs_readout import (
    ANSWER_TIMEOUT,
    Trees,
    answer_of,
    read_cpu,
    read_cpus,
    read_io_apics,
    read_pics,
    run_a_moment,
    sample,
    unpaged_cpu,
)
from debug.sources.bochs_state import stuck_for_good
from debug.sources.errors import CommandLineError, StartError
from debug.sources.follow import FollowedFile
from debug.sources.programs import find_program
from debug.sources.progress import Progress, watch
from debug.sources.room import AT_END, FULL, has_room, require_room
from debug.sources.scratch import Scratch
from debug.sources.signals import Signals
from debug.sources.watch import INTERRUPTED

__all__ = ["BochsMachine", "CommandLineError", "Options", "StartError"]

START_TIMEOUT = 60.0
STOP_TIMEOUT = 20.0  # a busy host is slow to stop it
EXIT_TIMEOUT = 20.0
POLL = 0.02
SAMPLES = 3  # one may meet a CPU twice at the same place by chance
SECOND_SAMPLE = 0.05  # seconds that the machine runs on to see which CPUs move
FIRMWARE_TIME = 15.0  # seconds that a BIOS unknown to us may take
MAX_FOREIGN_STOPS = 10_000  # breakpoints of the user's own that we step over

_BREAKPOINT = re.compile(rb"^\([0-9]+\) (?:Breakpoint|Caught) ", re.MULTILINE)
_PLACE = re.compile(rb"^\(([0-9]+)\) \[", re.MULTILINE)  # where a stopped CPU is
_VERSION = re.compile(rb"Bochs x86 Emulator ([0-9][0-9A-Za-z.]{0,15})")


class BochsMachine:
    """One Bochs under observation.  Use as a context manager; leaving it ends everything.

    Entering raises CommandLineError for a command line that can't be observed and StartError when
    Bochs can't be run.
    """

    def __init__(self, argv: Sequence[str], options: Options = Options()) -> None:
        self._argv = list(argv)
        self._options = options
        self._scratch: Optional[Scratch] = None
        self._process: Optional[BochsProcess] = None
        self._locks: Optional[Locks] = None
        self._log_file: Optional[FollowedFile] = None
        self._output: Optional[Output] = None
        self._memory: Optional[BochsMemory] = None
        self._launch: Optional[Launch] = None
        self._command: list[str] = []
        self._config = ""
        self._lines: list[str] = []  # all settings, in the order in which Bochs heeds them
        self._private = True  # the log and COM1 are ours to punch holes into
        self._signals = Signals()
        self._reader = LogReader()
        self._storm: Optional[StormWatch] = None
        self._cpus = 1
        self._began = 0.0
        self.collect_seconds: Optional[float] = None  # from the end's notice to the evidence

    def __enter__(self) -> BochsMachine:
        try:
            if self._options.on_stop is None:  # else a person's debugger hears Ctrl-C itself
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
        bochs = find_program(self._argv[0] if self._argv else "bochs", "bochs bochs-sdl")
        self._scratch = Scratch()
        directory = self._scratch.path
        self._private = options.keep_dir is None
        try:
            re.compile(options.until or "")
        except re.error as error:
            raise CommandLineError(f"until: {options.until!r}: {error}") from None
        if options.keep_dir is not None:
            options.keep_dir.mkdir(parents=True, exist_ok=True)
            directory = str(options.keep_dir.resolve())
        require_room(directory)
        self._command = [bochs, *self._argv[1:]]
        self._config = read_config(self._argv)
        self._spawn(directory)

    def _spawn(self, directory: str, modules: Sequence[str] = MODULES) -> None:
        options = self._options
        lines = self._lines = [*self._config.splitlines(), *settings(self._command)]
        self._locks = Locks(lines, self._command)
        com1 = com1_file_of(lines)
        lost = com1 is not None and not os.path.isdir(os.path.dirname(com1) or ".")
        launch = self._launch = plan(self._command, self._config, directory, modules, lost)
        Path(launch.log_file).unlink(missing_ok=True)
        self._reader = LogReader()
        self._storm = StormWatch(launch.ips) if options.idle is not None else None
        self._log_file = FollowedFile(launch.log_file, self._private)
        private = self._private and not launch.com1_is_users
        self._output = Output(launch.com1_file, private, options.on_output, options.until)
        self._process = BochsProcess(launch.argv, launch.environment, self._output.e9)

    def _first_prompt(self) -> bool:
        """Wait for the debugger; once more with fewer options where this Bochs refuses some."""
        assert self._process and self._launch and self._output and self._log_file
        if self._process.wait_stop(START_TIMEOUT):
            return True
        if b"unknown log function module" not in self._process.errors:
            return False
        directory = os.path.dirname(self._launch.log_file)
        self._end_process()
        self._spawn(directory, ())
        return self._process.wait_stop(START_TIMEOUT)

    def _end_process(self) -> None:
        if self._process is not None:
            self._process.end()
            if self._locks is not None:
                self._locks.release()
        if self._output is not None:
            self._output.close()
        if self._log_file is not None:
            self._log_file.close()

    def close(self) -> None:
        """End Bochs, remove the temporary files, restore the signal handlers.  May be repeated."""
        self._signals.ignore()
        if self._memory is not None:
            self._memory.detach()
        self._end_process()
        if self._scratch is not None:
            self._scratch.remove()
            self._scratch = None
        self._signals.restore()

    @property
    def streams(self) -> Mapping[str, bytes]:
        """What came from port 0xE9 (e9) and COM1 (com1), raw."""
        return self._output.streams() if self._output is not None else {}

    @property
    def overruled(self) -> tuple[str, ...]:
        """What the command line asks for and does not get: nothing, or it was refused."""
        return ()

    # -- for on_start and on_stop, and after observe() while the machine is held

    @property
    def cpus(self) -> int:
        """How many CPUs the machine has."""
        return self._cpus

    def debugger(self, command: str) -> str:
        """What Bochs's debugger prints for one command that does not run the machine.

        Raises DebuggerError.
        """
        assert self._process is not None, "not entered"
        return answer_of(self._process.commands([command], ANSWER_TIMEOUT), command)

    def use_symbols(self, symbols: Symbols) -> None:
        """From now on these are the symbols: part of the guest turned out to be elsewhere."""
        self._options = replace(self._options, symbols=symbols)

    def read_cpu(self, index: int) -> Optional[Cpu]:
        """One CPU of the stopped machine.  Raises DebuggerError."""
        assert self._process is not None, "not entered"
        return read_cpu(self._process, index)

    def read_memory(self, physical: int, length: int) -> Optional[bytes]:
        """Physical memory of the stopped machine, as it is now."""
        assert self._process is not None and self._scratch is not None, "not entered"
        size = self._reader.result().memory
        return BochsMemory(self._process, size, None, self._scratch.path).read(physical, length)

    def progress(self, words: Sequence[Awaited]) -> Progress:
        """Which loops get what they wait for, as the stopped machine runs on for a moment."""
        assert self._process is not None, "not entered"
        try:
            return watch(words, self.read_memory, lambda: self._later(words))
        except DebuggerError:
            return Progress((), self.read_memory)

    def _later(self, words: Sequence[Awaited]) -> Optional[Mapping[int, Registers]]:
        """The registers of those CPUs after a moment of running; None if it did not stop again."""
        assert self._process is not None
        run_a_moment(self._process, SECOND_SAMPLE, STOP_TIMEOUT)
        if not self._process.stopped:
            return None
        cpus = (self.read_cpu(word.cpu) for word in words)
        return {cpu.index: cpu.registers for cpu in cpus if cpu is not None}

    def dump(self, path: Path) -> str:
        """Bochs can't."""
        return (
            f"{path} was not written: Bochs writes no core of a machine; QEMU does, and `lamppost"
            " run --keep DIR` keeps Bochs's log"
        )

    def look(self) -> Evidence:
        """The evidence in a stopped machine that hangs; it runs for a moment to see what moves."""
        assert self._process and self._output, "not entered"
        end = End(Ending.STOPPED, messages=("stopped on request",))
        return self._collect(end, self._process, self._output)

    # -- watching

    def observe(self) -> Evidence:
        """Let the machine run until it ends by itself or by the options, and read it out."""
        assert self._process and self._output, "not entered"
        started = self._first_prompt()
        process, output = self._process, self._output
        self._read_files(output)
        if self._reader.unbuilt is not None:
            process.end()
            end = UNBUILT
        else:
            end = self._run(process, output) if started else self._not_started(process)
        began = time.monotonic()
        evidence = self._collect(end, process, output)
        self.collect_seconds = time.monotonic() - began
        return evidence

    def _not_started(self, process: BochsProcess) -> End:
        if process.exit_code() is not None or not process.talking:
            return refused(self._gone(process))
        return MUTE

    def _run(self, process: BochsProcess, output: Output) -> End:
        self._began = time.monotonic()
        deadline = self._began + self._options.timeout
        self._cpus = max(1, len(set(_PLACE.findall(process.stop_text))))
        try:
            if self._options.on_start is not None:
                self._options.on_start(self)
            process.go()
            return self._watch(process, output, deadline)
        except DebuggerError as error:
            if process.exit_code() is not None:
                return self._gone(process)
            return End(Ending.EMULATOR_DIED, messages=(str(error),))

    def _read_files(self, output: Output) -> None:
        assert self._log_file is not None
        data = self._log_file.read()
        self._reader.feed(data)
        if self._storm is not None and self._reader.booted:
            self._storm.feed(data)
        output.pump()

    def _watch(self, process: BochsProcess, output: Output, deadline: float) -> End:
        options = self._options
        idle = None if options.idle is None else IdleWatch(options.idle, options.quiet)
        foreign = 0
        while True:
            process.pump(POLL)
            self._read_files(output)
            now = time.monotonic()
            if process.stopped:
                if (end := self._stopped(process)) is not None:
                    return end
                going_on: Optional[str] = "c"
                if options.on_stop is not None:
                    going_on = options.on_stop(self, process.stop_text.decode("latin-1"))
                    deadline += time.monotonic() - now
                else:
                    foreign += 1  # a breakpoint of the user's own
                    if foreign > MAX_FOREIGN_STOPS:
                        going_on = None
                if going_on is None:
                    return End(Ending.STOPPED, messages=("stopped at a breakpoint",))
                process.go(going_on)
                if idle is not None:
                    idle.stopped()
                continue
            if not process.talking:
                return self._gone(process)
            if options.break_when is not None and options.break_when():
                process.interrupt(STOP_TIMEOUT)
                continue
            end = self._asked_to_stop(output, deadline)
            if end is None and idle is not None and self._guest_runs():
                end = self._idle(process, output, idle)
                if process.stopped and end is None:
                    continue
            if end is not None:
                process.interrupt(STOP_TIMEOUT)
                self._read_files(output)
                return self._stopped(process) or end

    def _guest_runs(self) -> bool:
        """The firmware is through, as far as its log tells; its own waits are no hang.

        Sampling stops the machine, which shifts the CPUs against each other by a few ticks.
        """
        return self._reader.booted or time.monotonic() - self._began > FIRMWARE_TIME

    def _asked_to_stop(self, output: Output, deadline: float) -> Optional[End]:
        options, reader = self._options, self._reader
        if (end := logged(reader)) is not None:
            return end
        if reader.unbootable is not None:
            return End(Ending.EMULATOR_DIED, messages=(NOTHING_TO_BOOT, *absent_media(self._lines)))
        if output.until_seen:
            return End(Ending.UNTIL)
        if options.stop_when is not None and options.stop_when():
            return End(Ending.STOPPED, messages=("stopped on request",))
        if self._storm is not None and self._storm.rages(output.activity, time.monotonic()):
            return End(Ending.STOPPED, messages=(str(self._storm),))
        if self._signals.interrupted:
            return End(Ending.STOPPED, messages=(INTERRUPTED,))
        if time.monotonic() >= deadline:
            return End(Ending.STOPPED, messages=(f"stopped: the {options.timeout:g} s are over",))
        return None

    def _stopped(self, process: BochsProcess) -> Optional[End]:
        """Why the debugger took over by itself; None if it was a breakpoint."""
        if (end := logged(self._reader)) is not None:
            return end
        if process.exit_code() is not None:
            return self._gone(process)
        return None

    def _idle(self, process: BochsProcess, output: Output, idle: IdleWatch) -> Optional[End]:
        now = time.monotonic()
        if not idle.wants_sample(now, output.activity):
            return None
        if not process.interrupt(STOP_TIMEOUT):
            return None
        self._read_files(output)
        if self._stopped(process) is not None or _BREAKPOINT.search(process.stop_text):
            return None  # the loop sees it
        trees = sample(process, self._cpus)
        if trees and all(stuck_for_good(tree) for tree in trees.values()):
            return End(
                Ending.STOPPED,
                messages=("stopped: no CPU can go on: each is halted with interrupts off",),
            )
        if idle.sample(now, trees):
            return End(
                Ending.STOPPED,
                messages=(
                    f"stopped: nothing was written and no CPU changed a register "
                    f"for {self._options.idle:g} s",
                ),
            )
        process.go()
        return None

    def _gone(self, process: BochsProcess) -> End:
        code = process.wait(EXIT_TIMEOUT)
        process.flush()
        assert self._output is not None
        self._read_files(self._output)
        return gone(code, process.errors, self._reader.result().shutdown_port)

    # -- reading out

    def _collect(self, end: End, process: BochsProcess, output: Output) -> Evidence:
        quiet = output.printed.quiet
        cpus: Optional[tuple[Cpu, ...]] = None
        pics: tuple[Pic, ...] = ()
        io_apics: Optional[tuple[tuple[int, ...], ...]] = None
        limits: list[str] = []
        before: Trees = {}
        if process.stopped and process.exit_code() is None:
            try:
                if end.ending in (Ending.STOPPED, Ending.UNTIL):
                    before = self._two_samples(process)
                    self._read_files(output)
                    if self._reader.death is not None:
                        end, before = End(Ending.TRIPLE_FAULT), {}
                cpus, pics = read_cpus(process, self._cpus, before), read_pics(process)
                io_apics = read_io_apics(process)
            except DebuggerError as error:
                limits.append(f"Bochs could not be read out: {error}")
        self._read_files(output)
        log = self._reader.result()
        if version := _VERSION.search(process.banner):
            log = replace(log, version=version[1].decode("ascii"))
        assert self._launch is not None and self._scratch is not None
        if not has_room(self._scratch.path, AT_END):
            limits.append(FULL.format(self._scratch.path))
        if cpus is not None:
            self._memory = BochsMemory(process, log.memory, unpaged_cpu(cpus), self._scratch.path)
        found = bochs_evidence.build(
            log,
            cpus,
            ending=end.ending,
            exit_code=end.exit_code,
            memory=self._memory,
            symbols=self._options.symbols,
            console=output.console(),
            messages=(*end.messages, *self._launch.notes, *complaints(process.errors)),
            expected_cpus=self._options.cpus,
            limits=limits,
        )
        return replace(found, pics=pics, io_apics=io_apics, quiet=quiet)

    def _two_samples(self, process: BochsProcess) -> Trees:
        """What the CPUs showed before the machine ran on for a moment; a later moment if nothing
        changed: a busy host may not have let it run, or it is met twice at the same place."""
        before: Trees = {}
        for _ in range(SAMPLES):
            before = sample(process, self._cpus)
            run_a_moment(process, SECOND_SAMPLE, STOP_TIMEOUT)
            if not process.stopped or sample(process, self._cpus) != before:
                break
        return before
