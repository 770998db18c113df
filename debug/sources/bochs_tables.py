# SPDX-License-Identifier: BSD-2-Clause
"""Memory that a pasted session with Bochs's debugger shows: `info gdt`, `info idt`, `info tss`,
`page`, `x` and `xp`, and the instructions that it disassembles.

Pure: text in, bytes by linear and by physical address out, never an exception.  A descriptor that
Bochs has put into words does not show its DPL and is left out; `???` shows both halves.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Optional

from debug.evidence import Fragment, NoMemory

MAX_BYTES = 1 << 16  # of all that is kept: as much as a GDT can have
MAX_PAGES = 64  # `page` commands that are read
MAX_LEVELS = 5
MAX_LINE = 1024

_TABLE = re.compile(r"(?:Global|Interrupt) Descriptor Table \((?:base=)?0x([0-9a-f]{8,16}), limit=")
_ENTRY = re.compile(
    r"^\s*(?:GDT|IDT)\[0x([0-9a-f]{2,4})\]=\?\?\? descriptor hi=0x([0-9a-f]{8}), lo=0x([0-9a-f]{8})"
)
_TSS = re.compile(r"\btr:s?=?0x[0-9a-f]+, base=0x([0-9a-f]{8,16}), valid=1")
_STACK0 = re.compile(r"^\s*ss:esp\(0\): 0x([0-9a-f]{4}):0x([0-9a-f]{8})\b")
_PAGE = re.compile(r"(?:^|>)\s*page 0x([0-9a-f]{1,16})\b")
_LEVEL = re.compile(r"^\s*(PML5|PML4|PDPE|PDPTE|PDE|PTE): 0x([0-9a-f]{8,16})\b")
_EXAMINE = re.compile(r"\b(xp?) ?/\d{0,5}[a-z]{0,3} ")
_ROW = re.compile(r"^\s*0x([0-9a-f]{8,16}) <[^>]{1,60}>:((?:\s+0x[0-9a-f]{2,16})+)\s*$")
_LEVELS = {"PML5": 48, "PML4": 39, "PDPE": 30, "PDPTE": 30, "PDE": 21, "PTE": 12}
_LEGACY = {"PDE": 22, "PTE": 12}
_ADDRESS = 0x000F_FFFF_FFFF_F000


@dataclass(frozen=True)
class PageDump:
    """What `page ADDRESS` showed: the entries from the top, as (level, value)."""

    address: int
    entries: tuple[tuple[str, int], ...]


@dataclass
class Shown:
    """All that a session shows of memory."""

    linear: list[Fragment] = field(default_factory=list)
    physical: list[Fragment] = field(default_factory=list)
    pages: list[PageDump] = field(default_factory=list)
    _bytes: int = 0

    def add(self, space: list[Fragment], address: int, data: bytes) -> None:
        """Append bytes, to the fragment before if they follow it."""
        self._bytes += len(data)
        if self._bytes > MAX_BYTES:
            return
        if space and space[-1].address + len(space[-1].data) == address:
            last = space.pop()
            address, data = last.address, last.data + data
        space.append(Fragment(address, data))


@dataclass(frozen=True)
class ShownMemory(NoMemory):
    """Physical memory of which only fragments were shown."""

    fragments: tuple[Fragment, ...]

    def read(self, physical: int, length: int) -> Optional[bytes]:
        """The bytes from one fragment that holds all of them; else None."""
        for one in reversed(self.fragments):
            start = physical - one.address
            if 0 <= start and start + length <= len(one.data):
                return one.data[start : start + length]
        return None


def parse(text: str) -> Shown:
    """What a session shows, in its order; of two values of a place both, the newer one last."""
    reader = _Reader()
    for line in text.split("\n"):
        reader.line(line[:MAX_LINE])
    return reader.shown


class _Reader:
    """The state between the lines: which table, TSS, walk or memory the next ones belong to."""

    def __init__(self) -> None:
        self.shown = Shown()
        self._table: Optional[int] = None
        self._task: Optional[int] = None
        self._space = self.shown.linear

    def line(self, line: str) -> None:
        """Take one line of the session."""
        if found := _TABLE.search(line):
            self._table = int(found[1], 16)
        elif (found := _ENTRY.match(line)) and self._table is not None:
            # Two digits are an index of eight bytes, four are a selector.
            place = int(found[1], 16) * (8 if len(found[1]) == 2 else 1)
            data = _little(found[3], 4) + _little(found[2], 4)
            self.shown.add(self.shown.linear, self._table + place, data)
        elif found := _TSS.search(line):
            self._task = int(found[1], 16)
        elif (found := _STACK0.match(line)) and self._task is not None:
            data = _little(found[2], 4) + _little(found[1], 4)
            self.shown.add(self.shown.linear, self._task + 4, data)
        elif (found := _LEVEL.match(line)) and self.shown.pages:
            page = self.shown.pages[-1]
            if len(page.entries) < MAX_LEVELS:
                entries = (*page.entries, (found[1], int(found[2], 16)))
                self.shown.pages[-1] = PageDump(page.address, entries)
        elif found := _EXAMINE.search(line):
            self._space = self.shown.physical if found[1] == "xp" else self.shown.linear
        elif found := _ROW.match(line):
            words = [word[2:] for word in found[2].split() if len(word) % 2 == 0]
            data = b"".join(bytes.fromhex(word)[::-1] for word in words)
            self.shown.add(self._space, int(found[1], 16), data)
        elif (found := _PAGE.search(line)) and len(self.shown.pages) < MAX_PAGES:
            self.shown.pages.append(PageDump(int(found[1], 16), ()))


def _little(digits: str, size: int) -> bytes:
    return int(digits, 16).to_bytes(size, "little")


def placed(dump: PageDump, cr3: int) -> list[Fragment]:
    """The entries of a walk at the physical addresses where the CPU read them."""
    legacy = [level for level, _ in dump.entries][:1] == ["PDE"]
    shifts, size = (_LEGACY, 4) if legacy else (_LEVELS, 8)
    table, result = cr3 & (0xFFFF_F000 if legacy else _ADDRESS), []
    for level, value in dump.entries:
        if level not in shifts:
            break  # lines of two dumps: what comes after is no walk
        index = dump.address >> shifts[level] & (0x3FF if legacy else 0x1FF)
        if level.startswith("PDP") and dump.entries[0][0] == level:  # PAE: four entries
            table, index = cr3 & 0xFFFF_FFE0, index & 3
        data = (value & (1 << size * 8) - 1).to_bytes(size, "little")
        result.append(Fragment(table + index * size, data))
        table = value & (0xFFFF_F000 if legacy else _ADDRESS)
    return result
