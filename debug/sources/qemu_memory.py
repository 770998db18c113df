# SPDX-License-Identifier: BSD-2-Clause
"""Physical memory of a paused QEMU, read on demand.

Only RAM and ROM are read, as `info mtree -f` lists them, and VGA's text screen: reading a device's
registers has side effects.  What was read is kept, so that it stays readable when QEMU has gone.
"""

from __future__ import annotations

import os
import re
from collections import OrderedDict
from typing import Optional

from debug.sources.qmp import QmpClient, QmpError

BLOCK = 64 << 10  # bytes, the unit of caching
MAX_BLOCKS = 1024  # kept: 64 MiB
MAX_READ = 64 << 20  # bytes in one call

_TEXT = (0xB8000, 0xB8FA0)  # 80 by 25 cells; reading them changes nothing but VGA's latches

_VIEW = re.compile(r"^FlatView #\d+\s*$", re.M)
_RANGE = re.compile(
    r"^\s+([0-9a-f]{16})-([0-9a-f]{16}) \(prio -?\d+, (ram|rom|nv-ram|romd|nv-rom)\):", re.M
)


def parse_ram(text: str) -> tuple[tuple[int, int], ...]:
    """(start, end) of each range of RAM or ROM in the view of CPU memory; end is excluded."""
    for view in _VIEW.split(text):
        if 'AS "memory"' in view:
            ranges = [(int(low, 16), int(high, 16) + 1) for low, high, _ in _RANGE.findall(view)]
            break
    else:
        return ()
    merged: list[tuple[int, int]] = []
    for low, high in sorted(ranges):
        if high <= low:
            continue
        if merged and merged[-1][1] >= low:
            merged[-1] = (merged[-1][0], max(high, merged[-1][1]))
        else:
            merged.append((low, high))
    return tuple(merged)


class QemuMemory:
    """debug.evidence.Memory of a QEMU that is paused.  `directory` holds its one scratch file."""

    def __init__(self, qmp: QmpClient, directory: str) -> None:
        self._qmp: Optional[QmpClient] = qmp
        self._scratch = os.path.join(directory, "memory")
        self._blocks: OrderedDict[int, bytes] = OrderedDict()
        self._ram: Optional[tuple[tuple[int, int], ...]] = None
        self._screen: Optional[bytes] = None

    def detach(self) -> None:
        """QEMU goes away: from now on only what was read before can be read."""
        self._qmp = None
        try:
            os.unlink(self._scratch)
        except OSError:
            pass

    @property
    def ram(self) -> tuple[tuple[int, int], ...]:
        """The ranges that can be read, (start, end) with end excluded."""
        if self._ram is None:
            if self._qmp is None:
                return ()
            try:
                self._ram = parse_ram(self._qmp.monitor("info mtree -f"))
            except QmpError:
                self._ram = ()
        return self._ram

    def read(self, physical: int, length: int) -> Optional[bytes]:
        """`length` bytes at a physical address; None where any of them can't be read."""
        if physical < 0 or length < 0 or length > MAX_READ:
            return None
        if length == 0:
            return b""
        limits = next(((low, high) for low, high in self.ram if low <= physical < high), None)
        if limits is None and _TEXT[0] <= physical <= physical + length <= _TEXT[1]:
            return self._text(physical - _TEXT[0], length)
        if limits is None or physical + length > limits[1]:
            return None
        first, last = physical // BLOCK, (physical + length - 1) // BLOCK
        blocks = [self._blocks.get(number) for number in range(first, last + 1)]
        if any(block is None for block in blocks):
            start = max(first * BLOCK, limits[0])
            end = min((last + 1) * BLOCK, limits[1])
            data = self._fetch(start, end - start)
            if data is None:
                return None
            self._keep(data, start, limits)
            return data[physical - start : physical - start + length]
        parts = []
        for number, block in enumerate(blocks, first):
            assert block is not None
            self._blocks.move_to_end(number)
            parts.append(block)
        start = max(first * BLOCK, limits[0])
        return b"".join(parts)[physical - start : physical - start + length]

    def now(self, physical: int, length: int) -> Optional[bytes]:
        """The same as of this moment, of a machine that ran since it was read."""
        if not any(low <= physical and physical + length <= high for low, high in self.ram):
            return None
        return self._fetch(physical, length)

    def _text(self, offset: int, length: int) -> Optional[bytes]:
        """A part of VGA's text screen, as it was at the first look."""
        if self._screen is None and self.ram:
            self._screen = self._fetch(_TEXT[0], _TEXT[1] - _TEXT[0])
        return None if self._screen is None else self._screen[offset : offset + length]

    def _keep(self, data: bytes, start: int, limits: tuple[int, int]) -> None:
        at = start
        while at < start + len(data):
            number = at // BLOCK
            end = min((number + 1) * BLOCK, limits[1])
            # A block that two ranges share would be ambiguous: only whole or edge blocks are kept.
            shared = sum(
                low < (number + 1) * BLOCK and high > number * BLOCK for low, high in self.ram
            )
            if shared == 1:
                self._blocks[number] = data[at - start : end - start]
            at = end
        while len(self._blocks) > MAX_BLOCKS:
            self._blocks.popitem(last=False)

    def _fetch(self, start: int, length: int) -> Optional[bytes]:
        if self._qmp is None:
            return None
        try:
            self._qmp.command("pmemsave", {"val": start, "size": length, "filename": self._scratch})
            with open(self._scratch, "rb") as file:
                data = file.read(length + 1)
        except (QmpError, OSError):
            return None
        finally:
            try:
                os.truncate(self._scratch, 0)
            except OSError:
                pass
        return data if len(data) == length else None
