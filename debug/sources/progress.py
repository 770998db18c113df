# SPDX-License-Identifier: BSD-2-Clause
"""Whether CPUs in loops wait in vain: what was read at two moments in, a decision out.

A CPU that takes a lock again and again, or polls for work, is in the same loop each time one looks.
It goes on if what the loop reads is written meanwhile, if it is back with other registers, or if the
function that loops has returned.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Callable, Mapping, Optional, Sequence

from debug.evidence import Awaited, Cpu, Registers

WATCHED = 1.0  # seconds: longer than a tick, or than any work that a lock is held for

Read = Callable[[int, int], Optional[bytes]]  # physical address, length


class Progress:
    """Takes looks at a machine that runs between them."""

    def __init__(self, words: Sequence[Awaited], read: Read) -> None:
        """`read` at the moment at which the words were found."""
        self._words = {word: _value(word, read) for word in words}
        # The CPUs that got what they waited for, and those met twice with the same registers.
        self.served: frozenset[int] = frozenset()
        self.still: frozenset[int] = frozenset()
        self._met: set[tuple[int, Optional[int], tuple[tuple[str, int], ...]]] = set()

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
            self._meet(word.cpu, cpus.get(word.cpu))
            now = _value(word, read)
            if before is not None and now is not None and now != before:
                found.add(word.cpu)
            elif (registers := cpus.get(word.cpu)) is not None and _elsewhere(word, registers):
                found.add(word.cpu)
        places = {word.physical for word in self._words if word.cpu in found} - {None}
        # A lock: who waits for the same word is next.
        found |= {word.cpu for word in self._words if word.physical in places}
        self.served = frozenset(found)

    def _meet(self, cpu: int, registers: Optional[Registers]) -> None:
        """Take down where a CPU is: with all registers as before, no clock that it reads runs."""
        if registers is not None:
            key = (cpu, registers.rip, tuple(registers.general.items()))
            self.still |= {cpu} if key in self._met else set()
            self._met.add(key)

    def applied(self, cpus: Sequence[Cpu]) -> tuple[Cpu, ...]:
        """The CPUs with what was seen."""
        return tuple(
            replace(cpu, served=True)
            if cpu.index in self.served
            else replace(cpu, moved=False)
            if cpu.index in self.still
            else cpu
            for cpu in cpus
        )


def _value(word: Awaited, read: Read) -> Optional[bytes]:
    return None if word.physical is None else read(word.physical, word.size)


_CALLER = 1024  # bytes of stack that a caller may have below its own return address


def _elsewhere(word: Awaited, registers: Registers) -> bool:
    """Whether the CPU has left its loop since: it is back in it, or behind it, with other registers.

    A handler that interrupted the loop has its frame below the loop's stack pointer.
    """
    if registers.rip in word.loop:
        return any(registers.get(name) not in (value, None) for name, value in word.kept)
    before, now = dict(word.kept).get("rsp"), registers.get("rsp")
    return before is not None and now is not None and 0 < now - before < _CALLER


def watch(
    words: Sequence[Awaited], read: Read, later: Callable[[], Optional[Mapping[int, Registers]]]
) -> Progress:
    """Looks at a stopped machine that runs on between them, until all is known or time is up.

    later: lets it run for a moment; the CPUs' registers then, None if it ended in it.
    """
    progress, until = Progress(words, read), time.monotonic() + WATCHED
    while progress.waiting and time.monotonic() < until:
        shown = later()
        if shown is None:
            return Progress((), read)  # that is another story
        progress.look(shown, read)
    return progress
