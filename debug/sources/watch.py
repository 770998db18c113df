# SPDX-License-Identifier: BSD-2-Clause
"""How a live machine is to be watched, whichever emulator it runs on."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Callable, Optional

INTERRUPTED = "stopped by the user"  # among the messages of an observation that the user ended


@dataclass(frozen=True)
class Watch:
    """What every live source takes.

    timeout: seconds until a machine that runs is stopped.
    until: a regular expression; its first match in any console ends the observation.
    cpus: how many CPUs must come up, only passed on.
    idle: seconds in which no CPU changes a register and nothing is written before the machine is
        called stuck; None: wait for the timeout.
    keep_dir: put the emulator's log and the consoles there and leave them.
    on_output: called with each piece of console output, raw; of consoles that repeat each other
        only with the first.
    stop_when: polled; the observation ends when it says True.
    on_running: called once, when the machine runs: there is time while it boots (QEMU).
    """

    timeout: float = 60.0
    until: Optional[str] = None
    cpus: Optional[int] = None
    idle: Optional[float] = 2.0
    keep_dir: Optional[Path] = None
    on_output: Optional[Callable[[bytes], None]] = None
    stop_when: Optional[Callable[[], bool]] = None
    on_running: Optional[Callable[[], None]] = None

    def plain(self) -> dict[str, Any]:
        """These fields alone, of any class that adds others."""
        return {field.name: getattr(self, field.name) for field in fields(Watch)}
