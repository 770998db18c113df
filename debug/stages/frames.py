# SPDX-License-Identifier: BSD-2-Clause
"""The streaming decoder of stage frames (docs/stage-codes.md "Frames").

Bytes in; frames, console text and reports of damage out, in order.  Any bytes are accepted; the
memory used is bounded, and how the bytes are cut into chunks does not matter.
"""

from __future__ import annotations

import re
from collections import OrderedDict, deque
from dataclasses import dataclass
from enum import Enum
from typing import Optional, Union

from debug.evidence import StageEvent
from debug.stages.checksum import checksum
from debug.stages.console import Cleaner

MAX_CPUS = 4096  # APIC IDs whose sequence is followed; of more, the longest silent is forgotten
MAX_HEADS = 16  # torn heads whose tail is waited for

_FRAME = re.compile(
    rb"@([0-9a-f]{2,8}):([0-9a-f]{2})(?:=([0-9a-f]{1,8}))?\.([0-9a-f-])\*([0-9a-f]{2})"
)
# The longest beginning of a frame, down to a bare `@`.
_REST = rb"(?:\.(?:[0-9a-f-](?:\*[0-9a-f]{0,2})?)?)"
_HEAD = re.compile(
    rb"@(?:[0-9a-f]{2,8}(?::(?:[0-9a-f]{2}(?:=(?:[0-9a-f]{1,8}" + _REST + rb"?)?|" + _REST + rb")?"
    rb"|[0-9a-f]?))?|[0-9a-f]?)"
)
_TAIL_RUN = re.compile(rb"[0-9a-f:=.*-]{1,27}")
_TAIL = re.compile(rb"[0-9a-f:=.]*-?\*?[0-9a-f]{1,2}")
_CLEAR_TAIL = re.compile(rb"(?:[0-9a-f:=]*\.)?[0-9a-f-]\*[0-9a-f]{2}|\*[0-9a-f]{2}")
_END = re.compile(rb"\r{0,2}\n")
_MAX_END = 3


class DamageKind(Enum):
    """What was wrong at one place of the stream."""

    TORN = "torn"  # the beginning of a frame, then something else
    BAD_SUM = "bad-sum"  # the characters do not match the sum
    LOST = "lost"  # a gap in a CPU's sequence
    ORPHAN = "orphan"  # the end of a frame without its beginning
    UNTERMINATED = "unterminated"  # a frame without its newline; it is used
    DOUBTFUL = "doubtful"  # `@@` before the next frame: console text, or a torn `@`


@dataclass(frozen=True)
class Damage:
    """One report of damage; `text` is what was seen, printable ASCII, at most 27 characters.

    `offset` counts the stream's bytes.  `lost` is the least number of missing frames of the CPU
    `apic_id`: the sequence is known modulo 16.
    """

    kind: DamageKind
    offset: int
    text: str = ""
    apic_id: Optional[int] = None
    lost: int = 0

    def __str__(self) -> str:
        if self.kind is DamageKind.LOST:
            frames = "frame" if self.lost == 1 else "frames"
            return f"byte {self.offset}: {self.lost} or more {frames} of CPU {self.apic_id} lost"
        return f"byte {self.offset}: {self.kind.value} frame {self.text!r}"


@dataclass(frozen=True)
class Frame:
    """One frame: CPU `apic_id` lit the lamp `code`.

    It is the CPU's `sequence`th modulo 16, None from an emitter that keeps no count and sends `-`.
    """

    apic_id: int
    code: int
    argument: Optional[int]
    sequence: Optional[int]
    offset: int = 0
    damaged: bool = False  # put together from a torn head and its tail
    restarted: bool = False  # the CPU began anew: it was started again or the machine was reset

    def event(self, source: str) -> StageEvent:
        """The frame in the evidence model; `source` is "e9" or "com1"."""
        return StageEvent(
            self.apic_id, self.code, self.argument, self.sequence, None, source, self.damaged
        )


@dataclass(frozen=True)
class Text:
    """Console text, already harmless and with `@@` undone."""

    text: str


Item = Union[Frame, Text, Damage]


def parse_frame(data: bytes) -> Optional[Frame]:
    """The frame that `data` is, from its `@` to its sum; None unless grammar and sum are right."""
    match = _FRAME.fullmatch(data)
    if match is None or int(match[5], 16) != checksum(data[1 : match.start(5) - 1]):
        return None
    argument = None if match[3] is None else int(match[3], 16)
    sequence = None if match[4] == b"-" else int(match[4], 16)
    return Frame(int(match[1], 16), int(match[2], 16), argument, sequence)


@dataclass
class _Cpu:
    first: int  # the code it began to count with, -1 if that frame was not seen
    expected: Optional[int]  # the next sequence number, None while all frames are uncounted


class FrameDecoder:
    """Decodes one stream: feed() any number of times, then finish()."""

    def __init__(self) -> None:
        self._rest = b""  # what can't be decided without more bytes; at most 31
        self._offset = 0  # of _rest in the stream
        self._cpus: OrderedDict[int, _Cpu] = OrderedDict()
        self._heads: deque[bytes] = deque(maxlen=MAX_HEADS)
        self._line_start = True
        self._started = False  # a frame was seen: single @ are frames from now on
        self._first_line = True
        self._cleaner = Cleaner()
        self._items: list[Item] = []

    def feed(self, data: bytes) -> list[Item]:
        """What the next bytes add."""
        return self._decode(data, False)

    def finish(self) -> list[Item]:
        """What the end of the stream settles."""
        items = self._decode(b"", True)
        self._text(b"", final=True)
        items += self._items
        self._items = []
        return items

    def _decode(self, data: bytes, final: bool) -> list[Item]:
        buffer = self._rest + data
        position = 0
        while position < len(buffer):
            if buffer[position] == 0x40:
                end = self._lead(buffer, position, final)
            else:
                end = self._console(buffer, position, final)
            if end is None:
                break
            position = end
        self._rest = buffer[position:]
        self._offset += position
        items, self._items = self._items, []
        return items

    # --- at an `@`

    def _lead(self, buffer: bytes, at: int, final: bool) -> Optional[int]:
        """Decode what begins with the `@` at `at`; where it ends, None to wait for more."""
        if at + 1 == len(buffer) and not final:
            return None
        if buffer[at + 1 : at + 2] == b"@":
            return self._escaped(buffer, at, final)
        head = _HEAD.match(buffer, at)
        assert head is not None
        end = head.end()
        if end == len(buffer) and not final:
            return None
        whole = _FRAME.fullmatch(buffer, at, end)
        if whole is None:
            self._torn(head.group(), at, before_frame=buffer[end : end + 1] == b"@")
            return end
        terminator = _END.match(buffer, end)
        if terminator is None and len(buffer) - end < _MAX_END and not final:
            if not buffer[end:].strip(b"\r"):
                return None
        offset = self._offset + at
        frame = parse_frame(head.group())
        if frame is None:
            self._damage(DamageKind.BAD_SUM, offset, head.group(), int(whole[1], 16))
        else:
            if terminator is None:
                self._damage(DamageKind.UNTERMINATED, offset, head.group(), frame.apic_id)
            self._accept(frame, offset, damaged=False)
        self._line_start = True
        self._first_line = False
        return terminator.end() if terminator else end

    def _escaped(self, buffer: bytes, at: int, final: bool) -> Optional[int]:
        """`@@`: one `@` of console text; say so if a torn `@` before a frame looks the same."""
        head = _HEAD.match(buffer, at + 1)
        assert head is not None
        if head.end() == len(buffer) and not final:
            return None
        frame = parse_frame(head.group())
        if frame is not None:
            cpu = self._cpus.get(frame.apic_id)
            if cpu is not None and frame.sequence in (None, cpu.expected):
                offset = self._offset + at
                self._damage(DamageKind.DOUBTFUL, offset, head.group(), frame.apic_id)
        self._text(b"@")
        return at + 2

    def _torn(self, head: bytes, at: int, before_frame: bool) -> None:
        if not (self._started or before_frame or b":" in head):
            self._text(head)  # firmware and boot loaders do not know the protocol
            return
        apic_id = int(head[1:].split(b":")[0], 16) if b":" in head else None
        self._damage(DamageKind.TORN, self._offset + at, head, apic_id)
        self._heads.append(head)
        self._line_start = True

    def _damage(self, kind: DamageKind, offset: int, text: bytes, apic_id: Optional[int]) -> None:
        self._items.append(Damage(kind, offset, text.decode("ascii"), apic_id))

    # --- frames

    def _accept(self, frame: Frame, offset: int, damaged: bool) -> None:
        """Follow the CPU's sequence and hand the frame out."""
        self._started = True
        self._forget_heads(frame.apic_id)
        cpu = self._cpus.setdefault(frame.apic_id, _Cpu(-1, None))
        restarted = False
        if frame.sequence is not None:
            lost = (frame.sequence - (cpu.expected or 0)) % 16
            restarted = lost != 0 and frame.sequence == 0 and frame.code == cpu.first
            if lost and not restarted:
                self._items.append(Damage(DamageKind.LOST, offset, "", frame.apic_id, lost))
            if cpu.expected is None and frame.sequence == 0:
                cpu.first = frame.code
            cpu.expected = (frame.sequence + 1) % 16
        self._cpus.move_to_end(frame.apic_id)
        if len(self._cpus) > MAX_CPUS:
            self._cpus.popitem(last=False)
        self._items.append(
            Frame(
                frame.apic_id,
                frame.code,
                frame.argument,
                frame.sequence,
                offset,
                damaged,
                restarted,
            )
        )

    def _forget_heads(self, apic_id: int) -> None:
        """A CPU that sends its next frame has no tail left to send."""
        if self._heads:
            kept = [h for h in self._heads if b":" not in h or _identity(h) != apic_id]
            self._heads = deque(kept, MAX_HEADS)

    # --- console text and tails

    def _console(self, buffer: bytes, start: int, final: bool) -> Optional[int]:
        """Decode text up to the next `@`; where it ends, None to wait for more."""
        if not (self._heads or self._first_line):
            lead = buffer.find(b"@", start)
            end = len(buffer) if lead < 0 else lead
            self._text(buffer[start:end])
            return end
        newline = buffer.find(b"\n", start)  # tails are looked for line by line
        end = len(buffer) if newline < 0 else newline + 1
        lead = buffer.find(b"@", start, end)
        end = end if lead < 0 else lead
        if self._line_start:
            run = _TAIL_RUN.match(buffer, start, end)
            if run is not None:
                stop = run.end()
                if not final and len(buffer) - stop < _MAX_END and not buffer[stop:].strip(b"\r"):
                    return None
                terminator = _END.match(buffer, stop, end)
                if terminator is not None and self._tail(run.group(), self._offset + start):
                    self._first_line = False
                    return terminator.end()
        self._text(buffer[start:end])
        self._first_line = self._first_line and not self._line_start
        return end

    def _tail(self, tail: bytes, offset: int) -> bool:
        """Use a line that can be the rest of a torn frame; False if it is console text."""
        if not _TAIL.fullmatch(tail):
            return False
        for head in self._heads:
            frame = parse_frame(head + tail)
            if frame is not None and self._fits(frame):
                self._heads.remove(head)
                self._accept(frame, offset, damaged=True)
                self._line_start = True
                return True
        if not _CLEAR_TAIL.fullmatch(tail):
            return False
        self._damage(DamageKind.ORPHAN, offset, tail, None)
        self._line_start = True
        return True

    def _fits(self, frame: Frame) -> bool:
        """Whether this is the CPU's next frame, as far as that is known."""
        cpu = self._cpus.get(frame.apic_id)
        if cpu is None or cpu.expected is None:
            return True
        return frame.sequence in (None, cpu.expected)

    def _text(self, data: bytes, final: bool = False) -> None:
        if data:
            self._line_start = data.endswith(b"\n")
        text = self._cleaner.feed(data, final)
        if text:
            self._items.append(Text(text))


def _identity(head: bytes) -> int:
    return int(head[1:].split(b":")[0], 16)
