# SPDX-License-Identifier: BSD-2-Clause
"""What QEMU itself would tidy up when it goes, and what a user's impatience must not leave."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest

from tests.python.cli.machines import LIMIT, Scene, boot_sector, qemu

pytestmark = pytest.mark.emulator

TRIPLE, HANG = 1, 4  # real.asm


def test_sockets_and_the_pid_file_of_the_users_own_go_with_qemu(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    image = boot_sector(tmp_path, "real.asm", f"GUEST={TRIPLE}")
    own = (
        "-qmp",
        "unix:q,server=on,wait=off",
        "-gdb",
        "unix:g,server=on,wait=off",
        "-pidfile",
        "p",
    )
    report = scene.report("--", *qemu(image, *own))
    assert report["status"] == "triple-fault"
    assert {path.name for path in tmp_path.iterdir()} == {"guest.img", "scratch"}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_that_comes_again_and_again_leaves_nothing(
    tmp_path: Path, number: signal.Signals
) -> None:
    scene = Scene(tmp_path)
    image = boot_sector(tmp_path, "real.asm", f"GUEST={HANG}")
    child = scene.start("--", *qemu(image))
    deadline = time.monotonic() + LIMIT
    while not scene.processes() and time.monotonic() < deadline:
        time.sleep(0.02)
    while child.poll() is None and time.monotonic() < deadline:
        child.send_signal(number)
        time.sleep(0.001)
    child.communicate(timeout=LIMIT)
    scene.nothing_is_left()
