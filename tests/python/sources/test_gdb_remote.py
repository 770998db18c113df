# SPDX-License-Identifier: BSD-2-Clause
"""Behind a stub: a machine that lives, one that died, and stubs that are none."""

from __future__ import annotations

import random
import socket
import subprocess
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import Iterator

import pytest

from debug.evidence import Ending
from debug.kernel.machine import Kernel
from debug.labs.lab import load
from debug.labs.workshop import build
from debug.report.diagnosis import diagnose
from debug.report.text import render
from debug.sources.elf_symbols import ElfSymbols
from debug.sources.errors import CommandLineError, StartError
from debug.sources.gdb_remote import Remote, registers_of

PATIENCE = 30.0


@contextmanager
def stub(kernel: Kernel, directory: Path, until: bytes) -> Iterator[str]:
    """A QEMU with a stub, once it has written `until` to port 0xE9; it stays when it dies."""
    path, console = str(directory / "stub"), directory / "e9"
    argv = [*kernel.qemu(), "-display", "none", "-nic", "none", "-no-reboot", "-no-shutdown"]
    argv += ["-debugcon", f"file:{console}", "-gdb", f"unix:{path},server=on,wait=off"]
    with subprocess.Popen(argv, stdin=subprocess.DEVNULL) as qemu:
        try:
            deadline = time.monotonic() + PATIENCE
            while not console.exists() or until not in console.read_bytes():
                assert time.monotonic() < deadline, "the guest did not get there"
                time.sleep(0.02)
            yield path
        finally:
            qemu.kill()


@pytest.mark.emulator
def test_a_machine_that_lives_is_left_running(tmp_path: Path) -> None:
    kernel = Kernel(cpus=2)
    with stub(kernel, tmp_path, b":c9") as path:
        for _ in range(2):  # the second time it must have been left as it was
            with Remote(path, symbols=ElfSymbols(kernel.symbols)) as machine:
                evidence = machine.observe()
                diagnosis = diagnose(evidence)
            assert evidence.emulator == "qemu" and evidence.accelerator == "tcg"
            assert diagnosis.status == "healthy"
            assert len(evidence.cpus) == 2 and evidence.stages == ()
            assert "running" in evidence.messages[0] or "paused" in evidence.messages[0]


@pytest.mark.emulator
def test_a_machine_that_died_is_explained_from_where_it_stands(tmp_path: Path) -> None:
    kernel = build(load("ap-cr3-zero"))
    with stub(kernel, tmp_path, b":33.") as path:
        deadline = time.monotonic() + PATIENCE
        while True:
            with Remote(path, symbols=ElfSymbols(kernel.symbols)) as machine:
                evidence = machine.observe()
                diagnosis = diagnose(evidence)
            if evidence.ending is Ending.UNKNOWN or time.monotonic() > deadline:
                break
    assert diagnosis.status == "triple-fault"
    assert diagnosis.causes[0].row.id == "cr3-zero"
    assert any("has shut down or is about to" in note for note in diagnosis.explanation.notes)


def test_what_is_no_target_is_refused() -> None:
    for target in ("nonsense", "", "| rm -rf x:1", ":1; shell", "a" * 400 + ":1"):
        with pytest.raises(CommandLineError, match="expected HOST:PORT"):
            Remote(target).__enter__()


def _serve(path: str, answer: bytes) -> None:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(4)

    def talk() -> None:
        while True:
            connection, _ = listener.accept()
            with connection:
                try:
                    while connection.recv(4096):
                        connection.sendall(answer)
                except OSError:
                    continue

    threading.Thread(target=talk, daemon=True).start()


@pytest.mark.parametrize("answer", [b"", b"+", b"HTTP/1.0 400 Bad Request\r\n\r\n", b"$" * 4000])
def test_who_speaks_no_protocol_is_given_up_in_time(tmp_path: Path, answer: bytes) -> None:
    path = str(tmp_path / "stub")
    _serve(path, answer)
    began = time.monotonic()
    with pytest.raises(StartError):
        with Remote(path, timeout=1.0) as machine:
            machine.observe()
    assert time.monotonic() - began < PATIENCE


def test_where_nothing_listens_that_is_said_at_once() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, and nobody listens
        began = time.monotonic()
        with pytest.raises(StartError, match="nothing listens there"):
            Remote(f"localhost:{taken.getsockname()[1]}").__enter__()
        assert time.monotonic() - began < PATIENCE / 4


@pytest.mark.parametrize("answer", [b"HTTP/1.0 400 Bad Request\r\n\r\n", bytes(range(256))])
def test_another_program_is_called_that(tmp_path: Path, answer: bytes) -> None:
    path = str(tmp_path / "web")
    _serve(path, answer)
    with pytest.raises(StartError, match="does not answer as a GDB stub does"):
        Remote(path, timeout=1.0).__enter__()


def test_a_stub_of_other_registers_is_called_that(tmp_path: Path) -> None:
    """It answers each question with registers: too few for x86-64."""
    path = str(tmp_path / "stub")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(4)

    def packet(text: bytes) -> bytes:
        return b"+$%s#%02x" % (text, sum(text) & 0xFF)

    def talk() -> None:
        connection, _ = listener.accept()
        with connection:
            while data := connection.recv(4096):
                for asked in data.split(b"$")[1:]:
                    says = {b"?": b"S05", b"g": b"00" * 64}.get(asked.split(b"#")[0], b"")
                    connection.sendall(packet(says))

    threading.Thread(target=talk, daemon=True).start()
    with pytest.raises(StartError, match="it runs another architecture, or does"):
        Remote(path, timeout=2.0).__enter__()


def test_registers_by_gdbs_names() -> None:
    found = registers_of(
        {"rip": 0xFFFF800000001000, "rax": 1, "eflags": 2, "cs": 8, "cr0": 0x80000011}
        | {"cr3": 0x1000, "efer": 0x500, "k_gs_base": 7, "st0": "x"}
    )
    assert (found.rip, found.rflags, found.cpl) == (0xFFFF800000001000, 2, 0)
    assert found.general == {"rax": 1}
    assert found.control["kernel_gs_base"] == 7 and found.segments["cs"].flags & 1 << 21
    real = registers_of({"eip": 0x1_0000, "eax": 5, "cs": 0x800, "cr0": 0x10})
    assert real.rip == 0 and real.segments["cs"].base == 0x8000 and real.general == {"rax": 5}
    assert registers_of({}).segments == {}


def _packet(data: bytes) -> bytes:
    return b"$" + data + b"#%02x" % (sum(data) & 0xFF)


def _invents(path: str, delay: float) -> None:
    """A stub that speaks the protocol, slowly, and makes everything up."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(4)
    noise = random.Random(1)

    def answer(question: bytes) -> bytes:
        if question[:1] == b"?":
            return b"S05"
        if question[:1] in (b"g", b"m"):
            return bytes(noise.choice(b"0123456789abcdef") for _ in range(312 * 2))
        if question.startswith(b"qRcmd"):
            return b"\x1b[2JVM status: running\n".hex().encode()
        return b"l" if question.startswith(b"qsThreadInfo") else b""

    def talk(connection: socket.socket) -> None:
        held = b""
        with connection:
            while data := connection.recv(4096):
                held += data
                while (end := held.find(b"#")) >= 0 and len(held) >= end + 3:
                    question, held = held[held.find(b"$") + 1 : end], held[end + 3 :]
                    time.sleep(delay)
                    connection.sendall(b"+" + _packet(answer(question)))

    def accept() -> None:
        while True:
            connection, _ = listener.accept()
            try:
                talk(connection)
            except OSError:
                continue

    threading.Thread(target=accept, daemon=True).start()


@pytest.mark.parametrize("delay", [0.0, 0.4], ids=["at-once", "slowly"])
def test_a_stub_that_invents_everything_ends_in_time(tmp_path: Path, delay: float) -> None:
    path = str(tmp_path / "stub")
    _invents(path, delay)
    began = time.monotonic()
    try:
        with Remote(path, timeout=1.0) as machine:
            text = render(diagnose(machine.observe()))
            assert "\x1b" not in text and "certain" not in text
    except StartError as error:
        assert "\x1b" not in str(error)
    assert time.monotonic() - began < PATIENCE
