# SPDX-License-Identifier: BSD-2-Clause
"""What all tests share: the marks, and the kernel that the boots use."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.tree import TREE

# Speed is measured by make bench, never by a test: a busy host is slow.
settings.register_profile(
    "lamppost", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
settings.load_profile("lamppost")

# A shell without job control starts what it puts into the background with these ignored, and every
# program that a test starts would be deaf to Ctrl-C.
for deaf in (signal.SIGINT, signal.SIGQUIT):
    if signal.getsignal(deaf) is signal.SIG_IGN:
        signal.signal(deaf, signal.default_int_handler if deaf is signal.SIGINT else signal.SIG_DFL)

MARKS = {"emulator": "boots QEMU or Bochs"}
BUILD_LIMIT = 300  # seconds


# xdist hands out runs of neighbours, and those of one directory take about equally long.
DEAL = 16


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deal the tests out where several workers share them, so that none is left with all boots."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        items[:] = [item for first in range(DEAL) for item in items[first::DEAL]]


def pytest_configure(config: pytest.Config) -> None:
    for name, meaning in MARKS.items():
        config.addinivalue_line("markers", f"{name}: {meaning}")


def _make(build: Path, *settings: str) -> Path:
    """Build the kernel; workers that want the same directory take turns."""
    build.mkdir(parents=True, exist_ok=True)
    with open(build / ".lock", "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = subprocess.run(
            ["make", "-s", "-f", "src/kernel.mk", "kernel", f"BUILD={build}", *settings],
            cwd=TREE,
            capture_output=True,
            timeout=BUILD_LIMIT,
            check=False,
        )
    if done.returncode:
        text = (done.stdout + done.stderr).decode("utf-8", "replace")
        pytest.fail(f"the kernel does not build:\n{text}", pytrace=False)
    return build


@pytest.fixture(scope="session")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with lamppost.elf and lamppost.iso, the same for all workers of a run."""
    return _make(_shared(tmp_path_factory) / "kernel")


@pytest.fixture(scope="session")
def kernel_for_4_cpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A kernel that supports no more than four CPUs."""
    return _make(_shared(tmp_path_factory) / "kernel-4", "NR_CPUS=4")


@pytest.fixture(scope="session")
def untraced_kernel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A kernel without the stage protocol."""
    return _make(_shared(tmp_path_factory) / "kernel-untraced", "TRACE=0")


@pytest.fixture(scope="session")
def pie_kernel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A kernel that is a static PIE."""
    return _make(_shared(tmp_path_factory) / "kernel-pie", "PIE=1")


def _shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory of this run; pytest-xdist gives each worker one of its own inside it."""
    own = tmp_path_factory.getbasetemp()
    return own.parent if "PYTEST_XDIST_WORKER" in os.environ else own
