# SPDX-License-Identifier: BSD-2-Clause
"""Where the sources are, and which files belong to them."""

import subprocess
from pathlib import Path

TREE = Path(__file__).resolve().parents[1]


def tracked(*patterns: str) -> list[str]:
    """The files that git knows and that are still there, relative to TREE."""
    done = subprocess.run(
        ["git", "ls-files", "-z", "--", *patterns], cwd=TREE, capture_output=True, check=True
    )
    names = done.stdout.decode("utf-8").split("\0")
    return [name for name in names if name and (TREE / name).is_file()]
