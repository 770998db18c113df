# SPDX-License-Identifier: BSD-2-Clause
"""A boot that can be repeated: under -icount two boots write the same bytes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.boot import machine, verdict

pytestmark = pytest.mark.emulator

REPEATABLE = ["-icount", "shift=0,sleep=off", "-rtc", "base=2020-01-01,clock=vm"]


def test_two_boots_write_the_same_bytes(kernel: Path) -> None:
    boots = []
    for _ in range(2):
        image = machine.kernel_image(kernel, "selftest")
        with machine.qemu(image, "4", REPEATABLE) as guest:
            boots.append(guest.run())
    first, second = boots
    assert first.exit_code == verdict.exit_codes()["OK"] << 1 | 1
    assert first.e9 == second.e9
    assert first.com1 == second.com1
    verdict.check_aps(verdict.decode_whole(first.e9, "port 0xE9"), range(1, 4), "port 0xE9")
