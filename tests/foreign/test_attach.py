# SPDX-License-Identifier: BSD-2-Clause
"""A kernel that runs behind a stub: CPUs in loops that go on are told from those that hang."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Iterator

import pytest

from tests.foreign.images import assembled
from tests.foreign.test_hangs import command
from tests.tree import TREE

pytestmark = pytest.mark.emulator

PATIENCE = 60.0  # seconds, on a busy host
POLL = 0.05


@contextmanager
def stub(folder: Path, bug: str) -> Iterator[str]:
    """guest.asm with three CPUs behind a GDB stub, once its BSP has printed or waits."""
    image = assembled("guest", folder, "CPUS=3", f"BUG_{bug}")
    path, console = str(folder / "stub"), folder / "e9"
    argv = [*command("qemu", image, 3), "-display", "none", "-debugcon", f"file:{console}"]
    argv += ["-gdb", f"unix:{path},server=on,wait=off"]
    with subprocess.Popen(argv, stdin=subprocess.DEVNULL) as qemu:
        try:
            deadline = time.monotonic() + PATIENCE
            while not console.exists() or b"all CPUs are up" not in console.read_bytes():
                assert time.monotonic() < deadline, "the guest did not get there"
                time.sleep(POLL)
            yield path
        finally:
            qemu.kill()


def report(path: str) -> dict[str, Any]:
    words = [sys.executable, str(TREE / "debug" / "lamppost"), "attach", "--json", path]
    done = subprocess.run(words, capture_output=True, text=True, timeout=2 * PATIENCE)
    found = json.loads(done.stdout)
    assert isinstance(found, dict)
    return found


def test_cpus_that_contend_for_a_lock_are_healthy(tmp_path: Path) -> None:
    with stub(tmp_path, "tickets") as path:
        found = report(path)
    assert (found["status"], found["causes"]) == ("healthy", [])


def test_a_lock_that_nobody_gives_back_is_still_named(tmp_path: Path) -> None:
    with stub(tmp_path, "ticket_kept") as path:
        found = report(path)
    first = found["causes"][0]
    assert found["status"] == "hang"
    assert (first["id"], first["certainty"]) == ("lock-not-released", "likely")
