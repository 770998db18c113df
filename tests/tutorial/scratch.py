# SPDX-License-Identifier: BSD-2-Clause
"""The copy of the tree in which a chapter is executed: changes there hurt nobody."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TUTORIAL = ROOT / "docs" / "tutorial"


class ScratchError(Exception):
    """A diff that does not apply; the message is patch's."""


def make(directory: Path) -> Path:
    """Copy what git tracks, and the build so that make need not begin at nothing."""
    tree = directory / "lamppost"
    names = subprocess.run(
        ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        check=True,
        capture_output=True,
    ).stdout.split(b"\0")
    for raw in names:
        source = ROOT / raw.decode()
        if raw and source.is_file():
            target = tree / raw.decode()
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target)
    _as_a_checkout(tree)
    if (ROOT / "build").is_dir():
        skip = shutil.ignore_patterns("labs", "mystery", "host", "foreign", "tutorial", "python")
        shutil.copytree(ROOT / "build", tree / "build", symlinks=True, ignore=skip)
    return tree


def _as_a_checkout(tree: Path) -> None:
    """What a reader has: a clone in which nothing is changed yet."""
    git = ("git", "-C", str(tree), "-c", "user.name=reader", "-c", "user.email=reader@localhost")
    for command in (("init", "-q"), ("add", "-A"), ("commit", "-q", "-m", "as cloned")):
        subprocess.run([*git, *command], check=True, capture_output=True)


def apply(tree: Path, diff: str) -> None:
    """Apply a unified diff.  Raises ScratchError."""
    done = subprocess.run(
        ["patch", "-p1", "--fuzz=0", "--batch", "--no-backup-if-mismatch", "-d", str(tree)],
        input=diff,
        capture_output=True,
        text=True,
        timeout=30,
    )
    if done.returncode:
        raise ScratchError(" ".join(done.stdout.split()) or done.stderr.strip())
