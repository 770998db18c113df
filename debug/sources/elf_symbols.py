# SPDX-License-Identifier: BSD-2-Clause
"""Names and source lines for addresses, from ELF files [System V gABI, DWARF].

An ELF file may be hostile: whatever is wrong with it becomes a SymbolError with a sentence, and
what takes too long to read (lines of a huge program) is left out.
"""

from __future__ import annotations

import bisect
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Iterator, Optional, Sequence, TypeVar, Union

from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

from debug.evidence import Memory, Symbol

MAX_FILE = 1 << 30  # bytes
MAX_SYMBOLS = 1_000_000
MAX_LINES = 2_000_000
_SAMPLE = 64 << 10  # bytes of a file that tell whether memory holds it
MAX_SEGMENTS = 256
MAX_SEGMENT_BYTES = 64 << 20
LINE_SECONDS = 5.0  # to read line tables of one file
MASK = (1 << 64) - 1
ALL = -1  # units of a file that does not say which addresses are of which

_T = TypeVar("_T")
LineTable = tuple[list[int], list[tuple[str, int]]]  # addresses, and the line that begins at each


class SymbolError(Exception):
    """The file can't be used; the message names it and says why."""


@dataclass(frozen=True)
class Segment:
    """A loadable segment: where it is linked, where it is loaded, and its bytes in the file."""

    virtual: int
    physical: int
    data: bytes
    memory_size: int
    writable: bool
    executable: bool


@dataclass(frozen=True)
class Mismatch:
    """What a comparison of an ELF file with memory found."""

    compared: int  # bytes of read-only segments that could be read
    different: int  # of these, bytes that differ
    first: Optional[int] = None  # physical address of the first difference


def _guarded(path: str, action: Callable[[], _T]) -> _T:
    """Whatever a decoder of untrusted bytes raises is a SymbolError."""
    try:
        return action()
    except SymbolError:
        raise
    except OSError as error:
        raise SymbolError(f"{path}: {error.strerror or error}") from None
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # noqa: B902 - pyelftools raises whatever comes along
        kind = type(error).__name__
        raise SymbolError(f"{path}: not a readable ELF file ({kind})") from None


_MACH_O = (b"\xcf\xfa\xed\xfe", b"\xce\xfa\xed\xfe", b"\xca\xfe\xba\xbe")


def _other_format(magic: bytes) -> str:
    """What a file is that begins so and is no ELF file; "" where it may be one."""
    if magic == b"\x7fELF":
        return ""
    if magic[:2] == b"MZ":
        return "a program in PE format, as UEFI's are and Linux's bzImage (vmlinux has its symbols)"
    return "a program in Mach-O format" if magic in _MACH_O else "no ELF file"


class ElfFile:
    """One ELF file, added at `offset` to the addresses that it is linked at.

    Symbols are read at once, lines when the first is asked for.  Raises SymbolError.
    """

    def __init__(self, path: Union[str, Path], offset: int = 0) -> None:
        self.path = str(path)
        self.offset = offset
        self._dwarf: Any = None
        self._units: Optional[list[tuple[int, int, int]]] = None  # first, end, unit
        self._lines: dict[int, LineTable] = {}  # of each unit that was asked for
        self._patience = LINE_SECONDS
        self._starts: list[int] = []
        self._entries: list[tuple[int, str, int]] = []  # size, name, preference
        self._names: dict[str, int] = {}
        self._segments: Optional[tuple[Segment, ...]] = None
        _guarded(self.path, self._read_symbols)

    def _open(self) -> Any:
        path = Path(self.path)
        if not path.exists():
            raise SymbolError(f"{self.path}: no such file")
        if not path.is_file():
            what = "a directory" if path.is_dir() else "no regular file"
            raise SymbolError(f"{self.path}: {what}; expected an ELF file")
        if path.stat().st_size > MAX_FILE:
            raise SymbolError(f"{self.path}: larger than {MAX_FILE} bytes")
        stream = path.open("rb")
        if what := _other_format(stream.read(4)):
            stream.close()
            raise SymbolError(f"{self.path}: {what}; expected the ELF file that the linker makes")
        return stream

    def _read_symbols(self) -> None:
        found: dict[int, tuple[int, str, int]] = {}
        with self._open() as stream:
            elf = ELFFile(stream)
            if not elf.num_sections() and not elf.num_segments():
                raise SymbolError(f"{self.path}: an ELF header with nothing behind it")
            for section in elf.iter_sections():
                if not isinstance(section, SymbolTableSection):
                    continue
                for count, symbol in enumerate(section.iter_symbols()):
                    if count > MAX_SYMBOLS:
                        raise SymbolError(f"{self.path}: more than {MAX_SYMBOLS} symbols")
                    self._add(symbol, found)
        self._starts = sorted(found)
        self._entries = [found[start] for start in self._starts]

    def _add(self, symbol: Any, found: dict[int, tuple[int, str, int]]) -> None:
        name, section = symbol.name, symbol["st_shndx"]
        kind = symbol["st_info"]["type"]
        if not name or kind in ("STT_FILE", "STT_SECTION") or not isinstance(section, int):
            if not (name and section == "SHN_ABS" and kind not in ("STT_FILE", "STT_SECTION")):
                return
            self._names.setdefault(name, symbol["st_value"] & MASK)  # a constant, no place
            return
        address = symbol["st_value"] + self.offset & MASK
        self._names.setdefault(name, address)
        dotted = "." in name or name.startswith("$")
        preference = (
            4 * (kind in ("STT_FUNC", "STT_OBJECT"))
            + 2 * (symbol["st_info"]["bind"] == "STB_GLOBAL")
            + (not dotted)
        )
        if address not in found or preference > found[address][2]:
            found[address] = (int(symbol["st_size"]), name, preference)

    def lookup(self, address: int) -> Optional[Symbol]:
        """The symbol that covers `address`: within its size, or, if it has none, up to the next
        symbol.  Local labels stand back behind the function that they are in."""
        at = bisect.bisect_right(self._starts, address) - 1
        unsized: Optional[Symbol] = None
        nearest = True
        for index in range(at, max(-1, at - 64), -1):
            start, (size, name, _) = self._starts[index], self._entries[index]
            if size and address < start + size:
                return self._with_line(Symbol(name, address - start), address)
            if not size and nearest and unsized is None:
                unsized = Symbol(name, address - start)
            nearest = nearest and not size
        if unsized is None or not self._covers(address):
            return None
        return self._with_line(unsized, address)

    def _covers(self, address: int) -> bool:
        linked = address - self.offset & MASK
        return any(s.virtual <= linked < s.virtual + s.memory_size for s in self._layout())

    def _with_line(self, symbol: Symbol, address: int) -> Symbol:
        where = self.line(address)
        return Symbol(symbol.name, symbol.offset, *where) if where else symbol

    @property
    def names(self) -> int:
        """How many places have a name."""
        return len(self._starts)

    def functions(self) -> tuple[tuple[str, int, int], ...]:
        """(name, address, size) of what has a size, functions and objects, by address."""
        entries = zip(self._starts, self._entries)
        return tuple((name, start, size) for start, (size, name, _) in entries if size)

    def code(self, address: int, length: int) -> Optional[bytes]:
        """What the file holds at an address of its executable segments.  Raises SymbolError."""
        linked = address - self.offset & MASK
        for one in self.segments():
            at = linked - one.virtual
            if one.executable and 0 <= at and at + length <= len(one.data):
                return one.data[at : at + length]
        return None

    def address(self, name: str) -> Optional[int]:
        """The address of a symbol, the load offset added (not to absolute ones)."""
        return self._names.get(name)

    def line(self, address: int) -> Optional[tuple[str, int]]:
        """(file, line) of the code at `address`; None if the file does not say."""
        linked = address - self.offset & MASK
        starts, lines = self._lines_around(linked)
        at = bisect.bisect_right(starts, linked) - 1
        if at < 0 or not lines[at][1]:
            return None
        return lines[at]

    def _lines_around(self, linked: int) -> LineTable:
        """The lines of the unit that the code at an address is of, read when first asked for."""
        if self._units is None:
            try:
                self._units = _guarded(self.path, self._read_units)
            except SymbolError:
                self._units = []
        at = bisect.bisect_right(self._units, (linked, MASK, MASK)) - 1
        if at < 0 or linked >= self._units[at][1]:
            return [], []
        unit = self._units[at][2]
        if unit not in self._lines:
            try:
                self._lines[unit] = _guarded(self.path, lambda: self._read_lines(unit))
            except SymbolError:
                self._lines[unit] = [], []
        return self._lines[unit]

    def _read_units(self) -> list[tuple[int, int, int]]:
        """Which addresses are of which unit; all of ALL where the file does not say it of each."""
        with self._open() as stream:
            elf = ELFFile(stream)
            if not elf.has_dwarf_info():
                return []
            self._dwarf = elf.get_dwarf_info()
        ranges = self._dwarf.get_aranges()
        entries = ranges.entries if ranges is not None else []
        if {e.info_offset for e in entries} != {u.cu_offset for u in self._dwarf.iter_CUs()}:
            return [(0, MASK + 1, ALL)]
        return sorted((e.begin_addr, e.begin_addr + e.length, e.info_offset) for e in entries)

    def _read_lines(self, wanted: int) -> LineTable:
        rows: dict[int, tuple[str, int]] = {}
        ends: set[int] = set()
        began = time.thread_time()
        all_units = wanted == ALL
        for unit in self._dwarf.iter_CUs() if all_units else [self._dwarf.get_CU_at(wanted)]:
            program = self._dwarf.line_program_for_CU(unit)
            if program is None:
                continue
            names = _file_names(program)
            for entry in program.get_entries():
                state = entry.state
                if state is None:
                    continue
                if state.end_sequence:
                    ends.add(state.address)
                else:
                    rows[state.address] = (names(state.file), state.line)
                if len(rows) > MAX_LINES or time.thread_time() > began + self._patience:
                    self._patience = 0
                    raise SymbolError(f"{self.path}: too many source lines")
        self._patience -= time.thread_time() - began
        for end in ends:
            rows.setdefault(end, ("", 0))
        starts = sorted(rows)
        return starts, [rows[start] for start in starts]

    def _layout(self) -> tuple[Segment, ...]:
        if self._segments is None:
            self._segments = tuple(_guarded(self.path, lambda: list(self._read_segments())))
        return self._segments

    def segments(self) -> tuple[Segment, ...]:
        """The loadable segments, with the load offset not applied.  Raises SymbolError."""
        return self._layout()

    def _read_segments(self) -> Iterator[Segment]:
        with self._open() as stream:
            for count, segment in enumerate(ELFFile(stream).iter_segments()):
                if count >= MAX_SEGMENTS:
                    raise SymbolError(f"{self.path}: more than {MAX_SEGMENTS} segments")
                if segment["p_type"] != "PT_LOAD":
                    continue
                stream.seek(segment["p_offset"])
                yield Segment(
                    virtual=segment["p_vaddr"],
                    physical=segment["p_paddr"],
                    data=stream.read(min(segment["p_filesz"], MAX_SEGMENT_BYTES)),
                    memory_size=segment["p_memsz"],
                    writable=bool(segment["p_flags"] & 2),
                    executable=bool(segment["p_flags"] & 1),
                )

    def compare(self, memory: Memory, limit: int = 4 << 20) -> Mismatch:
        """Compare the read-only segments, at their physical addresses plus the load offset, with
        memory: does this file belong to the machine?  Reads at most `limit` bytes."""
        compared = different = 0
        first: Optional[int] = None
        for segment in self.segments():
            for at in range(0, 0 if segment.writable else len(segment.data), 4096):
                if compared >= limit:
                    break
                expected = segment.data[at : at + 4096]
                where = segment.physical + self.offset + at
                seen = memory.read(where, len(expected))
                if seen is None:
                    continue
                compared += len(expected)
                if seen != expected:
                    wrong = [i for i, (a, b) in enumerate(zip(seen, expected)) if a != b]
                    different += len(wrong)
                    if first is None and wrong:
                        first = where + wrong[0]
        return Mismatch(compared, different, first)


def _file_names(program: Any) -> Callable[[int], str]:
    """The names that a line program's file numbers stand for (DWARF 5 counts from 0)."""
    header = program.header
    base = 0 if header["version"] >= 5 else 1
    entries = header["file_entry"]
    folders = header["include_directory"]

    def text(value: Any) -> str:
        return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)

    def name(number: int) -> str:
        index = number - base
        if not 0 <= index < len(entries):
            return ""
        entry = entries[index]
        folder = entry["dir_index"] - base
        file = text(entry["name"])
        if file.startswith("/") or not 0 <= folder < len(folders):
            return _clean(file)
        return _clean(f"{text(folders[folder])}/{file}")

    return name


def _clean(path: str) -> str:
    """A path that is safe to print, not longer than a line."""
    return "".join(c for c in path if c.isprintable())[-200:]


class ElfSymbols:
    """debug.evidence.Symbols of several ELF files, each at its own load offset.

    Where files overlap the one named first answers, but a name with a size goes before one
    without.  Raises SymbolError when a file can't be used.
    """

    def __init__(self, files: Sequence[tuple[Union[str, Path], int]]) -> None:
        self.files = tuple(ElfFile(path, offset) for path, offset in files)

    @classmethod
    def of(cls, files: Sequence[ElfFile]) -> ElfSymbols:
        """Those of files that are open already."""
        found = cls(())
        found.files = tuple(files)
        return found

    def lookup(self, address: int) -> Optional[Symbol]:
        for file in self.files:
            if (found := file.lookup(address)) is not None:
                return found
        return None

    def absent(self, memory: Memory) -> tuple[str, ...]:
        """The files, if memory holds the code of none at its physical address: most of it differs.

        One of several may be what the kernel copies there later: its trampoline.
        """
        found = []
        for file in self.files:
            try:
                seen = file.compare(memory, _SAMPLE)
            except SymbolError:
                continue
            if seen.different * 2 > seen.compared:
                found.append(str(file.path))
        return tuple(found) if len(found) == len(self.files) else ()

    def address(self, name: str) -> Optional[int]:
        for file in self.files:
            if (found := file.address(name)) is not None:
                return found
        return None
