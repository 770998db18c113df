# SPDX-License-Identifier: BSD-2-Clause
"""A copy of a guest's memory from address 0 on, as debug/ wants it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

from debug.stages.memory import MemoryTrace, read_memory


@dataclass(frozen=True)
class Copy:
    """Implements debug.evidence.Memory."""

    data: bytes

    def read(self, physical: int, length: int) -> Optional[bytes]:
        part = self.data[physical : physical + length]
        return part if len(part) == length else None


def read_record(data: bytes) -> MemoryTrace:
    """The stage record in a copy of memory; nothing of it may be damaged."""
    record = read_memory(Copy(data))
    assert record.control is not None and not record.problems, record.problems
    return record
