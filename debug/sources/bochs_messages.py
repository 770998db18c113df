# SPDX-License-Identifier: BSD-2-Clause
"""What Bochs says on stderr.  Pure: bytes in, lines that are safe to print out."""

from __future__ import annotations

import re

from debug.sources.console import plain

MAX_LINES = 8
_COMPLAINT = re.compile(r"^[0-9]{11,}[ep]\[[^\]]{1,8}\] ?(.{1,300})")


def last_words(errors: bytes) -> tuple[str, ...]:
    """What Bochs said on stderr when it gave up, without its start-up chatter."""
    lines = [line.strip() for line in plain(errors).splitlines()]
    telling = [
        line
        for line in lines
        if line and not set(line) <= {"="} and not line.startswith(("ALSA lib", "0000000000"))
    ]
    return tuple(telling[-MAX_LINES:])


def complaints(errors: bytes) -> tuple[str, ...]:
    """The errors and panics that Bochs reported before it opened its log: bad settings."""
    found = (_COMPLAINT.match(line) for line in plain(errors).splitlines())
    return tuple(match[1].removeprefix(">>PANIC<<").strip() for match in found if match)[
        -MAX_LINES:
    ]
