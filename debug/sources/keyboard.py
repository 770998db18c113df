# SPDX-License-Identifier: BSD-2-Clause
"""Standard input for an emulator whose command line uses it: a serial port or a monitor there.

The emulator gets a pipe and we keep the terminal, which is as it was when the emulator is killed.
"""

from __future__ import annotations

import os
import select
import termios
from typing import Any, Optional

STDIN = 0
_CTRL_A, _QUIT = 1, ord("x")
_CHUNK = 4096
_MAX_HELD = 64 << 10  # bytes that the guest has not read yet


class Keyboard:
    """Passes standard input on to the descriptor `pipe`, which it owns.

    `signals`: Ctrl-C stays ours; else it goes to the guest, as with QEMU's `mon:stdio`.
    `ctrl_a`: Ctrl-A X, by which QEMU would be gone with all that there is to read, only sets `ended`.
    """

    def __init__(self, pipe: int, signals: bool, ctrl_a: bool = False) -> None:
        self.ended = False
        self._ctrl_a = ctrl_a
        self._escaped = False  # Ctrl-A came last
        self._pipe: Optional[int] = pipe
        os.set_blocking(pipe, False)
        self._held = b""
        self._saved: Optional[list[Any]] = None
        self._open = _is_ours_to_read()
        if self._open and os.isatty(STDIN):
            self._saved = _raw(signals)

    def pump(self) -> None:
        """Pass on what was typed.  Never blocks."""
        if self._pipe is None:
            return
        try:
            if self._open and len(self._held) < _MAX_HELD:
                if select.select([STDIN], [], [], 0)[0]:
                    data = os.read(STDIN, _CHUNK)
                    self._open = bool(data)
                    self._held += self._unended(data)
            if self._held:
                self._held = self._held[os.write(self._pipe, self._held) :]
        except BlockingIOError:
            return
        except (OSError, ValueError):
            self._open, self._held = False, b""
        if not self._open and not self._held:
            os.close(self._pipe)
            self._pipe = None

    def _unended(self, data: bytes) -> bytes:
        """What of the keys is QEMU's: those before Ctrl-A X."""
        for place, key in enumerate(data if self._ctrl_a else b""):
            if self._escaped and key == _QUIT:
                self.ended = True
                return data[:place]
            self._escaped = key == _CTRL_A and not self._escaped
        return data

    def close(self) -> None:
        """Give the terminal back as it was.  May be repeated."""
        if self._pipe is not None:
            os.close(self._pipe)
            self._pipe = None
        if self._saved is not None:
            try:
                termios.tcsetattr(STDIN, termios.TCSANOW, self._saved)
            except termios.error:
                pass  # the terminal is gone
            self._saved = None


def _is_ours_to_read() -> bool:
    """A background job must not read its terminal: it would be stopped."""
    try:
        return not os.isatty(STDIN) or os.tcgetpgrp(STDIN) == os.getpgrp()
    except OSError:
        return False


def _raw(signals: bool) -> Optional[list[Any]]:
    """Every key at once and unchanged, output as before; the settings until now."""
    try:
        saved = termios.tcgetattr(STDIN)
        now = termios.tcgetattr(STDIN)
        now[0] &= ~(termios.ISTRIP | termios.INLCR | termios.IGNCR | termios.ICRNL | termios.IXON)
        now[3] &= ~(termios.ECHO | termios.ECHONL | termios.ICANON | termios.IEXTEN)
        if not signals:
            now[3] &= ~termios.ISIG
        termios.tcsetattr(STDIN, termios.TCSANOW, now)
    except termios.error:
        return None
    return saved
