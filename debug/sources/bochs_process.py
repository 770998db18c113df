# SPDX-License-Identifier: BSD-2-Clause
"""One Bochs process and its internal debugger on pipes.

Nothing that the guest prints can be told from the debugger's own text while the machine runs, so a
prompt in the output is only a hint: the debugger is known to listen when it has answered a
question with a number that the guest can't know.
"""

from __future__ import annotations

import ctypes
import os
import re
import secrets
import select
import signal
import subprocess
import time
from typing import Callable, Mapping, Optional, Sequence

from debug.sources.errors import StartError

_PR_SET_PDEATHSIG = 1
_PROMPT = re.compile(rb"<bochs:[0-9]+> $")
_STOP_LINE = re.compile(
    rb"(?:\([0-9]{1,3}\)(?:\.\[[0-9]+\] \[| [A-Z])|bx_dbg_|WARNING: Offset )[^\n]*\n?$"
)
_MAX_ANSWER = 64 << 20
_MAX_ERRORS = 64 << 10
_BURST = 0.03  # seconds without output after which what came is the guest's
_PATIENCE = 1.0  # seconds after which a prompt that answers nothing is the guest's
_STOP_SIZE = 16 << 10  # bytes: more than the debugger says at a stop
_READ = 1 << 16


class DebuggerError(Exception):
    """The debugger did not answer, or has ended."""


class BochsProcess:
    """The child, in a process group of its own; it dies with the thread that started it.

    `environment` is added to ours.  While the machine runs, what the guest prints goes to
    `on_output`, without the debugger's own text.  Raises StartError.
    """

    def __init__(
        self,
        argv: Sequence[str],
        environment: Mapping[str, str],
        on_output: Callable[[bytes], None],
    ) -> None:
        libc = ctypes.CDLL(None)
        parent = os.getpid()

        def die_with_parent() -> None:
            libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != parent:
                os._exit(1)  # the parent died before the request took hold

        try:
            self._child = subprocess.Popen(
                list(argv),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env={**os.environ, **environment},
                start_new_session=True,
                preexec_fn=die_with_parent,
            )
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            raise StartError(f"{argv[0]}: {error}") from None
        assert self._child.stdin and self._child.stdout and self._child.stderr
        self._in, self._out = self._child.stdin.fileno(), self._child.stdout.fileno()
        self._err = self._child.stderr.fileno()
        for fd in (self._in, self._out, self._err):
            os.set_blocking(fd, False)
        self._on_output = on_output
        self._text = b""  # output not yet handed on
        self._last_read = 0.0
        self._question: Optional[int] = None
        self._asked: list[bytes] = []  # since it ran last, as Bochs echoes them
        self._asked_at = 0.0
        self._echo = b""  # the command whose echo comes first
        self._started = False  # before that all output is Bochs's own
        self.banner = b""
        self._out_open = self._err_open = True
        self.errors = b""  # the tail of stderr
        self.stopped = False  # the debugger listens
        self.stop_text = b""  # what it said when it stopped last

    # -- the process

    def exit_code(self) -> Optional[int]:
        """None while it runs; negative: ended by that signal."""
        return self._child.poll()

    @property
    def pid(self) -> int:
        return self._child.pid

    def wait(self, timeout: float) -> Optional[int]:
        """Wait for the end for up to `timeout` seconds, reading on."""
        deadline = time.monotonic() + timeout
        while self._child.poll() is None and time.monotonic() < deadline:
            self._collect(0.02)
        return self._child.poll()

    def end(self) -> None:
        """Kill the whole group, if anything of it is left, and close the pipes."""
        try:
            os.killpg(self._child.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            pass
        try:
            self._child.wait(5)
        except subprocess.TimeoutExpired:
            pass
        for pipe in (self._child.stdin, self._child.stdout, self._child.stderr):
            if pipe is not None:
                try:
                    pipe.close()
                except OSError:
                    pass

    # -- running

    def pump(self, timeout: float) -> None:
        """Read for up to `timeout` seconds; `stopped` says whether the debugger took over."""
        had = len(self._text)
        self._collect(timeout)
        if self.stopped:
            return
        now = time.monotonic()
        if len(self._text) != had:
            self._last_read = now
        if self._question is not None:
            if self._look_for_answer() or now - self._asked_at < _PATIENCE:
                return
        elif _PROMPT.search(self._text, max(0, len(self._text) - 64)) is not None:
            self._ask(now)
            return
        self._hand_on(now)

    def go(self, command: str = "c") -> None:
        """Let the machine run."""
        self._started = True
        self.stopped = False
        self._text = b""
        self._echo = command.encode() + b"\n"
        self._send(command)

    def interrupt(self, timeout: float) -> bool:
        """Stop the machine.  False when it does not stop in time.

        A signal that comes before Bochs has begun to run, it forgets; one that comes while it reads
        a line takes the line's end, and it runs nothing.  So none is sent before the command was
        read, and it is asked whether it listens before the next one.
        """
        deadline = time.monotonic() + timeout
        while not self.stopped and self._unread() and time.monotonic() < deadline:
            self.pump(_BURST)
        patience = _PATIENCE / 2
        while not self.stopped and self._out_open and time.monotonic() < deadline:
            try:
                os.kill(self._child.pid, signal.SIGINT)
            except ProcessLookupError:
                break
            self.wait_stop(patience)
            if not self.stopped:
                self._ask(time.monotonic())
                self.wait_stop(patience)
            patience *= 2
        return self.stopped

    def wait_stop(self, timeout: float) -> bool:
        """Wait until the debugger listens."""
        deadline = time.monotonic() + timeout
        while not self.stopped and self._out_open:
            left = deadline - time.monotonic()
            if left <= 0:
                break
            self.pump(min(0.05, left))
        return self.stopped

    def flush(self) -> None:
        """Hand on what is held back: the process has ended."""
        if not self.stopped:
            text, self._text = self._strip_echo(self._text), b""
            self._give(text[: _stop_begins(text)])

    def _unread(self) -> bool:
        """Bochs has not yet read the command that runs the machine."""
        return bool(self._echo) and self._out_open and not self._text.startswith(self._echo)

    def _ask(self, now: float) -> None:
        number = secrets.randbits(62) | 1 << 61
        self._question = number
        self._asked.append(b"? 0x%x" % number)
        self._asked_at = now
        self._send("? 0x%x" % number)

    def _look_for_answer(self) -> bool:
        assert self._question is not None
        at = self._text.find(_answer(self._question))
        if at < 0 or _PROMPT.search(self._text, at) is None:
            return False
        # In front of it: guest text, what the debugger said, its prompt, the question's echo, or
        # that of an earlier one.
        echoes = [found for asked in self._asked if (found := self._text.find(asked, 0, at)) >= 0]
        before = self._strip_echo(self._text[: min(echoes, default=at)])
        before = _PROMPT.sub(b"", before)
        stop = _stop_begins(before)
        self.stop_text = before[stop:]
        self.stopped = True
        self._question, self._text = None, b""
        self._asked.clear()
        self._give(before[:stop])
        return True

    def _strip_echo(self, text: bytes) -> bytes:
        if self._echo and text.startswith(self._echo):
            text = text[len(self._echo) :]
            self._echo = b""
        return text

    def _hand_on(self, now: float) -> None:
        """Give guest text away.  A stop comes in one burst: its words are kept until its prompt."""
        self._text = self._strip_echo(self._text)
        if now - self._last_read > _BURST:
            # What looks like the debugger's words waits longer: a busy host takes its time between
            # them and the prompt, or the end.
            patient = now - self._last_read < _PATIENCE
            keep = _stop_begins(self._text) if patient else len(self._text)
            text, self._text = self._text[:keep], self._text[keep:]
        elif len(self._text) > 2 * _STOP_SIZE:
            text, self._text = self._text[:-_STOP_SIZE], self._text[-_STOP_SIZE:]
        else:
            return
        self._give(text)

    def _give(self, text: bytes) -> None:
        if not self._started:
            self.banner = (self.banner + text)[:_MAX_ERRORS]
        elif text:
            self._on_output(text)

    # -- commands

    def commands(self, lines: Sequence[str], timeout: float) -> str:
        """Give commands to the stopped debugger; what they print, prompts and echoes included.

        Raises DebuggerError.
        """
        if not self.stopped:
            raise DebuggerError("the machine is running")
        number = secrets.randbits(62) | 1 << 61
        marker = _answer(number)
        data = "\n".join([*lines, "? 0x%x" % number]).encode("ascii", "replace") + b"\n"
        self._text = b""
        deadline = time.monotonic() + timeout
        seen = 0
        while True:
            left = deadline - time.monotonic()
            if left <= 0:
                raise DebuggerError("Bochs's debugger does not answer")
            if data:
                data = self._write(data)
            self._collect(min(left, 0.2), want_write=bool(data))
            at = self._text.find(marker, max(0, seen - len(marker)))
            if at >= 0 and _PROMPT.search(self._text, at) is not None:
                text, self._text = self._text[:at], b""
                return text.decode("latin-1")
            if at < 0:
                seen = len(self._text)
            if not self._out_open:
                raise DebuggerError("Bochs has ended")
            if len(self._text) > _MAX_ANSWER:
                raise DebuggerError("Bochs's debugger does not stop talking")

    def _send(self, line: str) -> None:
        data = line.encode("ascii", "replace") + b"\n"
        deadline = time.monotonic() + 5
        while data and time.monotonic() < deadline and self._out_open:
            data = self._write(data)
            if data:
                self._collect(0.02, want_write=True)

    def _write(self, data: bytes) -> bytes:
        try:
            return data[os.write(self._in, data) :]
        except (BlockingIOError, InterruptedError):
            return data
        except OSError:
            self._out_open = self._out_open and self._child.poll() is None
            return b""

    def _collect(self, timeout: float, want_write: bool = False) -> None:
        reading = [fd for fd, is_open in self._pipes() if is_open]
        if not reading:
            if timeout > 0 and self._child.poll() is None:
                try:
                    self._child.wait(timeout)
                except subprocess.TimeoutExpired:
                    pass
            return
        try:
            ready, _, _ = select.select(reading, [self._in] if want_write else [], [], timeout)
        except (OSError, ValueError):
            return
        for fd in ready:
            try:
                data = os.read(fd, _READ)
            except (BlockingIOError, InterruptedError):
                continue
            except OSError:
                data = b""
            if fd == self._err:
                self.errors = (self.errors + data)[-_MAX_ERRORS:]
                self._err_open = bool(data)
            else:
                self._text += data
                self._out_open = bool(data)

    def _pipes(self) -> tuple[tuple[int, bool], ...]:
        return ((self._out, self._out_open), (self._err, self._err_open))

    @property
    def talking(self) -> bool:
        """stdout is still open."""
        return self._out_open


def _answer(number: int) -> bytes:
    return b"0x%x %d" % (number, number)


def _stop_begins(text: bytes) -> int:
    """Where the debugger's words about its stop begin; len(text) if there are none.

    They end the text: `(0).[tick] [address] …` or `(0) Caught …`, `Next at t=…`, `(n) [address] …`
    and warnings; when Bochs ends by itself, only the first kind.
    """
    at = max(text.rfind(b"Next at t="), 0)
    if at == 0 and not text.startswith(b"Next at t="):
        at = len(text)
    while at > 0:
        line = text.rfind(b"\n", 0, at - 1) + 1
        found = _STOP_LINE.search(text, line, at)
        if found is None:
            break
        at = found.start()
        if at > line:
            break  # the guest's own unfinished line stands in front
    return at
