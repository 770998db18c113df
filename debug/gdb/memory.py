# SPDX-License-Identifier: BSD-2-Clause
"""Physical memory of a stopped machine through the debugger, cached until it goes on."""

from __future__ import annotations

from typing import Optional

from debug.gdb.debugger import Debugger, DebuggerError
from debug.sources.qemu_memory import MAX_READ, parse_ram

BLOCK = 16 << 10  # bytes, the unit of caching
MAX_BLOCKS = 4096  # kept: 64 MiB


class StoppedMemory:
    """debug.evidence.Memory.  Only RAM and ROM are read: a device's registers react to it."""

    def __init__(self, debugger: Debugger) -> None:
        self._debugger = debugger
        self._ram: Optional[tuple[tuple[int, int], ...]] = None
        self._blocks: dict[int, bytes] = {}

    def clear(self) -> None:
        """Forget what was read: the machine has run."""
        self._ram = None
        self._blocks.clear()

    @property
    def ram(self) -> tuple[tuple[int, int], ...]:
        """The ranges that can be read, (start, end) with end excluded."""
        if self._ram is None:
            try:
                self._ram = parse_ram(self._debugger.monitor("info mtree -f"))
            except DebuggerError:
                self._ram = ()
        return self._ram

    def read(self, physical: int, length: int) -> Optional[bytes]:
        """`length` bytes at a physical address; None where any of them can't be read."""
        if physical < 0 or not 0 <= length <= MAX_READ:
            return None
        limits = next(((low, high) for low, high in self.ram if low <= physical < high), None)
        if limits is None or physical + length > limits[1]:
            return None
        data = bytearray()
        at = physical
        while at < physical + length:
            start = max(at - at % BLOCK, limits[0])
            end = min(at - at % BLOCK + BLOCK, limits[1])
            block = self._block(start, end - start)
            if block is None:
                return None
            data += block[at - start : physical + length - start]
            at = end
        return bytes(data)

    def _block(self, start: int, length: int) -> Optional[bytes]:
        block = self._blocks.get(start)
        if block is None or len(block) != length:
            block = self._debugger.read_physical(start, length)
            if block is None or len(block) != length:
                return None
            if len(self._blocks) >= MAX_BLOCKS:
                self._blocks.clear()
            self._blocks[start] = block
        return block
