# SPDX-License-Identifier: BSD-2-Clause
"""The trampoline's symbols and breakpoints, kept where the trampoline really is."""

from __future__ import annotations

from typing import Callable, Optional

from debug.evidence import Symbol
from debug.gdb.context import Lamp
from debug.gdb.debugger import Breakpoint, DebuggerError
from debug.sources.elf_symbols import ElfFile

ENTRY = "lcpu_start16"
PAGE = 0x1000
MOVED_BY = ("BSP_TRAMPOLINE",)  # its argument is the page
CHECKED_AT = "BSP_RELOCATED"


class SessionSymbols:
    """debug.evidence.Symbols of the kernel and of the trampoline, whose offset may change."""

    def __init__(self, kernel: Optional[ElfFile], trampoline: Optional[ElfFile]) -> None:
        self.kernel = kernel
        self.trampoline = trampoline

    @property
    def files(self) -> tuple[ElfFile, ...]:
        """The ELF files that are known now."""
        return tuple(file for file in (self.kernel, self.trampoline) if file is not None)

    def lookup(self, address: int) -> Optional[Symbol]:
        for file in (self.trampoline, self.kernel):
            if file is not None and (found := file.lookup(address)) is not None:
                return found
        return None

    def address(self, name: str) -> Optional[int]:
        for file in (self.kernel, self.trampoline):
            if file is not None and (found := file.address(name)) is not None:
                return found
        return None


class Trampoline:
    """Follows the trampoline: its page is what the command line asks for, until the kernel's own
    stage names another."""

    def __init__(
        self,
        lamp: Lamp,
        symbols: SessionSymbols,
        load: Callable[[int], ElfFile],
        path: Optional[str],
    ) -> None:
        self._lamp = lamp
        self._symbols = symbols
        self._load = load
        self._path = path
        self._own: list[Breakpoint] = []

    def place(self) -> list[str]:
        """Symbols and the breakpoints of the session in the trampoline; what is missing."""
        base, debugger = self._lamp.places.base, self._lamp.debugger
        self._own = [debugger.hardware_break(base)]
        problems = []
        if self._path is None:
            return ["no trampoline.elf: its code is shown without names"]
        debugger.replace_symbols(self._path, None, base)
        start64 = self._symbols.trampoline and self._symbols.trampoline.address("lcpu_start64")
        if start64:
            self._own.append(debugger.hardware_break(start64))
        else:
            problems.append("the trampoline has no symbol lcpu_start64: no breakpoint there")
        return problems

    def follow(self) -> None:
        """Look at the kernel's word for where it is, when it has given it."""
        places = self._lamp.places
        stage = places.table.by_name.get(CHECKED_AT)
        for site in places.sites_of(stage) if stage is not None else ():
            self._lamp.debugger.hardware_break(places.address(site), self._is_elsewhere)

    def _named(self) -> Optional[int]:
        codes = self._lamp.places.table.codes(MOVED_BY)
        self._lamp.snapshot.clear()
        for record in self._lamp.snapshot.trace().cpus:
            for event in reversed(record.events):
                if event.code in codes:
                    return event.argument
        return None

    def _is_elsewhere(self) -> bool:
        named = self._named()
        return named is not None and named != self._lamp.places.base

    def move(self) -> str:
        """Move symbols and breakpoints to where the kernel put the page; what was done, or ""."""
        lamp, named = self._lamp, self._named()
        old = lamp.places.base
        if named is None or named == old or named % PAGE or not 0 < named < 0xA0000:
            return ""
        inside = [
            (point, address - old)
            for point in lamp.debugger.breakpoints()
            for address in point.addresses
            if old <= address < old + PAGE
        ]
        lamp.places = lamp.places.moved(named)
        try:
            if self._path is not None:
                self._symbols.trampoline = self._load(named)
                lamp.debugger.replace_symbols(self._path, old, named)
            for point, offset in inside:
                point.delete()
                lamp.debugger.hardware_break(named + offset)
        except DebuggerError as error:
            return f"lamp: the trampoline is at {named:#x}, not at {old:#x}: {error}\n"
        return f"the trampoline is at {named:#x}, not at {old:#x}: breakpoints and symbols moved\n"
