# SPDX-License-Identifier: BSD-2-Clause
"""What the launcher tells the GDB that it starts: one JSON file in the session's directory."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Optional

from debug.sources.command_line import Launch


@dataclass(frozen=True)
class Config:
    """A session.  Paths are absolute; `qmp_fd` is inherited, -1 for none.

    offset: how far from where it is linked the kernel runs; base: the trampoline's page.
    """

    socket: str
    kernel: str
    offset: int
    trampoline: Optional[str]
    base: int
    colour: bool
    qmp_fd: int
    version: str
    launch: Launch

    def save(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self)), encoding="utf-8")


def load(path: str) -> Config:
    """The configuration in a file that save() wrote.  Raises OSError and ValueError."""
    data: dict[str, Any] = json.loads(Path(path).read_text(encoding="utf-8"))
    launch = data.pop("launch")
    launch["argv"] = tuple(launch["argv"])
    return Config(launch=Launch(**launch), **data)
