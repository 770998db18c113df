# SPDX-License-Identifier: BSD-2-Clause
"""A whole trace: what the decoder said about one stream, in bounded memory."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import BinaryIO, Iterable

from debug.evidence import StageEvent
from debug.stages.frames import Damage, Frame, FrameDecoder, Item, Text

MAX_FRAMES = 1 << 18  # the last ones are kept
MAX_DAMAGE = 4096  # the first ones are kept
MAX_CONSOLE = 1 << 16  # characters: the last ones are kept
_CHUNK = 1 << 16


@dataclass(frozen=True)
class Trace:
    """Frames and damage in the stream's order, and the tail of the console text.

    `frame_count` and `damage_count` also count what was not kept; `size` is in bytes.
    """

    frames: tuple[Frame, ...] = ()
    damage: tuple[Damage, ...] = ()
    console: str = ""
    frame_count: int = 0
    damage_count: int = 0
    size: int = 0

    def events(self, source: str) -> tuple[StageEvent, ...]:
        """The frames in the evidence model; `source` is "e9" or "com1"."""
        return tuple(frame.event(source) for frame in self.frames)


class TraceBuilder:
    """Collects a decoder's items."""

    def __init__(self) -> None:
        self._frames: deque[Frame] = deque(maxlen=MAX_FRAMES)
        self._damage: list[Damage] = []
        self._console: deque[str] = deque()
        self._console_size = 0
        self._frame_count = 0
        self._damage_count = 0

    def add(self, items: Iterable[Item]) -> None:
        """Take what FrameDecoder.feed() or finish() returned."""
        for item in items:
            if isinstance(item, Frame):
                self._frames.append(item)
                self._frame_count += 1
            elif isinstance(item, Text):
                self._add_text(item.text)
            else:
                self._damage_count += 1
                if len(self._damage) < MAX_DAMAGE:
                    self._damage.append(item)

    def _add_text(self, text: str) -> None:
        text = text[-MAX_CONSOLE:]
        self._console.append(text)
        self._console_size += len(text)
        while self._console_size - len(self._console[0]) >= MAX_CONSOLE:
            self._console_size -= len(self._console.popleft())

    def trace(self, size: int = 0) -> Trace:
        """What was collected so far."""
        return Trace(
            tuple(self._frames),
            tuple(self._damage),
            "".join(self._console)[-MAX_CONSOLE:],
            self._frame_count,
            self._damage_count,
            size,
        )


def decode(data: bytes) -> Trace:
    """The trace in a stream that is there as a whole; any bytes are accepted."""
    decoder, builder = FrameDecoder(), TraceBuilder()
    for start in range(0, len(data), _CHUNK):
        builder.add(decoder.feed(data[start : start + _CHUNK]))
    builder.add(decoder.finish())
    return builder.trace(len(data))


def read_trace(stream: BinaryIO) -> Trace:
    """The trace in an open file, read to its end in chunks.  Raises OSError."""
    decoder, builder, size = FrameDecoder(), TraceBuilder(), 0
    while chunk := stream.read(_CHUNK):
        size += len(chunk)
        builder.add(decoder.feed(chunk))
    builder.add(decoder.finish())
    return builder.trace(size)
