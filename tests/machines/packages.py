# SPDX-License-Identifier: BSD-2-Clause
"""Files of Debian packages, unpacked below build/machines and not installed."""

from __future__ import annotations

import fcntl
import shutil
import subprocess
from pathlib import Path

from tests.tree import TREE

WHERE = TREE / "build" / "machines"
LIMIT = 600  # seconds for one download


class MachineError(Exception):
    """What is needed could not be had; the message says why."""


def run(*argv: str, cwd: Path = TREE) -> str:
    """What a program prints.  Raises MachineError."""
    done = subprocess.run(argv, cwd=cwd, capture_output=True, text=True, timeout=LIMIT, check=False)
    if done.returncode:
        raise MachineError(f"{' '.join(argv)}: {done.stderr.strip()}")
    return done.stdout


def file(package: str, pattern: str) -> Path:
    """A file of a package.  Processes that want the same one take turns.  Raises MachineError."""
    WHERE.mkdir(parents=True, exist_ok=True)
    tree = WHERE / package
    with open(WHERE / ".lock", "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not list(tree.glob(pattern)):
            _unpack(package, tree)
    found = sorted(tree.glob(pattern))
    if not found:
        raise MachineError(f"{package} holds no {pattern}")
    return found[0]


def _unpack(package: str, tree: Path) -> None:
    shutil.rmtree(tree, ignore_errors=True)
    tree.mkdir()
    run("apt-get", "-q", "download", package, cwd=tree)
    (archive,) = tree.glob("*.deb")
    run("dpkg-deb", "-x", str(archive), str(tree))
    archive.unlink()


def newest_linux() -> str:
    """The package that linux-image-cloud-amd64 stands for.  Raises MachineError."""
    depends = run("apt-cache", "depends", "linux-image-cloud-amd64").splitlines()
    found = [line.split()[-1] for line in depends if "Depends: linux-image-" in line]
    if not found:
        raise MachineError("apt-cache knows no linux-image-cloud-amd64: apt-get update")
    return found[0]
