# SPDX-License-Identifier: BSD-2-Clause
"""A bounded excerpt of an unbounded stream: its head, its tail, and what surrounds markers.

A log may be gigabytes long; what explains a death stands at its end, in front of each line that
says so, and in the first lines.  The excerpt is what remains when the rest is forgotten.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from re import Pattern
from typing import Mapping

_LINE = 80  # bytes of a line that a pattern decides upon: it may be cut in two


@dataclass(frozen=True)
class Piece:
    """A contiguous part of the stream: `start` is its offset in bytes."""

    start: int
    data: bytes

    @property
    def end(self) -> int:
        return self.start + len(self.data)


class Excerpt:
    """Feed it chunks; `pieces()` gives the parts it kept, in order, overlaps merged.

    `stem`: what several markers begin with; it is searched for once for all of them.  `lines`: more
    markers, each with what must match from its first byte on.  `head` and `tail` are in bytes.  For each occurrence of a marker the bytes from `before` in
    front of it to `after` behind its start are kept, the last `windows` occurrences of each.
    Memory stays below head + 2 * tail + windows * (before + after) per marker, plus a chunk.
    """

    def __init__(
        self,
        head: int = 256 << 10,
        tail: int = 2 << 20,
        markers: tuple[bytes, ...] = (),
        before: int = 16 << 10,
        after: int = 2 << 10,
        windows: int = 32,
        stem: bytes = b"",
        lines: Mapping[bytes, Pattern[bytes]] = {},
    ) -> None:
        markers = (*markers, *lines)
        self._head_limit, self._tail_limit = head, tail
        self._before, self._after = before, after
        branches = tuple(m for m in markers if stem and m.startswith(stem))
        self._searched: dict[bytes, tuple[bytes, ...]] = {
            m: (m,) for m in markers if m not in branches
        }
        if branches:
            self._searched[stem] = branches
        self._lines = lines
        self._overlap = max((len(marker) for marker in markers), default=1) - 1
        self._overlap = max(self._overlap, _LINE if lines else 0)
        self._head = bytearray()
        self._tail = bytearray()
        self._tail_start = 0
        self._open: list[tuple[bytes, int, int]] = []  # marker, from, to: not all there yet
        self._windows: dict[bytes, deque[Piece]] = {m: deque(maxlen=windows) for m in markers}
        self._last = dict.fromkeys(markers, -1)  # where each was found last
        self.counts = dict.fromkeys(markers, 0)  # how often
        self.length = 0

    def feed(self, chunk: bytes) -> None:
        for at in range(0, len(chunk), 1 << 20):
            self._feed(chunk[at : at + (1 << 20)])

    def _feed(self, chunk: bytes) -> None:
        if len(self._head) < self._head_limit:
            self._head += chunk[: self._head_limit - len(self._head)]
        scan_from = max(self._tail_start, self.length - self._overlap)
        self._tail += chunk
        self.length += len(chunk)
        for searched, markers in self._searched.items():
            self._find(searched, markers, scan_from - self._tail_start)
        self._close(self.length)
        # A window that is still open, or a marker cut in two, reaches this far back.
        keep = max(self._tail_limit, self._after + self._overlap) + self._before
        if len(self._tail) > 2 * keep:
            cut = len(self._tail) - keep
            del self._tail[:cut]
            self._tail_start += cut

    def _find(self, searched: bytes, markers: tuple[bytes, ...], position: int) -> None:
        # A flood of markers costs no more than the last `windows` occurrences of each in a chunk.
        found = {marker: deque[int](maxlen=self._windows[marker].maxlen) for marker in markers}
        at = self._tail.find(searched, position)
        while at >= 0:
            start = self._tail_start + at
            for marker in markers:
                if start > self._last[marker] and self._is(marker, at):
                    found[marker].append(start)
                    self._last[marker] = start
                    self.counts[marker] += 1
            at = self._tail.find(searched, at + len(searched))
        for marker, starts in found.items():
            for start in starts:
                self._open.append((marker, start - self._before, start + self._after))

    def _is(self, marker: bytes, at: int) -> bool:
        if marker in self._lines:
            return self._lines[marker].match(self._tail, at) is not None
        return self._tail.startswith(marker, at)

    def _close(self, known: int) -> None:
        """Copy the windows whose end has arrived."""
        still_open = []
        for marker, begin, end in self._open:
            if end > known:
                still_open.append((marker, begin, end))
            else:
                self._windows[marker].append(self._cut(begin, end))
        self._open = still_open[-4096:]

    def _cut(self, begin: int, end: int) -> Piece:
        low = max(begin, self._tail_start, 0)
        data = bytes(self._tail[low - self._tail_start : max(0, end - self._tail_start)])
        return Piece(low, data)

    def pieces(self) -> list[Piece]:
        """What was kept, in stream order; neighbours that touch or overlap are one piece."""
        parts = [piece for windows in self._windows.values() for piece in windows]
        parts += [self._cut(begin, min(end, self.length)) for _, begin, end in self._open]
        if self._head:
            parts.append(Piece(0, bytes(self._head)))
        tail_from = max(self._tail_start, self.length - self._tail_limit)
        parts.append(self._cut(tail_from, self.length))
        parts = sorted((part for part in parts if part.data), key=lambda part: part.start)
        merged: list[tuple[int, bytearray]] = []
        for part in parts:
            if merged and part.start <= merged[-1][0] + len(merged[-1][1]):
                start, data = merged[-1]
                data += part.data[max(0, start + len(data) - part.start) :]
            else:
                merged.append((part.start, bytearray(part.data)))
        return [Piece(start, bytes(data)) for start, data in merged]
