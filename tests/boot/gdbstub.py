# SPDX-License-Identifier: BSD-2-Clause
"""The few commands of GDB's remote protocol that the boot tests need, over a connected socket.

[GDB manual "Remote Serial Protocol"; QEMU's extension Qqemu.PhyMemMode]
"""

from __future__ import annotations

import select
import socket
import time
from typing import Callable

TIMEOUT = 60.0  # seconds
POLL = 0.02
MAX_STEPS = 100
RBX = 1  # QEMU's register numbers on x86-64
RCX = 2
RIP = 0x10


class GdbStub:
    """One conversation; `pump` is called while an answer is awaited.

    Threads are QEMU's: CPU n is thread n + 1.
    """

    def __init__(self, sock: socket.socket, pump: Callable[[], None]) -> None:
        self._sock = sock
        self._pump = pump
        self._buffer = b""
        self.command("qSupported:xmlRegisters=i386")
        # QEMU refuses p and P to who has not asked for the registers' names.
        self.command("qXfer:features:read:target.xml:0,100")

    # --- packets

    def command(self, text: str) -> str:
        """Send a packet and return the answer."""
        self._send(text)
        return self._packet(TIMEOUT)

    def _send(self, text: str) -> None:
        self._sock.sendall(f"${text}#{sum(text.encode()) & 0xFF:02x}".encode())

    def _packet(self, seconds: float) -> str:
        deadline = time.monotonic() + seconds
        while True:
            start = self._buffer.find(b"$")
            end = self._buffer.find(b"#", start)
            if 0 <= start < end and len(self._buffer) >= end + 3:
                text = self._buffer[start + 1 : end].decode("latin-1")
                self._buffer = self._buffer[end + 3 :]
                self._sock.sendall(b"+")
                return text
            left = deadline - time.monotonic()
            assert left > 0, "the GDB stub did not answer in time"
            self._pump()
            if select.select([self._sock], [], [], min(left, POLL))[0]:
                data = self._sock.recv(1 << 16)
                assert data, "the GDB stub closed the connection"
                self._buffer += data

    def _ok(self, text: str) -> None:
        answer = self.command(text)
        assert answer == "OK", f"GDB stub: {text}: {answer!r}"

    # --- what the tests do

    def use_physical_memory(self) -> None:
        """Addresses of read() and write() are physical from now on."""
        self._ok("Qqemu.PhyMemMode:1")

    def read(self, address: int, size: int) -> bytes:
        parts = []
        for at in range(address, address + size, 0x400):
            count = min(0x400, address + size - at)
            answer = self.command(f"m{at:x},{count:x}")
            assert len(answer) == 2 * count, f"memory at {at:#x} can't be read: {answer}"
            parts.append(bytes.fromhex(answer))
        return b"".join(parts)

    def write(self, address: int, data: bytes) -> None:
        self._ok(f"M{address:x},{len(data):x}:{data.hex()}")

    def stop_at(self, address: int) -> None:
        """A hardware breakpoint, on every CPU."""
        self._ok(f"Z1,{address:x},1")

    def go_past(self, address: int) -> None:
        self._ok(f"z1,{address:x},1")

    def resume(self) -> None:
        self._send("c")

    def stopped(self, seconds: float = TIMEOUT) -> int:
        """Wait for a stop; the CPU's index."""
        answer = self._packet(seconds)
        assert answer.startswith("T"), f"no stop: {answer!r}"
        fields = dict(field.split(":", 1) for field in answer[3:].split(";") if ":" in field)
        return int(fields["thread"].split(".")[-1], 16) - 1

    def run_to(self, address: int) -> int:
        """Let all CPUs run until one is at `address`; its index."""
        self.stop_at(address)
        self.resume()
        cpu = self.stopped()
        self.go_past(address)
        return cpu

    def step(self, cpu: int) -> None:
        """One instruction of one CPU, or one round of a repeated one; the others stand still.

        On a busy host QEMU sometimes reports a step that it has not taken.
        """
        self.select(cpu)
        before = self._place()
        for _ in range(MAX_STEPS):
            self._send(f"vCont;s:{cpu + 1:x}")
            self.stopped()
            self.select(cpu)
            if self._place() != before:
                return
        raise AssertionError(f"CPU {cpu} does not move")

    def _place(self) -> tuple[int, int]:
        return self.register(RIP), self.register(RCX)

    def interrupt(self) -> None:
        """Stop all CPUs now."""
        self._sock.sendall(b"\x03")
        self.stopped()

    def select(self, cpu: int) -> None:
        self._ok(f"Hg{cpu + 1:x}")

    def register(self, number: int) -> int:
        """A 64-bit register of the selected CPU."""
        return int.from_bytes(bytes.fromhex(self.command(f"p{number:x}")), "little")

    def set_register(self, number: int, value: int) -> None:
        self._ok(f"P{number:x}={value.to_bytes(8, 'little').hex()}")
