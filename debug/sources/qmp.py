# SPDX-License-Identifier: BSD-2-Clause
"""A QMP client: JSON lines over a connected stream socket [QEMU Machine Protocol].

Nothing here blocks without a deadline.  The peer is not trusted: a line that is too long, is not
JSON or is not an object ends the conversation with QmpError, never with anything else.
"""

from __future__ import annotations

import json
import select
import socket
import time
from collections import deque
from dataclasses import dataclass, field
from typing import Any, Callable, Mapping, Optional

MAX_LINE = 32 << 20  # bytes; `info registers -a` of 255 CPUs is below 1 MiB
MAX_EVENTS = 1024  # queued events; older ones are dropped
PUMP_INTERVAL = 0.02  # seconds between calls of the pump while a reply is awaited


class QmpError(Exception):
    """The conversation broke, or the peer refused a command."""


class QmpClosed(QmpError):
    """The peer closed the connection."""


class QmpTimeout(QmpError):
    """No reply before the deadline."""


@dataclass(frozen=True)
class QmpEvent:
    """An asynchronous event: its name and data (`{}` if it has none)."""

    name: str
    data: Mapping[str, Any] = field(default_factory=dict)


class QmpClient:
    """One QMP conversation over `sock`, which the client owns from now on.

    `pump` is called regularly while a reply is awaited, so that whoever must drain pipes meanwhile
    can.  All timeouts are seconds.
    """

    def __init__(self, sock: socket.socket, pump: Optional[Callable[[], None]] = None) -> None:
        self._sock = sock
        self._sock.setblocking(False)
        self._pump = pump
        self._buffer = bytearray()
        self._scanned = 0
        self._events: deque[QmpEvent] = deque(maxlen=MAX_EVENTS)
        self._replies: deque[dict[str, Any]] = deque()
        self._next_id = 0
        self.closed = False
        self._silent = False  # it left a command unanswered
        self.greeting: Mapping[str, Any] = {}

    def fileno(self) -> int:
        return self._sock.fileno()

    def close(self) -> None:
        self.closed = True
        self._sock.close()

    def handshake(self, timeout: float = 10.0) -> None:
        """Wait for the greeting and leave capabilities negotiation.

        Raises QmpError if the peer is no QMP server or says nothing in time.
        """
        deadline = time.monotonic() + timeout
        while not self.greeting:
            self._wait(deadline, "the QMP greeting")
        self.command("qmp_capabilities", timeout=max(0.0, deadline - time.monotonic()))

    def command(
        self, name: str, arguments: Optional[Mapping[str, Any]] = None, timeout: float = 10.0
    ) -> Any:
        """Execute a command and return its `return` value.  Raises QmpError."""
        self._next_id += 1
        identity = self._next_id
        request: dict[str, Any] = {"execute": name, "id": identity}
        if arguments:
            request["arguments"] = dict(arguments)
        deadline = time.monotonic() + timeout
        self._send(json.dumps(request).encode() + b"\n", deadline, name)
        while True:
            while self._replies:
                reply = self._replies.popleft()
                if reply.get("id") != identity:
                    continue  # the late answer to a command that timed out
                if "error" in reply:
                    raise QmpError(f"{name}: {_description(reply['error'])}")
                return reply.get("return")
            self._wait(deadline, f"the reply to {name}")

    def monitor(self, line: str, timeout: float = 10.0) -> str:
        """Execute a line of the human monitor and return its text.  Raises QmpError."""
        text = self.command("human-monitor-command", {"command-line": line}, timeout)
        if not isinstance(text, str):
            raise QmpError(f"{line}: the monitor answered with no text")
        return text

    def quit(self, timeout: float) -> bool:
        """Whether the peer was asked to end, and will; one that left a command unanswered is not."""
        if not self.greeting or self.closed or self._silent:
            return False
        try:
            self.command("quit", timeout=timeout)
        except QmpClosed:
            return True  # it did not wait to answer
        except QmpError:
            return False
        return True

    def poll(self, timeout: float = 0.0) -> list[QmpEvent]:
        """The events that arrived, waiting up to `timeout` for the first.

        Raises QmpError on nonsense.  A closed connection gives the last events and then QmpClosed.
        """
        if not self._events:
            if self.closed:
                raise QmpClosed("QMP: the connection is closed")
            try:
                self._receive(timeout)
            except QmpClosed:
                if not self._events:
                    raise
        events = list(self._events)
        self._events.clear()
        return events

    def _send(self, data: bytes, deadline: float, what: str) -> None:
        view = memoryview(data)
        while view:
            try:
                view = view[self._sock.send(view) :]
            except BlockingIOError:
                left = deadline - time.monotonic()
                if left <= 0:
                    raise QmpTimeout(f"QMP: {what} could not be sent in time") from None
                select.select([], [self._sock], [], min(left, PUMP_INTERVAL))
            except (OSError, ValueError) as error:
                self.closed = True
                raise QmpClosed(f"QMP: {what}: {error}") from None

    def _wait(self, deadline: float, what: str) -> None:
        left = deadline - time.monotonic()
        if left <= 0:
            self._silent = True
            raise QmpTimeout(f"QMP: {what} did not come in time")
        if self._pump:
            self._pump()
            left = min(left, PUMP_INTERVAL)
        self._receive(left)

    def _receive(self, timeout: float) -> None:
        """Read what there is, waiting up to `timeout`, and sort it into events and replies."""
        if self.closed:
            raise QmpClosed("QMP: the connection is closed")
        try:
            ready, _, _ = select.select([self._sock], [], [], max(0.0, timeout))
            if not ready:
                return
            data = self._sock.recv(1 << 18)
        except (BlockingIOError, InterruptedError):
            return
        except (OSError, ValueError) as error:
            self.closed = True
            raise QmpClosed(f"QMP: {error}") from None
        if not data:
            self.closed = True
            raise QmpClosed("QMP: the peer closed the connection")
        self._buffer += data
        while True:
            end = self._buffer.find(b"\n", self._scanned)
            if end < 0:
                self._scanned = len(self._buffer)
                break
            line = bytes(self._buffer[:end])
            del self._buffer[: end + 1]
            self._scanned = 0
            if line.strip():
                self._sort(line)
        if len(self._buffer) > MAX_LINE:
            self.closed = True
            raise QmpError(f"QMP: a line is longer than {MAX_LINE} bytes")

    def _sort(self, line: bytes) -> None:
        try:
            message = json.loads(line)
        except (ValueError, RecursionError):
            self.closed = True
            raise QmpError("QMP: the peer does not speak JSON") from None
        if not isinstance(message, dict):
            self.closed = True
            raise QmpError("QMP: the peer sent no JSON object")
        if isinstance(message.get("event"), str):
            data = message.get("data")
            self._events.append(QmpEvent(message["event"], data if isinstance(data, dict) else {}))
        elif isinstance(message.get("QMP"), dict):
            self.greeting = message["QMP"] or {"version": {}}
        elif "return" in message or "error" in message:
            self._replies.append(message)


def _description(error: Any) -> str:
    if isinstance(error, dict) and isinstance(error.get("desc"), str):
        return str(error["desc"])
    return "refused"
