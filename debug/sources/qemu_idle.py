# SPDX-License-Identifier: BSD-2-Clause
"""When does a machine make no progress?  Pure: times and register text in, a decision out."""

from __future__ import annotations

QUIET = 0.25  # seconds without any output before registers are sampled


class IdleWatch:
    """Decides when a machine makes no progress: nothing written, no register changed."""

    def __init__(self, limit: float) -> None:
        self._limit = limit
        self._activity = -1
        self._since = self._sampled = 0.0
        self._registers = ""

    def wants_sample(self, now: float, activity: int) -> bool:
        if activity != self._activity:
            self._activity = activity
            self._since = self._sampled = now
            self._registers = ""
            return False
        return now - self._sampled >= min(QUIET, self._limit / 2)

    def sample(self, now: float, registers: str) -> bool:
        """True when `registers` have been the same for the limit."""
        self._sampled = now
        if not registers or registers != self._registers:
            self._registers = registers
            self._since = now
            return False
        return now - self._since >= self._limit
