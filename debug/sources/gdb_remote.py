# SPDX-License-Identifier: BSD-2-Clause
"""A machine behind a running GDB stub: QEMU with TCG or KVM, or anything else that speaks the
protocol.

    with Remote(":1234") as machine:
        evidence = machine.observe()

A GDB of ours does the talking (debug/gdb/server.py): the stub is not trusted, and a GDB that hangs
or dies on it is ended.  The machine stands still meanwhile and is left as it was, as far as the
stub lets one know: see `observe`.
"""

from __future__ import annotations

import json
import os
import re
import select
import shutil
import subprocess
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Mapping, Optional

from debug.evidence import (
    Cpu,
    Ending,
    Evidence,
    Memory,
    NoMemory,
    NoSymbols,
    Registers,
    Segment,
    Symbols,
)
from debug.sources import qemu_evidence
from debug.sources.errors import CommandLineError, MissingProgram, StartError
from debug.sources.qemu_evidence import CpuState
from debug.sources.qemu_text import parse_lapic

ROOT = Path(__file__).resolve().parents[2]
MAX_LINE = 4 << 20  # bytes of one answer
MAX_CPUS = 256
WHOLE = 6  # times the time for one answer: so long a stub may take for all of them
_MONITOR_CPUS = 24  # from some 30 CPUs on GDB and QEMU wait for each other's acknowledgements
_PAGE = 4096
_CONTROL = ("cr0", "cr2", "cr3", "cr4", "cr8", "efer", "fs_base", "gs_base")
_SEGMENTS = ("cs", "ss", "ds", "es", "fs", "gs")
_SETTINGS = ("-iex", "set auto-load no", "-iex", "set tcp auto-retry off")
_GENERAL = re.compile(r"r(?:[a-d]x|[sd]i|[bs]p|[89]|1[0-5])|e(?:[a-d]x|[sd]i|[bs]p)")
_TARGET = re.compile(r"[A-Za-z0-9_./:\[\]%-]{1,256}")

NO_HISTORY = "a stub tells what is, not what was: no exceptions, no IPIs"
NO_TABLES = "this stub shows no GDTR, IDTR, TR and no parts of segments but their selectors"
NO_MEMORY = "this stub reads no physical memory: page tables and descriptors are not known"


_FOREIGN = (
    "the stub's registers are not those of an x86-64 machine: it runs another architecture, or does"
    " not describe them (qXfer:features)"
)
_STRANGER = (
    "something is there, and does not answer as a GDB stub does: another program's, or a debugger"
    " holds the stub already"
)


class _Silent(StartError):
    """No answer in time."""


class Remote:
    """One stub.  Use as a context manager; leaving it parts from the stub.

    `target` as GDB's `target remote` takes it: HOST:PORT, :PORT, or the path of a socket.  Entering
    raises CommandLineError for a target that is none and StartError where nobody answers.
    """

    def __init__(
        self, target: str, timeout: float = 20.0, symbols: Optional[Symbols] = None
    ) -> None:
        self._target, self._timeout = target, timeout
        self._symbols = symbols if symbols is not None else NoSymbols()
        self._gdb: Optional[subprocess.Popen[bytes]] = None
        self._ask_fd = self._answer_fd = -1
        self._buffer = b""
        self._cpus: tuple[int, ...] = ()
        self._resume = True
        self._errors: Any = None
        self._ends = 0.0  # when all that is asked must have been answered

    def __enter__(self) -> Remote:
        if not _TARGET.fullmatch(self._target) or not (
            ":" in self._target or os.path.exists(self._target)
        ):
            raise CommandLineError(
                f"{self._target!r} is no stub: expected HOST:PORT, :PORT or the path of a socket,"
                " such as :1234 for qemu -s"
            )
        self._ends = time.monotonic() + WHOLE * self._timeout
        try:
            self._start()
            found = self._connect()
            cpus = found.get("cpus")
            numbers = [n for n in cpus if isinstance(n, int)] if isinstance(cpus, list) else []
            self._cpus = tuple(sorted(numbers))[:MAX_CPUS]
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

    @property
    def runs_on(self) -> bool:
        """Whether the machine runs on when we part; known once it was observed."""
        return self._resume

    def observe(self) -> Evidence:
        """What the machine is at this moment.

        A machine that QEMU calls shut down, or not yet started, stays so; any other runs on when we
        part, also one that was paused: a stub does not tell them apart.
        """
        status = self._monitor("info status")
        qemu = "VM status" in status
        ending = Ending.STOPPED
        limits = [NO_HISTORY]
        if "shutdown" in status or "internal-error" in status or "prelaunch" in status:
            self._resume = False
            ending = Ending.UNKNOWN if "prelaunch" not in status else Ending.STOPPED
        memory: Memory = _StubMemory(self)
        if memory.read(_PAGE, 1) is None:
            memory = NoMemory()
            limits.append(NO_MEMORY)
        cpus = self._from_monitor() if qemu and len(self._cpus) <= _MONITOR_CPUS else ()
        if not cpus:
            cpus = self._from_registers()
            limits.append(NO_TABLES)
        return Evidence(
            emulator="qemu" if qemu else "",
            accelerator=self._accelerator() if qemu else "",
            ending=ending,
            cpus=cpus,
            memory=memory,
            symbols=self._symbols,
            messages=(f"the stub's machine: {_short(status)}",) if qemu else (),
            limits=tuple(limits),
        )

    def close(self) -> None:
        """Part from the stub and end GDB.  May be repeated."""
        if self._gdb is None:
            return
        try:
            self._ask({"ask": "leave", "resume": self._resume}, 2.0)
        except StartError:
            pass
        for fd in (self._ask_fd, self._answer_fd):
            os.close(fd)
        try:
            self._gdb.wait(2.0)
        except subprocess.TimeoutExpired:
            self._gdb.kill()
            self._gdb.wait()
        self._gdb = None
        self._errors.close()

    # -- what the stub says

    def _from_monitor(self) -> tuple[Cpu, ...]:
        states = []
        for index in self._cpus:
            self._monitor(f"cpu {index}")
            text = self._monitor("info registers")
            if "CS =" not in text:
                return ()
            lapic = self._monitor("info lapic")
            apic = parse_lapic(lapic, None)
            states.append(
                CpuState(index, 0, text, lapic, apic.apic_id if apic is not None else None)
            )
        return qemu_evidence.build_cpus(states, False)

    def _from_registers(self) -> tuple[Cpu, ...]:
        cpus = []
        for index in self._cpus:
            values = self._ask({"ask": "registers", "cpu": index}).get("values")
            if isinstance(values, dict):
                cpus.append(Cpu(index, registers_of(values)))
        return tuple(cpus)

    def _accelerator(self) -> str:
        return "kvm" if "enabled" in self._monitor("info kvm") else "tcg"

    def _monitor(self, line: str) -> str:
        text = self._ask({"ask": "monitor", "line": line}).get("text")
        return text if isinstance(text, str) else ""

    def read(self, physical: int, length: int) -> Optional[bytes]:
        """Physical memory; None where the stub gives none."""
        if self._gdb is None or time.monotonic() >= self._ends:
            return None
        data = self._ask({"ask": "read", "at": physical, "length": length}).get("data")
        try:
            found = bytes.fromhex(data) if isinstance(data, str) else b""
        except ValueError:
            return None
        return found if len(found) == length else None

    # -- GDB

    def _start(self) -> None:
        gdb = shutil.which("gdb")
        if gdb is None:
            raise MissingProgram("gdb is not installed; on Debian: apt-get install gdb")
        theirs, self._ask_fd = os.pipe()
        self._answer_fd, answers = os.pipe()
        self._errors = tempfile.TemporaryFile()
        script = (
            f"import sys; sys.path.insert(0, {str(ROOT)!r});"
            f" from debug.gdb.server import serve; serve({theirs}, {answers})"
        )
        try:
            self._gdb = subprocess.Popen(
                [gdb, "-nx", "-q", "-batch", *_SETTINGS, "-ex", f"python {script}"],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=self._errors,
                pass_fds=[theirs, answers],
            )
        finally:
            os.close(theirs)
            os.close(answers)

    def _connect(self) -> Mapping[str, Any]:
        """The stub's first answer.  Raises StartError with what is there instead of a stub."""
        try:
            found = self._ask({"ask": "connect", "target": self._target})
        except _Silent:
            raise StartError(f"{self._target}: {_STRANGER}") from None
        if "error" not in found:
            return found
        error = _short(found["error"]).removeprefix(f"{self._target}: ")
        if "refused" in error or "timed out" in error:
            error = (
                "nothing listens there: qemu -s, or -gdb tcp::PORT, opens a stub, for :1234 or PORT"
            )
        elif ":" in self._target and "No such file" in error:
            error = "no such host, or port"
        elif "register" in error or "'g' packet" in error:
            error = f"{_FOREIGN} ({error})"
        elif "No such file" not in error and "ermission" not in error:
            error = f"{_STRANGER} ({error})"
        raise StartError(f"{self._target}: {error}")

    def _ask(
        self, question: Mapping[str, Any], timeout: Optional[float] = None
    ) -> Mapping[str, Any]:
        """One question, one answer.  Raises StartError when none comes."""
        deadline = min(time.monotonic() + self._timeout, self._ends)
        if timeout is not None:  # for the parting, which always has its time
            deadline = time.monotonic() + timeout
        try:
            os.write(self._ask_fd, json.dumps(question).encode() + b"\n")
        except OSError:
            raise StartError(f"{self._target}: GDB has ended") from None
        while b"\n" not in self._buffer:
            left = deadline - time.monotonic()
            ready, _, _ = select.select([self._answer_fd], [], [], max(0.0, left))
            if not ready:
                raise _Silent(f"{self._target}: the stub does not answer")
            data = os.read(self._answer_fd, 1 << 16)
            if not data or len(self._buffer) > MAX_LINE:
                raise StartError(f"{self._target}: GDB has ended")
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        answer = json.loads(line)
        return answer if isinstance(answer, dict) else {}


class _StubMemory:
    """debug.evidence.Memory of the stub's machine, which stands still: each page is read once."""

    def __init__(self, remote: Remote) -> None:
        self._remote = remote
        self._pages: dict[int, Optional[bytes]] = {}

    def read(self, physical: int, length: int) -> Optional[bytes]:
        if physical < 0 or not 0 < length <= 1 << 20:
            return None
        parts = []
        for page in range(physical // _PAGE, (physical + length - 1) // _PAGE + 1):
            if page not in self._pages:
                self._pages[page] = self._remote.read(page * _PAGE, _PAGE)
            data = self._pages[page]
            if data is None:
                return None
            parts.append(data)
        start = physical % _PAGE
        return b"".join(parts)[start : start + length]


def registers_of(values: Mapping[str, Any]) -> Registers:
    """Registers by GDB's names; of a segment only its selector is known.  Pure."""
    numbers = {name: value for name, value in values.items() if isinstance(value, int)}
    general = {}
    for name, value in numbers.items():
        if _GENERAL.fullmatch(name):
            general["r" + name[1:] if name.startswith("e") else name] = value
    control = {name: numbers[name] for name in _CONTROL if name in numbers}
    if "k_gs_base" in numbers:
        control["kernel_gs_base"] = numbers["k_gs_base"]
    wide = bool(control.get("efer", 0) & 1 << 10)
    segments = {
        name: _segment(name, numbers[name], control, wide) for name in _SEGMENTS if name in numbers
    }
    rip = numbers.get("rip", numbers.get("eip"))
    code = segments.get("cs")
    protected = bool(control.get("cr0", 0) & 1)
    if rip is not None and code is not None and "cr0" in control and not protected:
        rip &= 0xFFFF
    return replace(
        Registers(),
        rip=rip,
        rflags=numbers.get("eflags"),
        general=general,
        control=control,
        segments=segments if "cr0" in control else {},
        cpl=code.selector & 3 if code is not None and protected else None,
    )


def _segment(name: str, selector: int, control: Mapping[str, int], wide: bool) -> Segment:
    """In real mode the selector tells the base; else it is the flat segment that kernels use."""
    if not control.get("cr0", 0) & 1:
        return Segment(selector, selector << 4, 0xFFFF, 0x9B00 if name == "cs" else 0x9300)
    flags = 0x93 << 8 | 0xC0 << 16
    if name == "cs":
        flags = 0x9B << 8 | (0xA0 if wide else 0xC0) << 16
    base = control.get(f"{name}_base", 0) if name in ("fs", "gs") else 0
    return Segment(selector, base, 0xFFFFFFFF, flags)


def _short(text: Any) -> str:
    return " ".join(c for c in str(text).split() if c.isprintable())[:200]
