# SPDX-License-Identifier: BSD-2-Clause
"""`lamppost run` in a terminal: keys reach the guest, Ctrl-C is heard, the terminal is given back."""

from __future__ import annotations

import os
import pty
import re
import select
import subprocess
import termios
import time
from pathlib import Path
from typing import Any, Callable, Iterator

import pytest

from debug.cli.exit_codes import ExitCode
from tests.python.cli.machines import EXIT_DEVICE, LIMIT, Scene, boot_sector, qemu

pytestmark = pytest.mark.emulator


class Terminal:
    """A pseudo-terminal with `lamppost run` in it, in the foreground."""

    def __init__(self, scene: Scene, *words: str) -> None:
        self.scene, self.said = scene, b""
        self._ours, theirs = pty.openpty()
        self.before = self._settings(theirs)
        self._theirs = theirs
        self.child = subprocess.Popen(
            ["setsid", "--ctty", *scene.argv("--", *words)],
            cwd=scene.folder,
            env=scene.environment,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
        )

    @staticmethod
    def _settings(fd: int) -> list[Any]:
        return termios.tcgetattr(fd)

    def until(self, pattern: bytes) -> None:
        deadline = time.monotonic() + LIMIT
        while not re.search(pattern, self.said):
            assert time.monotonic() < deadline, self.said
            if select.select([self._ours], [], [], 0.1)[0]:
                self.said += os.read(self._ours, 4096)

    def type(self, keys: bytes) -> None:
        os.write(self._ours, keys)

    def end(self) -> int:
        """The exit code; everything is left as it was."""
        deadline = time.monotonic() + LIMIT
        while self.child.poll() is None and time.monotonic() < deadline:
            if select.select([self._ours], [], [], 0.1)[0]:
                self.said += os.read(self._ours, 4096)
        code = self.child.wait(1)
        assert self._settings(self._theirs) == self.before
        os.close(self._ours)
        os.close(self._theirs)
        self.scene.nothing_is_left()
        return code


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Callable[..., Terminal]]:
    """Opens terminals; what a failed test leaves in one is ended."""
    terminals: list[Terminal] = []

    def one(*words: str) -> Terminal:
        terminals.append(Terminal(Scene(tmp_path), *words))
        return terminals[-1]

    yield one
    for terminal in terminals:
        if terminal.child.poll() is None:
            terminal.child.terminate()  # it ends its QEMU
            terminal.child.wait(LIMIT)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    return boot_sector(tmp_path, "serial.asm", "GUEST=1")


def test_keys_go_to_the_serial_port_and_ctrl_c_ends_with_a_report(
    image: Path, opened: Callable[..., Terminal]
) -> None:
    terminal = opened(*qemu(image, "-serial", "stdio"))
    terminal.until(b"ready")
    terminal.type(b"x\r")
    terminal.until(b"78 0d")  # unchanged: a raw terminal
    terminal.type(b"\x03")
    assert terminal.end() == ExitCode.INTERRUPTED
    assert b"CPU 0" in terminal.said or b"healthy" in terminal.said
    assert b"03" not in terminal.said.split(b"78 0d")[1].split(b"\n")[0]


def test_with_mon_stdio_ctrl_c_goes_to_the_guest(
    image: Path, opened: Callable[..., Terminal]
) -> None:
    words = qemu(image, "-serial", "mon:stdio", *EXIT_DEVICE)
    terminal = opened(*words)
    terminal.until(b"ready")
    terminal.type(b"\x03")
    terminal.until(b"03")
    terminal.type(b"q")
    assert terminal.end() == ExitCode.HEALTHY


def test_with_nographic_the_monitor_is_there_and_ctrl_a_x_ends_with_a_report(
    image: Path, opened: Callable[..., Terminal]
) -> None:
    terminal = opened(*qemu(image, "-nographic"))
    terminal.until(b"ready")
    terminal.type(b"\x01c")
    terminal.until(b"(qemu)")
    terminal.type(b"\x01")
    terminal.type(b"x")
    assert terminal.end() == ExitCode.INTERRUPTED
    assert b"CPU 0" in terminal.said or b"healthy" in terminal.said


def test_a_machine_at_a_terminal_is_not_stopped_for_being_idle(
    image: Path, opened: Callable[..., Terminal]
) -> None:
    """It polls for a key: no register changes, and it is not for a clock to end it."""
    terminal = opened(*qemu(image, "-serial", "stdio", *EXIT_DEVICE))
    terminal.until(b"ready")
    time.sleep(4)  # twice what is called idle
    assert terminal.child.poll() is None
    terminal.type(b"q")
    assert terminal.end() == ExitCode.HEALTHY
