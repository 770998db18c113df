# SPDX-License-Identifier: BSD-2-Clause
"""What stands where CR3 points: tables that somebody built, nothing, or something else."""

from __future__ import annotations

from typing import Optional

from debug.evidence import Evidence

_PAGE = 4096
_P, _PS = 1 << 0, 1 << 7
_FRAME = 0x000F_FFFF_FFFF_F000  # an entry's address
_UPPER = 0x7FF0_0000_0000_0000  # bits of an entry that software uses at most, NX apart


def _entries(evidence: Evidence, cr3: int, size: int) -> Optional[list[int]]:
    data = evidence.memory.read(cr3 & ~(_PAGE - 1), _PAGE)
    if data is None:
        return None
    return [int.from_bytes(data[at : at + size], "little") for at in range(0, _PAGE, size)]


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
    present = [entry for entry in filled if entry & _P]
    if not present or len(present) * 2 < len(filled):
        return False
    named = [entry & _FRAME for entry in present if not entry & _PS]
    if any(entry & _UPPER for entry in present) or len(set(named)) * 2 < len(named):
        return False
    return all(evidence.memory.read(frame, 1) is not None for frame in named)
