# SPDX-License-Identifier: BSD-2-Clause
"""Tiny machines for the tests of `lamppost run`, and what must be left of them: nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional

import jsonschema

from debug.report.machine import SCHEMA_PATH
from tests.tree import TREE

GUESTS = TREE / "tests/python/sources/guests"
LIMIT = 120  # seconds
EXIT_DEVICE = ("-device", "isa-debug-exit,iobase=0xf4")


def boot_sector(folder: Path, source: str, *defines: str) -> Path:
    """One of the guests of tests/python/sources/guests, assembled."""
    image = folder / "guest.img"
    given = [f"-D{define}" for define in defines]
    made = ["nasm", "-f", "bin", *given, str(GUESTS / source), "-o", str(image)]
    subprocess.run(made, check=True, timeout=LIMIT)
    return image


def qemu(image: Path, *more: str) -> list[str]:
    drive = f"format=raw,if=floppy,file={image}"
    return ["qemu-system-x86_64", "-drive", drive, *more]


@dataclass
class Scene:
    """A directory for temporary files, and a name that every process of this test carries."""

    folder: Path
    name: str = field(default_factory=lambda: f"scene-{uuid.uuid4().hex}")

    def __post_init__(self) -> None:
        (self.folder / "scratch").mkdir(exist_ok=True)

    def argv(self, *words: str) -> list[str]:
        """The command; the emulator's name is marked where there is one."""
        given = list(words)
        if any(Path(word).name.startswith("qemu-system-") for word in given):
            given += ["-name", self.name]
        return [sys.executable, str(TREE / "debug/lamppost"), "run", *given]

    @property
    def environment(self) -> dict[str, str]:
        clean = {k: v for k, v in os.environ.items() if k not in ("DISPLAY", "WAYLAND_DISPLAY")}
        return {**clean, "TMPDIR": str(self.folder / "scratch")}

    def start(
        self, *words: str, stdin: int = subprocess.DEVNULL, stderr: int = subprocess.PIPE
    ) -> subprocess.Popen[bytes]:
        """`lamppost run`, which goes on while the test does something."""
        return subprocess.Popen(
            self.argv(*words),
            cwd=self.folder,
            env=self.environment,
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=stderr,
        )

    def run(self, *words: str, typed: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        """`lamppost run` to its end, with `typed` on standard input."""
        done = subprocess.run(
            self.argv(*words),
            input=typed,
            capture_output=True,
            cwd=self.folder,
            env=self.environment,
            timeout=LIMIT,
            check=False,
        )
        self.nothing_is_left()
        return done

    def report(self, *words: str) -> dict[str, Any]:
        """What it says with --json, which must fit the schema."""
        done = self.run("--json", *words)
        assert done.stdout, done.stderr.decode("utf-8", "replace")
        found: dict[str, Any] = json.loads(done.stdout)
        jsonschema.validate(found, json.loads(SCHEMA_PATH.read_text(encoding="ascii")))
        return found

    def processes(self) -> list[int]:
        """The emulators of this test that run."""
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdecimal() and int(entry.name) != os.getpid():
                try:
                    words = (entry / "cmdline").read_bytes().split(b"\0")
                except OSError:
                    continue
                if self.name.encode() in words and b"qemu" in words[0]:
                    found.append(int(entry.name))
        return found

    def nothing_is_left(self) -> None:
        deadline = time.monotonic() + 10
        while self.processes() and time.monotonic() < deadline:
            time.sleep(0.02)
        assert self.processes() == []
        assert list((self.folder / "scratch").iterdir()) == []


def first_cause(report: dict[str, Any]) -> Optional[tuple[str, str]]:
    """(id, certainty) of the first cause."""
    causes = report["causes"]
    return (causes[0]["id"], causes[0]["certainty"]) if causes else None
