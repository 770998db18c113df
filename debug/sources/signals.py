# SPDX-License-Identifier: BSD-2-Clause
"""Signals while a machine is under observation: nothing may be left behind, whichever comes.

SIGTERM, SIGHUP and SIGQUIT end this process through its exception handlers, not around them.  The
first Ctrl-C only asks for the end: what the machine does at that moment is still explained.  The
second one is a KeyboardInterrupt.
"""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any, Optional

_ENDING = (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)


class Signals:
    """Handlers from `catch()` to `restore()`; only in the main thread, where they work."""

    def __init__(self) -> None:
        self._before: dict[signal.Signals, Any] = {}
        self.interrupted = False  # Ctrl-C came

    def catch(self) -> None:
        if threading.current_thread() is not threading.main_thread():
            return
        for number in _ENDING:
            if signal.getsignal(number) is signal.SIG_DFL:
                self._before[number] = signal.signal(number, _leave)
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            self._before[signal.SIGINT] = signal.signal(signal.SIGINT, self._interrupt)

    def ignore(self) -> None:
        """What comes from now on until `restore` does not disturb the tidying up, which ends soon."""
        for number in self._before:
            signal.signal(number, signal.SIG_IGN)

    def restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()

    def _interrupt(self, number: int, frame: Optional[FrameType]) -> None:
        if self.interrupted:
            raise KeyboardInterrupt
        self.interrupted = True


def _leave(number: int, frame: Optional[FrameType]) -> None:
    raise SystemExit(128 + number)
