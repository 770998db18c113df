# SPDX-License-Identifier: BSD-2-Clause
"""Several consoles that may say the same: what of them to show a person, once.

Many kernels print everything to port 0xE9 and to COM1.  The first console that speaks leads; what
another one says is held back for as long as it repeats the leader.
"""

from __future__ import annotations

from typing import Optional

WINDOW = 1 << 20  # bytes of the leader that others are compared with


class Chorus:
    """Feed it each piece of each console, in order; it returns what to show."""

    def __init__(self) -> None:
        self._leader: Optional[str] = None
        self._said = bytearray()  # by the leader
        self._start = 0  # of `_said`, in the leader's stream
        self._echo: dict[str, int] = {}  # position of a console that repeats the leader
        self._held: dict[str, bytearray] = {}  # what it has said beyond the leader
        self._own: set[str] = set()  # consoles that say something else

    def feed(self, name: str, data: bytes) -> bytes:
        """What to show of `data`, which console `name` has just written, and of what was held."""
        if self._leader is None:
            self._leader = name
        if name == self._leader:
            self._said += data
            surplus = len(self._said) - WINDOW
            if surplus > 0:
                del self._said[:surplus]
                self._start += surplus
            return data + b"".join(self._follow(other) for other in list(self._held))
        if name in self._own:
            return data
        self._held.setdefault(name, bytearray()).extend(data)
        return self._follow(name)

    def end(self) -> bytes:
        """What the others said beyond the leader, who will say no more."""
        rest = b"".join(bytes(held) for held in self._held.values())
        self._held.clear()
        return rest

    def _follow(self, name: str) -> bytes:
        """Let a console catch up with the leader; what it says of its own, if it does."""
        held = self._held[name]
        position = self._echo.setdefault(name, 0) - self._start
        if position >= 0:
            same = min(len(held), len(self._said) - position)
            if held[:same] == self._said[position : position + same]:
                del held[:same]
                self._echo[name] += same
                if len(held) <= WINDOW:
                    return b""
        self._own.add(name)
        return bytes(self._held.pop(name))
