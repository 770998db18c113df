# SPDX-License-Identifier: BSD-2-Clause
"""A CPU in a loop goes on where what it reads is written, or where it is back with other registers."""

from __future__ import annotations

import pytest

from debug.evidence import Awaited, Registers
from debug.sources.progress import Progress

WORD, LOOP = 0x3000, range(0x1000, 0x100A)
WAITS = Awaited(1, WORD, 4, LOOP, (("rdx", 7),))


@pytest.mark.parametrize(
    ("value", "rip", "rdx", "served"),
    [
        (b"\0\0\0\0", 0x1002, 7, False),
        (b"\1\0\0\0", 0x1002, 7, True),  # it was written
        (b"\0\0\0\0", 0x1002, 8, True),  # another round, with the next ticket
        (b"\0\0\0\0", 0x2000, 9, False),  # in an interrupt's handler
        (None, 0x1002, 7, False),
    ],
)
def test_served(value: bytes | None, rip: int, rdx: int, served: bool) -> None:
    progress = Progress((WAITS,), lambda physical, length: bytes(4))
    assert progress.waiting
    cpus = {1: Registers(rip=rip, general={"rdx": rdx})}
    progress.look(cpus, lambda physical, length: value)
    assert progress.served == ({1} if served else set())
    assert progress.waiting is not served


def test_once_is_enough() -> None:
    progress = Progress((WAITS,), lambda physical, length: bytes(4))
    progress.look({}, lambda physical, length: b"\1\0\0\0")
    progress.look({}, lambda physical, length: bytes(4))
    assert progress.served == {1}


def test_a_cpu_that_is_not_shown_tells_nothing() -> None:
    progress = Progress((WAITS,), lambda physical, length: None)
    progress.look({}, lambda physical, length: bytes(4))
    assert progress.served == frozenset()
