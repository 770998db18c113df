# SPDX-License-Identifier: BSD-2-Clause
"""Whether the sources are still those that were checked out."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Optional

from debug.kernel.machine import ROOT

SOURCES = ("src", "trampoline", "bochsrc")


def changed_sources(tree: Path = ROOT) -> Optional[str]:
    """Which sources differ from the checkout, and how to get them back; None if none do."""
    if shutil.which("git") is None:
        return None
    done = subprocess.run(
        ["git", "-C", str(tree), "status", "--porcelain", "-uno", "--", *SOURCES],
        capture_output=True,
        text=True,
    )
    names = [line[3:] for line in done.stdout.splitlines()]
    if done.returncode or not names:
        return None
    return (
        f"changed in this tree: {', '.join(names)}; if that is an earlier chapter's change,"
        " make pristine takes it back"
    )
