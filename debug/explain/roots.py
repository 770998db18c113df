# SPDX-License-Identifier: BSD-2-Clause
"""What stands where CR3 points: tables that somebody built, nothing, or something else."""

from __future__ import annotations

from typing import Optional

from debug.evidence import Evidence
from debug.explain.context import PAGE
from debug.x86.page_entries import FRAME, IGNORED_HIGH, EntryFlag


def _entries(evidence: Evidence, cr3: int, size: int) -> Optional[list[int]]:
    data = evidence.memory.read(cr3 & ~(PAGE - 1), PAGE)
    if data is None:
        return None
    return [int.from_bytes(data[at : at + size], "little") for at in range(0, PAGE, size)]


def empty(evidence: Evidence, cr3: int) -> bool:
    """Whether the page at CR3 is all zeros."""
    entries = _entries(evidence, cr3, 8)
    return entries is not None and not any(entries)


def built(evidence: Evidence, cr3: int, size: int = 8) -> bool:
    """Whether every entry of the root, of `size` bytes each, is 0 or may be one, and some are present.

    The BIOS's vectors at address 0 name no RAM (of which a stub says that it is all zeros), and most
    of them the same page.
    """
    filled = [entry for entry in _entries(evidence, cr3, size) or () if entry]
    present = [entry for entry in filled if entry & EntryFlag.P]
    if not present or len(present) * 2 < len(filled):
        return False
    named = [entry & FRAME for entry in present if not entry & EntryFlag.PS]
    if any(entry & IGNORED_HIGH for entry in present) or len(set(named)) * 2 < len(named):
        return False
    return all(evidence.memory.read(frame, 1) is not None for frame in named)
