# SPDX-License-Identifier: BSD-2-Clause
"""Whether CPUs in loops wait in vain.  Pure: what was read at two moments in, a decision out.

A CPU that takes a lock again and again, or polls for work, is in the same loop each time one looks.
It goes on if what the loop reads is written meanwhile, or if it is back with other registers.
"""

from __future__ import annotations

from typing import Callable, Mapping, Optional, Sequence

from debug.evidence import Awaited, Registers

WATCHED = 1.0  # seconds: longer than a tick, or than any work that a lock is held for

Read = Callable[[int, int], Optional[bytes]]  # physical address, length


class Progress:
    """Takes looks at a machine that runs between them."""

    def __init__(self, words: Sequence[Awaited], read: Read) -> None:
        """`read` at the moment at which the words were found."""
        self._words = {word: read(word.physical, word.size) for word in words}
        self.served: frozenset[int] = frozenset()  # the CPUs that got what they waited for

    @property
    def waiting(self) -> bool:
        """Whether there is anybody left to watch."""
        return any(word.cpu not in self.served for word in self._words)

    def look(self, cpus: Mapping[int, Registers], read: Read) -> None:
        """A later moment."""
        found = set(self.served)
        for word, before in self._words.items():
            if word.cpu in found:
                continue
            now = read(word.physical, word.size)
            if before is not None and now is not None and now != before:
                found.add(word.cpu)
            elif (registers := cpus.get(word.cpu)) is not None and _back(word, registers):
                found.add(word.cpu)
        self.served = frozenset(found)


def _back(word: Awaited, registers: Registers) -> bool:
    """Whether the CPU has left its loop since, and come to it again."""
    if registers.rip not in word.loop:
        return False
    return any(registers.get(name) not in (value, None) for name, value in word.kept)
