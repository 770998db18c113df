# SPDX-License-Identifier: BSD-2-Clause
"""`make setup` names what is missing, and costs a `make` next to nothing where nothing is."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = [
    line.split()[0]
    for line in (ROOT / "tests" / "packages.txt").read_text().splitlines()
    if line.split()[1:2] == ["run"]
]


def program(directory: Path, name: str, script: str) -> None:
    path = directory / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def set_up(directory: Path, installed: list[str]) -> tuple[subprocess.CompletedProcess[str], str]:
    """What `tests/setup run` does on a machine with these packages, and what it asked dpkg."""
    said = " ".join(f"{name}=installed" for name in installed) + " git=config-files"
    program(directory, "dpkg-query", f"echo asked >> {directory}/asked; echo '{said} '")
    program(directory, "apt-get", "exit 1")
    done = subprocess.run(
        [ROOT / "tests" / "setup", "run"],
        env={"PATH": f"{directory}:{os.environ['PATH']}", "TMPDIR": str(directory)},
        capture_output=True,
        text=True,
    )
    return done, (directory / "asked").read_text()


def test_nothing_is_said_where_nothing_is_missing(tmp_path: Path) -> None:
    done, asked = set_up(tmp_path, PACKAGES)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert asked == "asked\n", "one question for all packages"


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    done, _ = set_up(tmp_path, [name for name in PACKAGES if name not in ("gdb", "bochs")])
    assert done.returncode == 3
    assert "  gdb  make gdb\n" in done.stdout and "  bochs  " in done.stdout
    assert "nasm" not in done.stdout
    assert "could not install bochs gdb" in done.stderr
