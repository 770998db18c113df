# SPDX-License-Identifier: BSD-2-Clause
"""The guest's console on standard error, as it comes."""

from __future__ import annotations

import sys

from debug.stages.console import Cleaner


class Echo:
    """Shows console output without what a terminal would obey, however it is cut in pieces."""

    def __init__(self) -> None:
        self._cleaner = Cleaner()

    def take(self, data: bytes) -> None:
        """The next piece."""
        sys.stderr.write(self._cleaner.feed(data))
        sys.stderr.flush()


def echo_raw(data: bytes) -> None:
    """Pass a piece on as it is: the user asked for that."""
    sys.stderr.flush()
    sys.stderr.buffer.write(data)
    sys.stderr.buffer.flush()
