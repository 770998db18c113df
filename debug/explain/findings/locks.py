# SPDX-License-Identifier: BSD-2-Clause
"""What a kernel's own checks of its locks say."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from debug.explain.model import Finding


class LockTrouble(Enum):
    """Why nobody goes on."""

    TWICE = "a CPU or thread takes what it holds"
    CIRCLE = "each holds what another waits for"
    KEPT = "the holder does not give it back"
    WAKE_UP_LOST = "who sleeps is woken no more"
    BARRIER = "somebody is counted who does not come"


@dataclass(frozen=True)
class LockReport(Finding):
    """The kernel found it out; `details` are its own lines, addresses with their symbols."""

    trouble: LockTrouble
    text: str
    details: tuple[str, ...] = ()

    def sentences(self) -> tuple[str, ...]:
        return (f'the console says "{self.text}"', *self.details)
