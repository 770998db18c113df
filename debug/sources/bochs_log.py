# SPDX-License-Identifier: BSD-2-Clause
"""Reader of a Bochs log: the exceptions, the IPIs, the resets, the deaths and the register dumps.

Pure and streaming: bytes in, a BochsLog out, never an exception, in bounded memory.  It reads what
any Bochs writes at its default levels, and more when the log was made with

    debug: action=ignore, cpu0=report, apic0=report, ...

which adds each exception with its error code, CR2 of page faults, and each write to an ICR.

What becomes which event, in order, for one CPU: each exception is an EXCEPTION whose `reason` is
what the CPU logged since the one before; `exception(): 3rd (13) exception with no resolution` is a
TRIPLE_FAULT with that vector.  An exception at the tick of the death, in its chain, has the registers
of the dump: nothing is executed between the links of the chain.
"""

from __future__ import annotations

import re
from collections import deque
from dataclasses import dataclass, field, replace
from typing import Optional

from debug.evidence import ExceptionEvent, IpiEvent, Registers, ResetEvent
from debug.sources.bochs_chain import ChainReader
from debug.sources.bochs_dump import Dump, DumpBuilder, starts_dump
from debug.sources.bochs_flood import thinned
from debug.sources.bochs_ipi import IpiReader
from debug.sources.console import plain

MAX_LINE = 4096
MAX_EVENTS = 512
MAX_MESSAGES = 64
MAX_CPUS = 256
MAX_BIOS_SILENCE = 50_000_000  # ticks after its last line in which a BIOS may still be at work

_LINE = re.compile(r"(?<![0-9])([0-9]{5,20})([idep])\[([A-Za-z0-9_ ]{1,8})\] ?(.*)$")
_CPU = re.compile(r"^CPU ?([0-9A-Fa-f]{1,2}) *$")
_APIC = re.compile(r"^APIC ?([0-9A-Fa-f]{1,2}) *$")
_THIRD = re.compile(r"3rd \(([0-9]{1,3})\) exception with no resolution")
_VERSION = re.compile(r"Bochs x86 Emulator ([0-9][0-9A-Za-z.]{0,15})")
_PROCESSORS = re.compile(
    r"processors: ([0-9]{1,3}) \(cores=([0-9]{1,3}), HT threads=([0-9]{1,3})\)"
)
# A Bochs with instrumentation names each exception under no device.
_INSTRUMENTED = re.compile(
    r"CPU ([0-9]{1,3}): exception ([0-9a-f]{1,2})h(?: error_code=([0-9a-f]{1,8}))?"
)
_MEMORY = re.compile(r"^([0-9]{1,7})\.([0-9]{2})MB$")
_QUIET_MESSAGES = ("WARNING: Any simulation after", "WARNING: HLT instruction with IF=0")


@dataclass(frozen=True)
class LogLine:
    """One line: `tick` in emulator time, `level` one of i d e p, `device` as CPU0 or BIOS."""

    tick: int
    level: str
    device: str
    text: str

    @property
    def cpu(self) -> Optional[int]:
        """The CPU that wrote it; Bochs numbers CPUs in hex."""
        found = _CPU.match(self.device)
        return int(found[1], 16) if found else None

    @property
    def apic(self) -> Optional[int]:
        """The local APIC that wrote it."""
        found = _APIC.match(self.device)
        return int(found[1], 16) if found else None


def parse_line(line: str) -> Optional[LogLine]:
    """A line of the log, with whatever stands in front of it (a paste's indentation)."""
    found = _LINE.search(line[:MAX_LINE])
    if found is None:
        return None
    return LogLine(int(found[1]), found[2], found[3].strip(), found[4].rstrip())


@dataclass(frozen=True)
class Death:
    """A CPU's shutdown: `vector` is the exception that could not be resolved."""

    cpu: int
    tick: int
    vector: int
    reset: bool  # Bochs reset the machine at once: what follows is another boot
    in_firmware: bool = False  # the BIOS was at work, and had not handed over


@dataclass(frozen=True)
class BochsLog:
    """What a log holds.  `events`, `ipis` and `messages` are the last ones, in order."""

    version: str = ""
    processors: Optional[int] = None
    memory: Optional[int] = None  # bytes of RAM
    events: tuple[ExceptionEvent, ...] = ()
    ipis: tuple[IpiEvent, ...] = ()
    resets: tuple[ResetEvent, ...] = ()  # after power-on
    reset_reason: str = ""  # what was logged at the tick of the last reset
    dumps: tuple[Dump, ...] = ()  # the last one of each CPU; of a dead CPU the one at its death
    death: Optional[Death] = None
    shutdown_port: bool = False  # the guest wrote "Shutdown" to port 0x8900
    quit: bool = False  # Bochs ended in order
    booted: Optional[int] = None  # the tick at which the BIOS handed over
    panics: tuple[str, ...] = ()  # those that are no triple fault
    messages: tuple[str, ...] = ()  # of the CPUs and APICs after the BIOS, and all panics
    halted: tuple[int, ...] = ()  # CPUs that executed HLT with IF=0 and were not started again
    started: dict[int, int] = field(default_factory=dict)  # CPU: segment of its last SIPI
    lines: int = 0  # that were recognised as Bochs's
    detailed: bool = False  # it names each exception


def _in_order(lines: list[LogLine]) -> list[LogLine]:
    """The lines with a tick that stands out among its neighbours' put right.

    Time does not go back: where only one of three lines says so, a digit of it was changed.
    """
    for place in range(1, len(lines) - 1):
        before, line, after = (lines[place + step].tick for step in (-1, 0, 1))
        if before <= after and not before <= line <= after:
            lines[place] = replace(lines[place], tick=after if line > after else before)
    return lines


class LogReader:
    """Feed it the log as it comes; `result()` is what it says so far."""

    def __init__(self) -> None:
        self._carry = b""
        self._lines = 0
        self._version = ""
        self._processors: Optional[int] = None
        self._memory: Optional[int] = None
        self._chain = ChainReader(MAX_EVENTS)
        self._ipis = IpiReader()
        self._resets: deque[ResetEvent] = deque(maxlen=64)
        self._reset_reason = ""
        self._context: tuple[int, str] = (-1, "")
        self._building: dict[int, DumpBuilder] = {}
        self._dumps: dict[int, Dump] = {}
        self._deaths: dict[int, Dump] = {}
        self._death: Optional[Death] = None
        self._shutdown_port = self._quit = False
        self._booted: Optional[int] = None
        self._bios: Optional[int] = None  # the tick of the BIOS's last line in this boot
        self._panics: deque[str] = deque(maxlen=MAX_MESSAGES)
        self._unbuilt: Optional[str] = None
        self._messages: deque[str] = deque(maxlen=MAX_MESSAGES)
        self._halted: dict[int, int] = {}
        self._rebooting = False  # what comes now is the firmware's again, and no part of the end

    def feed(self, data: bytes) -> None:
        """Take the next bytes; an unfinished line waits for its end."""
        data = self._carry + data
        end = data.rfind(b"\n") + 1
        self._carry = data[end:][:MAX_LINE]
        kept, left_out = thinned(data[:end])
        self._lines += left_out
        parsed = (parse_line(line.decode("latin-1")) for line in kept.split(b"\n"))
        for line in _in_order([line for line in parsed if line is not None]):
            self._lines += 1
            self._take(line)

    @property
    def death(self) -> Optional[Death]:
        return self._death

    @property
    def booted(self) -> bool:
        """The BIOS has handed over to the guest."""
        return self._booted is not None

    @property
    def reset_seen(self) -> bool:
        """The machine was reset after power-on."""
        return bool(self._resets)

    @property
    def unbootable(self) -> Optional[str]:
        """Why the BIOS gave up, if it did."""
        for text in self._panics:
            if text.startswith("BIOS:"):
                return text
        return None

    @property
    def unbuilt(self) -> Optional[str]:
        """What the machine lacks, where Bochs gave up putting it together, before its first tick."""
        return self._unbuilt

    @property
    def lines(self) -> int:
        return self._lines

    def _take(self, line: LogLine) -> None:
        cpu = line.cpu
        if cpu is not None and cpu < MAX_CPUS:
            self._cpu_line(line, cpu)
        elif line.apic is not None:
            self._ipis.apic_line(line.tick, line.apic, line.text, self._booted is not None)
            if line.level == "e":
                self._message(line)
        else:
            self._device_line(line)
        if line.level == "p":
            self._panic(line)
        if line.level == "i" and cpu is None:
            self._context = (line.tick, f"{line.device}: {line.text}")

    def _cpu_line(self, line: LogLine, cpu: int) -> None:
        text = line.text
        if line.level == "i" and self._dump_line(line, cpu):
            return
        if found := _THIRD.search(text):
            self._die(line, cpu, int(found[1]))
            return
        if text.startswith("WARNING: HLT instruction with IF=0"):
            self._halted[cpu] = line.tick
        elif " started up " in text or "reset" in text and line.level == "i":
            self._halted.pop(cpu, None)
        self._ipis.cpu_line(line.tick, cpu, text, self._booted is not None)
        if self._rebooting:
            return
        self._chain.take(line.tick, cpu, line.level, text)
        if line.level == "e":
            self._message(line)

    def _device_line(self, line: LogLine) -> None:
        text = line.text
        if line.device == "BIOS" and line.level == "i":
            self._bios = line.tick
        if found := _INSTRUMENTED.match(text):
            told = f"exception(0x{found[2]}): error_code={found[3] or 0}"
            self._chain.take(line.tick, min(int(found[1]), MAX_CPUS), "d", told)
        elif "pc_system_c::Reset(" in text and line.tick > 0:
            self._reset(line)
        elif line.device == "BIOS" and text.startswith("Booting from"):
            self._booted = line.tick
            self._rebooting = False
            self._ipis.firmware_ends()
            self._chain.clear()
            if self._death is None:  # else they are of the life that ended
                self._messages.clear()
            self._halted.clear()
        elif "quit_sim called" in text:
            self._quit = True
        elif found := _VERSION.search(text):
            self._version = found[1]
        elif found := _PROCESSORS.search(text):
            self._processors = int(found[1]) * int(found[2]) * int(found[3])
        elif (found := _MEMORY.match(text)) and line.device.startswith("MEM"):
            self._memory = int(found[1]) << 20

    def _dump_line(self, line: LogLine, cpu: int) -> bool:
        builder = self._building.get(cpu)
        if builder is None and starts_dump(line.text) or line.text.startswith("CPU is in "):
            builder = self._building[cpu] = DumpBuilder(cpu, line.tick)
        if builder is None or not builder.add(line.text):
            return False
        if builder.complete:
            self._dumps[cpu] = builder.dump()
            del self._building[cpu]
        return True

    def _die(self, line: LogLine, cpu: int, vector: int) -> None:
        at_death = self._dumps.get(cpu)
        if at_death is not None and (at_death.tick != line.tick or at_death.after_reset):
            at_death = None
        if at_death is not None:
            self._deaths[cpu] = at_death
        else:
            self._deaths.pop(cpu, None)
        bios = self._bios if self._booted is None else None
        at_post = bios is not None and 0 <= line.tick - bios <= MAX_BIOS_SILENCE
        self._death = Death(cpu, line.tick, vector, "resetting" in line.text, at_post)
        self._chain.triple_fault(
            line.tick, cpu, vector, at_death.registers if at_death else Registers()
        )

    def _reset(self, line: LogLine) -> None:
        tick, text = self._context
        self._reset_reason = text if tick == line.tick else ""
        self._resets.append(ResetEvent(cpu=None, tick=line.tick))
        self._rebooting = True
        self._dumps.clear()
        self._building.clear()
        self._booted = self._bios = None
        self._ipis.firmware_begins()

    def _panic(self, line: LogLine) -> None:
        if "Shutdown port: shutdown requested" in line.text:
            self._shutdown_port = True
        elif "User requested shutdown" in line.text:
            self._quit = True
        elif not _THIRD.search(line.text):
            text = line.text.removeprefix(">>PANIC<<").strip()
            self._panics.append(_clean(f"{line.device}: {text}"))
            if line.tick == 0 and self._unbuilt is None:
                self._unbuilt = self._panics[-1]

    def _message(self, line: LogLine) -> None:
        text = _clean(f"{line.device}: {line.text}")
        if any(quiet in text for quiet in _QUIET_MESSAGES):
            return
        if not self._messages or self._messages[-1] != text:
            self._messages.append(text)

    def result(self) -> BochsLog:
        """What the log says so far.  An unfinished last line is not read."""
        dumps = {cpu: builder.dump() for cpu, builder in self._building.items() if builder.state}
        dumps |= self._dumps
        if self._death is not None and self._death.reset:
            # What was dumped later is another boot's.
            dumps = {cpu: dump for cpu, dump in dumps.items() if dump.tick <= self._death.tick}
        for cpu, dump in self._deaths.items():
            dumps[cpu] = replace(dump, state="in shutdown")
        return BochsLog(
            version=self._version,
            processors=self._processors,
            memory=self._memory,
            events=self._chain.events(),
            ipis=self._ipis.events(),
            resets=tuple(self._resets),
            reset_reason=_clean(self._reset_reason),
            dumps=tuple(dumps[cpu] for cpu in sorted(dumps)),
            death=self._death,
            shutdown_port=self._shutdown_port,
            quit=self._quit,
            booted=self._booted,
            panics=tuple(self._panics),
            messages=(*self._panics, *self._messages),
            halted=tuple(sorted(self._halted)),
            started=dict(self._ipis.started),
            lines=self._lines,
            detailed=self._chain.detailed,
        )


def read_log(data: bytes) -> BochsLog:
    """A whole log, its last line perhaps without an end."""
    reader = LogReader()
    reader.feed(data)
    reader.feed(b"\n")
    return reader.result()


def _clean(text: str) -> str:
    return plain(text.encode("latin-1", "replace"), 512).replace("\n", " ")
