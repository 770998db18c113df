# SPDX-License-Identifier: BSD-2-Clause
"""Threads on all CPUs: a computation whose result is known is shared fairly.

The measure is how many of the items the busiest CPU did, which does not depend on the host; under
-icount it is the same in every run.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.bench.workload import read
from tests.boot import machine, verdict
from tests.boot.test_repeat import REPEATABLE

pytestmark = pytest.mark.emulator


def test_the_work_is_shared(kernel: Path) -> None:
    image = machine.kernel_image(kernel, "workload selftest")
    with machine.qemu(image, "4", REPEATABLE) as guest:
        boot = guest.run()
    assert boot.exit_code == verdict.exit_codes()["OK"] << 1 | 1
    rows = read(verdict.decode_whole(boot.e9, "port 0xE9").console)
    assert [row.cpus for row in rows] == [1, 2, 4]
    one, two, four = rows
    assert one.items == two.items == four.items, "the work differs with the number of CPUs"
    assert (one.busiest, one.steals) == (one.items, 0)
    assert two.shared > 1.8 and four.shared > 3.3
    assert two.steals and four.steals
