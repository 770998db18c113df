# SPDX-License-Identifier: BSD-2-Clause
"""Lines of a console that speak of panics and overflows without reporting one.

A boot that is well says "double fault handler installed" and "guard page at ffff8000...": it has
made its preparations, and the words alone are no end.
"""

from __future__ import annotations

import re

_SUBJECT = r"(?:kernel panic|double faults?|unhandled exceptions?|guard pages?|stack overflows?)"

# The one to whom the line belongs says that something is wrong, whatever else it says.
_TROUBLE = re.compile(
    r"(?i)\bpanic\w*\s*[:!-]|\bnot\b|n't\b|\bno\b|\bnever\b|\bfail|\bcannot\b|\b(?:in|inside|entered)\s"
    r"+(?:the\s+)?" + _SUBJECT
)

_PREPARES = re.compile(
    r"(?i)^\W*(?:ok\b|done\b|info\b\W*)?(?:(?:re)?(?:test|install|register|initiali[sz]|load|enabl|"
    r"configur|creat|allocat|prepar|map|add)(?:ing|ed|s)?|setting up|set up)\b"
    r"|" + _SUBJECT + r"\s+(?:handlers?|stacks?|ist|gates?|tss|tasks?|tests?|screens?|entry|hooks?|"
    r"support|detection|protection)\b"
    r"|\bguard pages?\s*(?:at|@|=|->|:)?\s*(?:0x)?[0-9a-f]{4,}"
    r"|\b(?:installed|registered|ready|initiali[sz]ed|enabled|configured|mapped|unmapped|reserved|"
    r"set up|in place|passed|ok)\b[^a-z]{0,24}$"
)


def announced(line: str) -> bool:
    """Whether the line tells of what was made ready, and of nothing that went wrong."""
    first = line.partition("\n")[0]
    return _TROUBLE.search(first) is None and _PREPARES.search(first) is not None
