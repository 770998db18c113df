# SPDX-License-Identifier: BSD-2-Clause
"""The tutorial's chapters (folders of docs/tutorial) that rows point to: named in one place."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

_TUTORIAL = Path(__file__).resolve().parents[2] / "docs" / "tutorial"

FIRST_LIGHT = "01-one-byte-on-port-0xe9"
EXCEPTIONS = "03-reading-a-triple-fault"
INTERRUPTS = "04-interrupts-and-the-double-fault"
FINDING_CPUS = "05-finding-the-cpus"
TRAMPOLINE = "06-the-trampoline"
WAKING = "07-init-sipi-sipi"
REAL_MODE = "08-the-ap-in-real-mode"
PROTECTED_MODE = "08-the-ap-in-real-mode"
PAGING = "09-paging-and-long-mode"
LONG_MODE = "09-paging-and-long-mode"
STACKS = "10-lcpu-start64"
INTO_C = "10-lcpu-start64"
TOGETHER = "11-many-aps-at-once"
STRICTER = "13-bochs-the-stricter-witness"
WORKING = "16-timers-ipis-and-work-stealing"


@lru_cache(maxsize=None)
def path(chapter: str) -> str:
    """Where the chapter can be read in this checkout; empty if it is not there."""
    return f"docs/tutorial/{chapter}" if (_TUTORIAL / chapter / "README.md").is_file() else ""
