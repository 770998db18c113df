# SPDX-License-Identifier: BSD-2-Clause
"""QEMU's own word on who wrote what to a port: `-trace memory_region_ops_write`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple, Sequence

OPTIONS = ("-trace", "memory_region_ops_write")

_WRITE = re.compile(
    rb"^memory_region_ops_write cpu (-?\d+) mr \S+ addr 0x(e9|3f8|3fb) value 0x([0-9a-f]+) size 1 ",
    re.MULTILINE,
)
_DLAB = 0x80  # LCR: the data port is the divisor


class Write(NamedTuple):
    cpu: int
    value: int


class Witness(NamedTuple):
    """The bytes written to each port, in order."""

    e9: Sequence[Write]
    com1: Sequence[Write]


def read_witness(path: Path) -> Witness:
    """The writes in QEMU's log file."""
    writes: dict[bytes, list[Write]] = {b"e9": [], b"3f8": []}
    divisor = False
    for cpu, port, text in _WRITE.findall(path.read_bytes()):
        value = int(text, 16)
        if port == b"3fb":
            divisor = bool(value & _DLAB)
        elif port == b"e9" or not divisor:
            writes[port].append(Write(int(cpu), value))
    return Witness(writes[b"e9"], writes[b"3f8"])


def stream(writes: Sequence[Write]) -> bytes:
    return bytes(write.value for write in writes)


def by_cpu(writes: Sequence[Write]) -> dict[int, bytes]:
    """What each CPU wrote, by QEMU's index of it."""
    parts: dict[int, bytearray] = {}
    for write in writes:
        parts.setdefault(write.cpu, bytearray()).append(write.value)
    return {cpu: bytes(part) for cpu, part in parts.items()}
