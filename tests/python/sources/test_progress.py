# SPDX-License-Identifier: BSD-2-Clause
"""A CPU in a loop goes on where what it reads is written, or where it is back with other registers."""

from __future__ import annotations

import pytest

from debug.evidence import Awaited, Registers
from debug.sources.progress import Progress

WORD, LOOP = 0x3000, range(0x1000, 0x100A)
WAITS = Awaited(1, LOOP, (("rdx", 7), ("rsp", 0x8000)), WORD, 4)


@pytest.mark.parametrize(
    ("value", "rip", "rdx", "rsp", "served"),
    [
        (b"\0\0\0\0", 0x1002, 7, 0x8000, False),
        (b"\1\0\0\0", 0x1002, 7, 0x8000, True),  # it was written
        (b"\0\0\0\0", 0x1002, 8, 0x8000, True),  # another round, with the next ticket
        (b"\0\0\0\0", 0x2000, 9, 0x7F80, False),  # in an interrupt's handler
        (b"\0\0\0\0", 0x2000, 9, 0x8008, True),  # the function has returned
        (b"\0\0\0\0", 0x2000, 9, 0x20000, False),  # on a stack of the TSS
        (None, 0x1002, 7, 0x8000, False),
    ],
)
def test_served(value: bytes | None, rip: int, rdx: int, rsp: int, served: bool) -> None:
    progress = Progress((WAITS,), lambda physical, length: bytes(4))
    assert progress.waiting
    cpus = {1: Registers(rip=rip, general={"rdx": rdx, "rsp": rsp})}
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


def test_a_loop_that_reads_a_clock_has_no_word() -> None:
    def nothing(physical: int, length: int) -> bytes:
        raise AssertionError("there is no word to read")

    progress = Progress((Awaited(1, LOOP, (("rbx", 5),)),), nothing)
    progress.look({1: Registers(rip=0x1004, general={"rbx": 5})}, nothing)
    assert progress.waiting
    progress.look({1: Registers(rip=0x1004, general={"rbx": 6})}, nothing)  # another deadline
    assert progress.served == {1}
