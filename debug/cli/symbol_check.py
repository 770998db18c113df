# SPDX-License-Identifier: BSD-2-Clause
"""Do the symbols belong to the machine?  Names of another build are worse than none."""

from __future__ import annotations

from dataclasses import replace
from typing import Iterator, Optional

from debug.evidence import Evidence
from debug.explain.firmware import in_rom
from debug.sources.elf_symbols import ElfFile, ElfSymbols, SymbolError
from debug.x86.linear import LinearMemory
from debug.x86.modes import Mode, linear_pc, mode_of
from debug.x86.patterns import uniform

_FUNCTIONS = 32  # of a file, spread over it
_LEAST, _MOST, _PIECE = 8, 64, 16  # bytes of each
_MODES = (Mode.PROTECTED32, Mode.LONG64, Mode.COMPAT32)


def compared(evidence: Evidence, symbols: ElfSymbols) -> Evidence:
    """The evidence with those symbols that memory does not contradict, and what is to be said."""
    absent = symbols.absent(evidence.memory)
    kept, said = checked(symbols, evidence) if evidence.cpus else (symbols, ())
    limits = (*said, *evidence.limits)
    return replace(evidence, symbols=kept, absent_images=absent, limits=limits)


def checked(symbols: ElfSymbols, evidence: Evidence) -> tuple[ElfSymbols, tuple[str, ...]]:
    """The symbols without the files whose code memory contradicts, and what is to be said."""
    places = _places(evidence)
    notes: list[str] = []
    kept: list[ElfFile] = []
    for file in symbols.files:
        if not file.names:
            notes.append(f"{file.path}: it has no symbols (was it stripped?)")
        elif any(map(file.lookup, places)) and (wrong := _contradicted(file, evidence)):
            name, address, times, of = wrong
            notes.append(
                f"{file.path}: memory does not hold its code ({name} at {address:#x}, and {times} of"
                f" {of} places that were compared): it is of another build or lies elsewhere"
                " (ELF@OFFSET); its names are not used"
            )
            continue
        kept.append(file)
    left = symbols if len(kept) == len(symbols.files) else ElfSymbols.of(kept)
    if kept and not notes and places and not any(map(left.lookup, places)):
        notes.append(
            f"no symbol file has a name for {places[0]:#x}, where a CPU stands: a file or a load offset"
            " (ELF@OFFSET) may be missing"
        )
    return left, tuple(notes)


def _contradicted(file: ElfFile, evidence: Evidence) -> Optional[tuple[str, int, int, int]]:
    """(name, address) of a function that differs, and of how many how many do; None if few do."""
    wrong: list[tuple[str, int]] = []
    compared = 0
    for name, address, code in _sample(file):
        there = _read(evidence, address, len(code))
        if there is None and _is_identity(file, address):
            there = evidence.memory.read(address, len(code))  # no CPU's tables are whole
        if there is None:
            continue
        if uniform(there) is not None:
            continue  # cleared or poisoned since, as a trampoline's page is
        compared += 1
        if 2 * sum(a != b for a, b in zip(there, code)) > len(code):
            wrong.append((name, address))
    if compared < 2 or 3 * len(wrong) < 2 * compared:
        return None  # a few may have been overwritten: that is a cause, and not the file's
    return (*wrong[0], len(wrong), compared)


def _sample(file: ElfFile) -> Iterator[tuple[str, int, bytes]]:
    """Functions of a file with their first bytes."""
    try:
        found = [one for one in file.functions() if one[2] >= _LEAST]
        if len(found) < 2:
            found = _pieces(file)  # an assembler gives no sizes
        step = max(1, len(found) // _FUNCTIONS)
        for name, address, size in found[::step][:_FUNCTIONS]:
            code = file.code(address, min(size, _MOST))
            if code is not None:
                yield name, address, code
    except SymbolError:
        return


def _pieces(file: ElfFile) -> list[tuple[str, int, int]]:
    """(name, address, size) of its executable segments, in pieces: by the symbol before each."""
    found = []
    for segment in file.segments() if file.names else ():
        for at in range(0, len(segment.data) if segment.executable else 0, _PIECE):
            piece = segment.data[at : at + _PIECE]
            if len(piece) >= _LEAST and uniform(piece) is None:
                address = segment.virtual + at + file.offset
                symbol = file.lookup(address)
                found.append((str(symbol or "code"), address, len(piece)))
    return found


def _read(evidence: Evidence, address: int, length: int) -> Optional[bytes]:
    """Through the tables of the first CPU that maps it."""
    for cpu in evidence.cpus[:16]:
        if mode_of(cpu.registers) in _MODES:
            data = LinearMemory(evidence.memory, cpu.registers).read(address, length)
            if data is not None:
                return data
    return None


def _is_identity(file: ElfFile, address: int) -> bool:
    """Whether the code there is loaded where it is linked, as what runs before paging is."""
    linked = address - file.offset
    segments = (one for one in file.segments() if one.virtual == one.physical)
    return any(0 <= linked - one.virtual < len(one.data) for one in segments)


def _places(evidence: Evidence) -> list[int]:
    """Where the CPUs stand that execute a kernel."""
    kernels = [cpu.registers for cpu in evidence.cpus if cpu.registers.cpl in (0, None)]
    found = [linear_pc(registers) for registers in kernels if mode_of(registers) in _MODES]
    return [place for place in found if place is not None and not in_rom(place)]
