# SPDX-License-Identifier: BSD-2-Clause
"""Physical memory of a machine that Bochs's debugger holds.

`xp /Ngx ADDRESS` prints eight bytes in 20 characters, about 8 MB of memory a second.  `writemem` is
a hundred times faster but goes through the page tables of the debugger's CPU, so it serves large
reads only where a CPU has paging off: there linear addresses are physical.
"""

from __future__ import annotations

import os
import re
from typing import Optional

from debug.sources.bochs_process import BochsProcess, DebuggerError

BLOCK = 16 << 10  # bytes fetched and kept at a time
LARGE = 64 << 10  # bytes from which writemem pays
MAX_READ = 256 << 20
ANSWER_TIMEOUT = 20.0
_ROM_HIGH, _ROM_HIGH_END = 0xFFFE0000, 1 << 32

_ROW = re.compile(
    r"^0x([0-9a-f]{16}) <[^>]{1,40}>:((?:[ \t]+0x[0-9a-f]{8,16})+)[ \t]*$", re.MULTILINE
)


def parse_words(text: str, start: int, length: int) -> Optional[bytes]:
    """The `length` bytes from `start` in the answer to `xp /Ngx`; None if any is missing."""
    result = bytearray()
    for found in _ROW.finditer(text):
        if int(found[1], 16) != start + len(result):
            return None
        for word in found[2].split():
            result += int(word, 16).to_bytes(8, "little")
    return bytes(result[:length]) if len(result) >= length else None


class BochsMemory:
    """Reads on demand and keeps what was read; `size` is that of RAM in bytes.

    `unpaged` is a CPU with CR0.PG=0 if there is one; `directory` is private to us.
    """

    def __init__(
        self, process: BochsProcess, size: Optional[int], unpaged: Optional[int], directory: str
    ) -> None:
        self._process: Optional[BochsProcess] = process
        self._size = size
        self._unpaged = unpaged
        self._directory = directory
        self._blocks: dict[int, bytes] = {}

    def detach(self) -> None:
        """The machine ends: only what has been read stays."""
        self._process = None

    def _exists(self, physical: int, length: int) -> bool:
        if length <= 0 or length > MAX_READ or physical < 0:
            return False
        end = physical + length
        if _ROM_HIGH <= physical and end <= _ROM_HIGH_END:
            return True
        return end <= (self._size if self._size is not None else 0)

    def read(self, physical: int, length: int) -> Optional[bytes]:
        """`length` bytes; None where there is no memory, or none that was read before the end."""
        if length == 0:
            return b""
        if not self._exists(physical, length):
            return None
        first, last = physical // BLOCK, (physical + length - 1) // BLOCK
        missing = [block for block in range(first, last + 1) if block not in self._blocks]
        if missing and not self._fetch(missing[0], missing[-1]):
            return None
        data = b"".join(self._blocks.get(block, b"") for block in range(first, last + 1))
        offset = physical - first * BLOCK
        part = data[offset : offset + length]
        return part if len(part) == length else None

    def _fetch(self, first: int, last: int) -> bool:
        start, length = first * BLOCK, (last - first + 1) * BLOCK
        if start < _ROM_HIGH and self._size is not None:
            length = min(length, self._size - start)
        try:
            data = self._bulk(start, length) if length >= LARGE else None
            if data is None:
                data = self._words(start, length)
        except DebuggerError:
            self._process = None
            return False
        if data is None:
            return False
        for block in range(first, last + 1):
            at = (block - first) * BLOCK
            self._blocks[block] = data[at : at + BLOCK]
        return True

    def _words(self, start: int, length: int) -> Optional[bytes]:
        parts = []
        for at in range(start, start + length, 1 << 20):
            part = min(1 << 20, start + length - at)
            if self._process is None:
                return None
            text = self._process.commands([f"xp /{-(-part // 8)}gx {at:#x}"], ANSWER_TIMEOUT)
            data = parse_words(text, at, part)
            if data is None:
                return None
            parts.append(data)
        return b"".join(parts)

    def _bulk(self, start: int, length: int) -> Optional[bytes]:
        """Through `writemem`; None where that can't be used."""
        if self._process is None or self._unpaged is None or start + length > 1 << 32:
            return None
        path = os.path.join(self._directory, "memory")
        try:
            self._process.commands(
                [f"set $cpu = {self._unpaged}", f'writemem "{path}" {start:#x} {length:#x}'],
                ANSWER_TIMEOUT,
            )
            fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            with os.fdopen(fd, "rb") as file:
                data = file.read(length + 1)
        except OSError:
            return None
        finally:
            try:
                os.unlink(path)
            except OSError:
                pass
        return data if len(data) == length else None
