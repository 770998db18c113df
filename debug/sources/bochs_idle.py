# SPDX-License-Identifier: BSD-2-Clause
"""Whether a machine under Bochs makes progress."""

from __future__ import annotations

from debug.sources.bochs_state import Tree

QUIET = 0.4  # seconds without output between two samples


class IdleWatch:
    """Decides when a machine makes no progress: nothing written, no register changed.

    `quiet` is how many seconds without output go by before, and between, samples.
    """

    def __init__(self, limit: float, quiet: float = QUIET) -> None:
        self._limit = limit
        self._quiet = quiet
        self._activity = -1
        self._since = self._sampled = 0.0
        self._trees: dict[int, Tree] = {}

    def wants_sample(self, now: float, activity: int) -> bool:
        if activity != self._activity:
            self._activity = activity
            self._since = self._sampled = now
            self._trees = {}
            return False
        return now - self._sampled >= self._quiet

    def stopped(self) -> None:
        """The machine was stopped for another reason: that time does not count."""
        self._activity = -1

    def sample(self, now: float, trees: dict[int, Tree]) -> bool:
        """True when all registers have been the same for the limit."""
        self._sampled = now
        if not trees or trees != self._trees:
            self._trees = trees
            self._since = now
            return False
        return now - self._since >= self._limit
