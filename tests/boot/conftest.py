# SPDX-License-Identifier: BSD-2-Clause
"""ISOs with a command line of their own."""

from __future__ import annotations

import fcntl
import shutil
import subprocess
from pathlib import Path
from typing import Callable

import pytest

from tests.tree import TREE

LIMIT = 60  # seconds


@pytest.fixture
def iso(kernel: Path, tmp_path: Path) -> Callable[[str], Path]:
    """Makes an ISO that boots the kernel with the given options."""

    def make(options: str) -> Path:
        image = kernel / "lamppost.iso"
        with open(kernel / ".lock", "w", encoding="ascii") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            subprocess.run(
                ["make", "-s", "-f", "src/kernel.mk", f"BUILD={kernel}"]
                + [f"GRUB_OPTIONS={options}", "-W", "src/boot/grub.cfg", str(image)],
                cwd=TREE,
                timeout=LIMIT,
                check=True,
            )
            return Path(shutil.copy(image, tmp_path / "lamppost.iso"))

    return make
