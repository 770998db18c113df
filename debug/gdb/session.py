# SPDX-License-Identifier: BSD-2-Clause
"""`make gdb`: a stopped QEMU and a GDB on it that knows every CPU's mode.

Starts both, waits for GDB to end, and leaves nothing behind.  The gdbstub is a unix socket in a
directory that only the user can enter; QEMU's control connection is an inherited socket pair.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType
from typing import Optional, Sequence

from debug.cli.errors import CommandError
from debug.cli.exit_codes import ExitCode
from debug.gdb.config import Config
from debug.gdb.options import command_line, gdb_arguments, parse, qemu_arguments
from debug.gdb.places import base_of
from debug.kernel.machine import load_offset
from debug.sources.command_line import Additions, Launch, plan
from debug.sources.console import plain
from debug.sources.elf_symbols import ElfFile, SymbolError
from debug.sources.errors import CommandLineError, StartError
from debug.sources.qemu_process import Process, find_emulator, log_items
from debug.sources.qemu_readout import version_of
from debug.sources.qmp import QmpClient, QmpError
from debug.sources.scratch import Scratch
from debug.terminal import coloured

ROOT = Path(__file__).resolve().parents[2]
START_TIMEOUT = 30.0  # seconds for QEMU to greet: its host may be busy
POLL = 0.1  # seconds between looks at what QEMU writes while GDB has the terminal


class Session:
    """One run.  Use as a context manager: leaving it ends both programs and removes the files."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        self._directory = ""
        self._qemu: Optional[Process] = None
        self._gdb: Optional[subprocess.Popen[bytes]] = None
        self._errors = bytearray()

    def __enter__(self) -> Session:
        self._scratch = Scratch()
        self._directory = self._scratch.path
        return self

    def __exit__(self, *_: object) -> None:
        try:
            if self._gdb is not None and self._gdb.poll() is None:
                self._gdb.kill()
                self._gdb.wait()
        finally:
            if self._qemu is not None:
                self._qemu.end()
            self._scratch.remove()

    def run(self) -> int:
        """GDB's exit code.  Raises CommandError."""
        options = self._options
        kernel, trampoline = _files(options)
        gdb = shutil.which("gdb")
        if gdb is None:
            message = "gdb: not found; on Debian: apt-get install gdb"
            raise CommandError(message, ExitCode.MISSING_TOOL)
        try:
            base = options.trampoline if options.trampoline else base_of(options.options)
        except ValueError as error:
            raise CommandError(f"--options: trampoline={error}", ExitCode.USAGE) from error
        ours, theirs = socket.socketpair()
        with ours:
            launch, version = self._start_qemu(ours, theirs, kernel)
            config = Config(
                socket=self._stub(),
                kernel=str(kernel),
                offset=load_offset(kernel),
                trampoline=str(trampoline) if trampoline is not None else None,
                base=base,
                colour=coloured(sys.stdout),
                qmp_fd=ours.fileno(),
                version=version,
                launch=launch,
            )
            path = Path(self._directory, "session.json")
            config.save(path)
            patched = kernel.parent / "tree"  # a lab is built from a copy
            sources = patched if patched.is_dir() else None
            arguments = gdb_arguments(gdb, ROOT, path, options.batch, sources)
            self._gdb = subprocess.Popen(
                arguments,
                pass_fds=[ours.fileno()],
                stdin=subprocess.DEVNULL if options.batch else None,
            )
        return self._wait(self._gdb)

    def _stub(self) -> str:
        return os.path.join(self._directory, "gdb")

    def _start_qemu(
        self, ours: socket.socket, theirs: socket.socket, kernel: Path
    ) -> tuple[Launch, str]:
        options = self._options
        try:
            with theirs:
                emulator = find_emulator(options.qemu)
                launch = plan(
                    qemu_arguments(emulator, options, str(kernel), self._stub()),
                    Additions(
                        qmp_fd=theirs.fileno(),
                        directory=self._directory,
                        log_per_thread="tid" in log_items(emulator),
                    ),
                )
                self._qemu = Process(launch.argv, theirs)
            duplicate = QmpClient(ours.dup())
            try:
                duplicate.handshake(START_TIMEOUT)
                return launch, version_of(duplicate.greeting)
            finally:
                duplicate.close()
        except CommandLineError as error:
            raise CommandError(str(error), ExitCode.USAGE) from error
        except StartError as error:
            raise CommandError(str(error), ExitCode.MISSING_TOOL) from error
        except QmpError as error:
            raise CommandError(f"QEMU did not start: {self._said() or error}") from error

    def _said(self) -> str:
        """What QEMU wrote on standard error."""
        if self._qemu is not None:
            self._qemu.wait(1.0)
            self._errors += self._qemu.read_stderr()
        return plain(bytes(self._errors), 2000).strip()

    def _wait(self, gdb: subprocess.Popen[bytes]) -> int:
        """Until GDB ends, or until the deadline of a batch run."""
        timeout = self._options.timeout
        deadline = time.monotonic() + timeout if self._options.batch and timeout else None
        assert self._qemu is not None
        while True:
            try:
                code = gdb.wait(POLL)
                return code if code >= 0 else 128 - code
            except subprocess.TimeoutExpired:
                pass
            self._qemu.read_stdout()
            self._errors += self._qemu.read_stderr()
            del self._errors[: -(64 << 10)]
            if deadline is not None and time.monotonic() >= deadline:
                raise CommandError(
                    f"the batch did not end within {timeout:g} s and was ended",
                    ExitCode.HANG,
                )


def _files(options: argparse.Namespace) -> tuple[Path, Optional[Path]]:
    """The kernel and its trampoline's ELF, which may be missing."""
    kernel = Path(options.kernel) if options.kernel else ROOT / "build/lamppost.elf"
    if not kernel.is_file():
        raise CommandError(f"{kernel}: no such file; `make kernel` builds it")
    try:
        ElfFile(kernel)
    except SymbolError as error:
        raise CommandError(str(error)) from error
    given = options.trampoline_elf
    trampoline = Path(given) if given else kernel.parent / "trampoline.elf"
    if given and not trampoline.is_file():
        raise CommandError(f"{trampoline}: no such file")
    return kernel.resolve(), trampoline.resolve() if trampoline.is_file() else None


def _leave(number: int, frame: Optional[FrameType]) -> None:
    raise SystemExit(128 + number)


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """Entry point: the exit code."""
    options = parse(command_line(), sys.argv[1:] if arguments is None else arguments)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _leave)
    if options.batch:
        signal.signal(signal.SIGINT, _leave)
    else:
        # Ctrl-C is GDB's: it stops the guest.  A handler, not SIG_IGN, which GDB would inherit.
        signal.signal(signal.SIGINT, lambda *_: None)
    try:
        with Session(options) as session:
            return session.run()
    except CommandError as error:
        print(f"lamppost gdb: {error}", file=sys.stderr)
        return error.code


if __name__ == "__main__":
    sys.exit(main())
