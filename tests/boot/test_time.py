# SPDX-License-Identifier: BSD-2-Clause
"""The clock, against one that the kernel does not see.

With -icount QEMU's TSC counts nanoseconds of virtual time; in Bochs it counts ticks, of which
there are as many a second as the machine is told instructions.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Callable

import pytest

from debug.stages.table import BUILT_IN
from debug.stages.trace import decode
from tests.boot import machine
from tests.tree import TREE

pytestmark = pytest.mark.emulator

ICOUNT_KHZ = 1_000_000
BOCHS_KHZ = 4_000  # the ips of tests.boot.machine.bochs()


def stated_error() -> float:
    """What src/time/tsc.h promises, as a part of 1."""
    text = (TREE / "src/time/tsc.h").read_text(encoding="utf-8")
    found = re.search(r"#define CLOCK_ERROR_PPM (\d+)", text)
    assert found
    return int(found[1]) / 1e6


def check(com1: bytes, khz: int) -> None:
    trace = decode(com1)
    time = BUILT_IN.by_name["BSP_TIME"].code
    measured = next(f.argument for f in trace.frames if f.code == time)
    assert measured is not None and abs(measured / khz - 1) <= stated_error()
    assert re.search(r"^ok \d+ - udelay\(\) is never too short", trace.console, re.MULTILINE)


def test_virtual_time_of_qemu(kernel: Path) -> None:
    image = machine.kernel_image(kernel, "selftest")
    repeatable = ["-icount", "shift=0,sleep=off", "-rtc", "base=2020-01-01,clock=vm"]
    with machine.qemu(image, "2", repeatable) as guest:
        check(guest.run().com1, ICOUNT_KHZ)


def test_ticks_of_bochs(iso: Callable[[str], Path], tmp_path: Path) -> None:
    with machine.bochs(iso("selftest"), 2, tmp_path) as guest:
        check(guest.run().com1, BOCHS_KHZ)
