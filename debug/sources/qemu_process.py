# SPDX-License-Identifier: BSD-2-Clause
"""One QEMU process: started, listened to, and ended whatever happens."""

from __future__ import annotations

import ctypes
import functools
import os
import signal
import socket
import subprocess
import time
from typing import Callable, Optional, Sequence

from debug.sources.errors import StartError
from debug.sources.programs import find_program

_PR_SET_PDEATHSIG = 1


def find_emulator(name: str) -> str:
    """The absolute path of the emulator.  Raises StartError."""
    return find_program(name, "qemu-system-x86")


def log_items(emulator: str) -> frozenset[str]:
    """The items that this QEMU's `-d` knows; empty if it doesn't say."""
    return _help(emulator, "-d")


def has_windows(emulator: str) -> bool:
    """Whether this QEMU opens a window by itself, and not a VNC server on a port."""
    return bool({"gtk", "sdl", "cocoa"} & _help(emulator, "-display"))


@functools.lru_cache(maxsize=8)
def _help(emulator: str, option: str) -> frozenset[str]:
    """The first word of each line that QEMU prints about the values of an option."""
    try:
        done = subprocess.run(
            [emulator, option, "help"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=10,
            check=False,
        )
    except (OSError, subprocess.SubprocessError):
        return frozenset()
    text = done.stdout.decode("ascii", "replace")
    return frozenset(line.split()[0] for line in text.splitlines() if line.strip())


def _die_with_parent(libc: ctypes.CDLL, parent: int) -> Callable[[], None]:
    def prepare() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)  # the parent died before the request took hold

    return prepare


class Process:
    """The child, in a process group of its own; it dies with the thread that started it.

    stdout and stderr are non-blocking pipes; stdin is empty, or a pipe that whoever takes its
    descriptor from `stdin` owns.  Raises StartError.
    """

    def __init__(
        self, argv: Sequence[str], inherited: socket.socket, with_stdin: bool = False
    ) -> None:
        libc = ctypes.CDLL(None)
        self.stdin: Optional[int] = None
        try:
            self._child = subprocess.Popen(
                list(argv),
                stdin=subprocess.PIPE if with_stdin else subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                pass_fds=[inherited.fileno()],
                start_new_session=True,
                preexec_fn=_die_with_parent(libc, os.getpid()),
            )
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            why = error.strerror if isinstance(error, OSError) else None
            raise StartError(f"{argv[0]}: {why or error}") from None
        if self._child.stdin is not None:
            self.stdin = os.dup(self._child.stdin.fileno())
            self._child.stdin.close()
        assert self._child.stdout is not None and self._child.stderr is not None
        self._out = self._child.stdout.fileno()
        self._err = self._child.stderr.fileno()
        os.set_blocking(self._out, False)
        os.set_blocking(self._err, False)

    def exit_code(self) -> Optional[int]:
        """None while it runs; negative: ended by that signal."""
        return self._child.poll()

    def wait(self, timeout: float) -> Optional[int]:
        """Wait up to `timeout` seconds for the end; None if it has not come."""
        try:
            return self._child.wait(timeout)
        except subprocess.TimeoutExpired:
            return None

    def read_stdout(self) -> bytes:
        return _drain(self._out)

    def read_stderr(self) -> bytes:
        return _drain(self._err)

    def end(self) -> None:
        """Kill the whole group, if anything of it is left, and close the pipes."""
        try:
            os.killpg(self._child.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            pass
        deadline = time.monotonic() + 5
        while self._child.poll() is None and time.monotonic() < deadline:
            self.wait(0.1)
        for pipe in (self._child.stdout, self._child.stderr):
            if pipe is not None:
                pipe.close()


def _drain(fd: int, limit: int = 1 << 20) -> bytes:
    parts: list[bytes] = []
    left = limit
    while left > 0:
        try:
            data = os.read(fd, min(left, 1 << 16))
        except (BlockingIOError, InterruptedError):
            break
        except OSError:
            break
        if not data:
            break
        parts.append(data)
        left -= len(data)
    return b"".join(parts)
