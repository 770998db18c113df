# SPDX-License-Identifier: BSD-2-Clause
"""Machines for the boot tests: QEMU and Bochs, started from argv lists and always ended.

What a guest writes to port 0xE9 and COM1 arrives through pipes, so that a test waits for bytes and
not for time.
"""

from __future__ import annotations

import os
import selectors
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Callable, Optional, Sequence

from debug.sources.qmp import QmpClient
from tests.boot.gdbstub import GdbStub

DEADLINE = 60.0  # seconds for one boot, on a machine that does other things too
MAX_STREAM = 8 << 20  # bytes; a guest that writes more is out of order
LOW_MEMORY = 2 << 20  # bytes: the first MiB with the record, the second with the BSP's entries

DIES_WITH_US = ("setpriv", "--pdeathsig", "KILL", "--")
QEMU = "qemu-system-x86_64"
SINGLE = "tcg,thread=single"  # 64 vCPUs boot in half a second; with threads on 2 cores in ten


@dataclass(frozen=True)
class Boot:
    """A boot that is over.  `exit_code` is None if the deadline passed."""

    exit_code: Optional[int]
    e9: bytes
    com1: bytes
    messages: str  # the emulator's own


class Machine:
    """A running emulator.  Use as a context manager; leaving it kills the process group."""

    def __init__(
        self,
        argv: Callable[[Streams], Sequence[str]],
        environment: Optional[dict[str, str]] = None,
        e9_is_stdout: bool = False,
    ) -> None:
        self.e9 = bytearray()
        self.com1 = bytearray()
        self._messages = bytearray()
        self._selector = selectors.DefaultSelector()
        self._streams = Streams()
        try:
            words = list(argv(self._streams))
            if shutil.which(words[0]) is None:
                raise FileNotFoundError(f"{words[0]} is not installed (make setup)")
            self._child = subprocess.Popen(
                [*DIES_WITH_US, *words],
                stdin=subprocess.DEVNULL,
                stdout=self._streams.e9_write if e9_is_stdout else subprocess.PIPE,
                stderr=subprocess.PIPE,
                pass_fds=self._streams.inherited,
                start_new_session=True,
                env={**os.environ, **(environment or {})},
            )
        except BaseException:
            self._streams.close()
            raise
        self._watch(self._streams.e9_read, self.e9)
        self._watch(self._streams.com1_read, self.com1)
        for pipe in (self._child.stdout, self._child.stderr):
            if pipe is not None:
                self._watch(pipe.fileno(), self._messages)
        self._streams.close_inherited()
        self.qmp: Optional[QmpClient] = None
        self.gdb: Optional[GdbStub] = None
        try:
            if self._streams.qmp is not None:
                self.qmp = QmpClient(self._streams.qmp, lambda: self._pump(0))
                self.qmp.handshake(DEADLINE)
            if self._streams.gdb is not None:
                self.gdb = GdbStub(self._streams.gdb, lambda: self._pump(0))
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Machine:
        return self

    def __exit__(
        self,
        kind: Optional[type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the machine and everything that belongs to it."""
        try:
            os.killpg(self._child.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self._child.wait()
        for pipe in (self._child.stdout, self._child.stderr):
            if pipe is not None:
                pipe.close()
        self._selector.close()
        self._streams.close()
        if self.qmp:
            self.qmp.close()

    @property
    def messages(self) -> str:
        """What the emulator itself said."""
        return self._messages.decode("utf-8", "replace")

    def wait_until(self, done: Callable[[], bool], what: str, seconds: float = DEADLINE) -> None:
        """Collect output until done() or the end of the process; fails at the deadline."""
        deadline = time.monotonic() + seconds
        while not done():
            left = deadline - time.monotonic()
            if left <= 0 or not self._selector.get_map():
                tail = bytes(self.e9[-2000:]).decode("latin-1")
                why = "in time" if left <= 0 else "before the machine ended"
                raise AssertionError(f"{what} did not come {why}; {self.messages}\n{tail}")
            self._pump(left)

    def run(self, seconds: float = DEADLINE) -> Boot:
        """Collect output until the machine ends by itself."""
        deadline = time.monotonic() + seconds
        while self._selector.get_map():
            left = deadline - time.monotonic()
            if left <= 0:
                return Boot(None, bytes(self.e9), bytes(self.com1), self.messages)
            self._pump(left)
        code = self._child.wait(max(0.1, deadline - time.monotonic()))
        return Boot(code, bytes(self.e9), bytes(self.com1), self.messages)

    def low_memory(self) -> bytes:
        """The first LOW_MEMORY bytes of physical memory.  The machine must be stopped."""
        assert self.qmp is not None
        with tempfile.TemporaryDirectory(prefix="lamppost-test-") as directory:
            path = Path(directory) / "memory"
            self.qmp.command(
                "pmemsave", {"val": 0, "size": LOW_MEMORY, "filename": str(path)}, DEADLINE
            )
            return path.read_bytes()

    def _watch(self, fd: int, into: bytearray) -> None:
        os.set_blocking(fd, False)
        self._selector.register(fd, selectors.EVENT_READ, into)

    def _pump(self, timeout: float) -> None:
        for key, _ in self._selector.select(timeout):
            try:
                data = os.read(key.fd, 1 << 16)
            except BlockingIOError:
                continue
            if not data:
                self._selector.unregister(key.fd)
            elif len(key.data) < MAX_STREAM:
                key.data.extend(data)


class Streams:
    """The file descriptors that connect us to one machine."""

    def __init__(self) -> None:
        self.e9_read, self.e9_write = os.pipe()
        self.com1_read, self.com1_write = os.pipe()
        self.qmp: Optional[socket.socket] = None
        self.gdb: Optional[socket.socket] = None
        self._theirs: list[socket.socket] = []

    def socket(self, name: str) -> int:
        """A connected socket whose other end we keep as self.qmp or self.gdb."""
        ours, theirs = socket.socketpair()
        setattr(self, name, ours)
        self._theirs.append(theirs)
        return theirs.fileno()

    @property
    def inherited(self) -> list[int]:
        return [self.e9_write, self.com1_write, *(end.fileno() for end in self._theirs)]

    def close_inherited(self) -> None:
        """Close the machine's ends, so that reading ours ends with the machine."""
        for fd in (self.e9_write, self.com1_write):
            if fd >= 0:
                os.close(fd)
        self.e9_write = self.com1_write = -1
        for end in self._theirs:
            end.close()
        self._theirs = []

    def close(self) -> None:
        self.close_inherited()
        for fd in (self.e9_read, self.com1_read):
            if fd >= 0:
                os.close(fd)
        self.e9_read = self.com1_read = -1
        for end in (self.qmp, self.gdb):
            if end is not None:
                end.close()


def qemu(
    image: Sequence[str],
    cpus: str,
    extra: Sequence[str] = (),
    qmp: bool = False,
    gdb: bool = False,
    emulator: str = QEMU,
) -> Machine:
    """A QEMU machine; `image` is what it boots, `cpus` the value of -smp.

    With `gdb` it waits for the stub's first command.
    """

    def argv(streams: Streams) -> list[str]:
        words = [emulator, *image, "-smp", cpus, "-display", "none", "-nic", "none", "-no-reboot"]
        words += ["-device", "isa-debug-exit,iobase=0xf4,iosize=0x04"]
        words += ["-debugcon", f"file:/dev/fd/{streams.e9_write}"]
        words += ["-serial", f"file:/dev/fd/{streams.com1_write}"]
        if qmp:
            words += ["-chardev", f"socket,id=qmp,fd={streams.socket('qmp')}"]
            words += ["-mon", "chardev=qmp,mode=control"]
        if gdb:
            words += ["-chardev", f"socket,id=gdb,fd={streams.socket('gdb')}"]
            words += ["-gdb", "chardev:gdb", "-S"]
        return [*words, *extra]

    return Machine(argv)


def kernel_image(build: Path, options: str) -> list[str]:
    """The kernel itself, loaded by QEMU as Multiboot 1."""
    return ["-kernel", str(build / "lamppost.elf"), "-append", options]


def bochs(iso: Path, cpus: int, directory: Path, model: str = "corei7_haswell_4770") -> Machine:
    """A Bochs machine that boots an ISO; its log goes to `directory`/bochs.log."""
    script = directory / "commands"
    script.write_text("continue\nquit\n", encoding="ascii")

    def argv(streams: Streams) -> list[str]:
        settings = [
            "display_library: sdl2",
            "romimage: file=/usr/share/bochs/BIOS-bochs-latest",
            "vgaromimage: file=/usr/share/bochs/VGABIOS-lgpl-latest",
            "megs: 64",
            # Few instructions a second: the waits of firmware and loader are short then.
            f"cpu: count={cpus}, model={model}, ips=4000000, ignore_bad_msrs=1, "
            "reset_on_triple_fault=0",
            f"ata0-master: type=cdrom, path={iso}, status=inserted",
            "boot: cdrom",
            "port_e9_hack: enabled=1",
            f"com1: enabled=1, mode=file, dev=/dev/fd/{streams.com1_write}",
            f"log: {directory / 'bochs.log'}",
            "panic: action=fatal",
        ]
        (directory / "bochsrc").write_text("\n".join(settings) + "\n", encoding="utf-8")
        return ["bochs", "-q", "-f", str(directory / "bochsrc"), "-rc", str(script)]

    return Machine(argv, {"SDL_VIDEODRIVER": "dummy"}, e9_is_stdout=True)
