# SPDX-License-Identifier: BSD-2-Clause
"""Whether a stream is a terminal that shows colours, and is wanted to."""

from __future__ import annotations

import os
from typing import Optional, TextIO

_WITHOUT = ("", "dumb")  # what TERM is where nobody knows the terminal, or it can do nothing


def coloured(stream: Optional[TextIO]) -> bool:
    """False for a pipe, for a TERM that has no colours, and with NO_COLOR."""
    return (
        stream is not None
        and stream.isatty()
        and not os.environ.get("NO_COLOR")
        and os.environ.get("TERM", "") not in _WITHOUT
    )
