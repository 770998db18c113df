# SPDX-License-Identifier: BSD-2-Clause
"""The QMP client against a peer that behaves, and against peers that don't."""

from __future__ import annotations

import json
import socket
import threading
import time
from typing import Callable, Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from debug.sources import qmp
from debug.sources.qmp import QmpClient, QmpClosed, QmpError, QmpTimeout

GREETING = b'{"QMP": {"version": {"qemu": {"major": 7}}, "capabilities": []}}\r\n'


def serve(sock: socket.socket, answer: Callable[[dict[str, object]], bytes]) -> threading.Thread:
    def loop() -> None:
        with sock:
            sock.sendall(GREETING)
            for line in sock.makefile("rb"):
                try:
                    sock.sendall(answer(json.loads(line)))
                except OSError:
                    return

    thread = threading.Thread(target=loop, daemon=True)
    thread.start()
    return thread


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    yield ours, theirs
    ours.close()
    theirs.close()


def reply(request: dict[str, object], value: object) -> bytes:
    return json.dumps({"return": value, "id": request["id"]}).encode() + b"\r\n"


def test_commands_and_events_are_told_apart(pair: tuple[socket.socket, socket.socket]) -> None:
    def answer(request: dict[str, object]) -> bytes:
        event = b'{"event": "STOP", "timestamp": {}}\n'
        if request["execute"] == "human-monitor-command":
            return event + reply(request, "text")
        return reply(request, {})

    serve(pair[1], answer)
    client = QmpClient(pair[0])
    client.handshake(2)
    assert client.monitor("info registers", 2) == "text"
    assert [event.name for event in client.poll()] == ["STOP"]


def test_a_refused_command_says_why(pair: tuple[socket.socket, socket.socket]) -> None:
    def answer(request: dict[str, object]) -> bytes:
        if request["execute"] == "qmp_capabilities":
            return reply(request, {})
        error = {"class": "GenericError", "desc": "no such thing"}
        return json.dumps({"error": error, "id": request["id"]}).encode() + b"\n"

    serve(pair[1], answer)
    client = QmpClient(pair[0])
    client.handshake(2)
    with pytest.raises(QmpError, match="cont: no such thing"):
        client.command("cont", timeout=2)


def test_silence_ends_at_the_deadline(pair: tuple[socket.socket, socket.socket]) -> None:
    started = time.monotonic()
    with pytest.raises(QmpTimeout):
        QmpClient(pair[0]).handshake(0.1)
    assert time.monotonic() - started < 2


def test_who_left_a_command_unanswered_is_not_asked_to_go(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    asked: list[object] = []

    def answer(request: dict[str, object]) -> bytes:
        asked.append(request["execute"])
        return b"" if request["execute"] == "stop" else reply(request, {})

    serve(pair[1], answer)
    client = QmpClient(pair[0])
    client.handshake(2)
    assert client.quit(2)
    with pytest.raises(QmpTimeout):
        client.command("stop", timeout=0.1)
    assert not client.quit(2)
    assert asked == ["qmp_capabilities", "quit", "stop"]


def test_the_late_answer_to_another_command_is_not_ours(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    pair[1].sendall(b'{"return": "old", "id": 77}\n{"return": "ours", "id": 1}\n')
    assert QmpClient(pair[0]).command("x", timeout=2) == "ours"


def test_the_pump_runs_while_a_reply_is_awaited(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    calls: list[int] = []

    def pump() -> None:
        calls.append(1)
        if len(calls) == 3:
            pair[1].sendall(b'{"return": 5, "id": 1}\n')

    assert QmpClient(pair[0], pump).command("x", timeout=5) == 5


def test_events_before_the_end_are_not_lost(pair: tuple[socket.socket, socket.socket]) -> None:
    pair[1].sendall(b'{"event": "SHUTDOWN", "data": {"guest": true}}\n')
    pair[1].close()
    client = QmpClient(pair[0])
    assert client.poll(1)[0].data == {"guest": True}
    with pytest.raises(QmpClosed):
        client.poll(1)


def test_a_line_without_end_is_refused(
    pair: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(qmp, "MAX_LINE", 1000)
    pair[1].sendall(b"x" * 2000)
    with pytest.raises(QmpError, match="longer than"):
        QmpClient(pair[0]).poll(1)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.binary(max_size=60), max_size=6))
def test_nonsense_is_a_qmp_error_and_nothing_else(chunks: list[bytes]) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        for chunk in chunks:
            theirs.sendall(chunk + b"\n")
        theirs.shutdown(socket.SHUT_WR)
        client = QmpClient(ours)
        with pytest.raises(QmpError):
            client.handshake(1)
            client.command("x", timeout=1)
