# SPDX-License-Identifier: BSD-2-Clause
"""Where `make bochs` stops, from the symbols; and the same as a script for Bochs's own `-rc`.

    python3 -m debug.bochs.script --kernel build/lamppost.elf --trampoline-elf build/trampoline.elf

With more than one CPU, Bochs 2.7 runs each for five instructions in turn and does not look for
breakpoints before the first of them: one address in five is passed over.  The first instruction
after a SIPI always is one of those, so the stop at the trampoline is one byte in; the trampoline
opens with a one-byte instruction.  And each stop has a second breakpoint, on the instruction behind
it: where the first is passed over, that one is not.

A mode-switch breakpoint belongs to one CPU and INIT clears it: `make bochs` arms it on each AP at
the trampoline, a script can't.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Optional, Sequence

from debug.evidence import Symbols
from debug.sources.elf_symbols import ElfSymbols, SymbolError
from debug.x86.decode import MAX_LENGTH, decode
from debug.x86.instruction import Kind

TRAMPOLINE = 0x8000
MAX_BREAKPOINTS = 16  # linear ones, in Bochs
_LEAVES = frozenset(  # the instruction behind these need not be the next
    (
        Kind.FAR_JUMP,
        Kind.FAR_CALL,
        Kind.FAR_RETURN,
        Kind.IRET,
        Kind.SYSCALL,
        Kind.NEAR_JUMP,
        Kind.CONDITIONAL_JUMP,
        Kind.NEAR_CALL,
        Kind.NEAR_RETURN,
        Kind.SOFTWARE_INTERRUPT,
        Kind.INVALID,
    )
)
ONE_BYTE_IN = "one byte in: Bochs can't stop on the first instruction after a SIPI"


@dataclass(frozen=True)
class Breakpoint:
    """A linear address to stop at.

    `behind` is the instruction after the one there, if it is known; `entry` marks where the loader
    enters the kernel; `relocated` where the kernel has said which page the trampoline is in: nothing
    is shown there.
    """

    name: str
    address: int
    note: str = ""
    entry: bool = False
    behind: Optional[int] = None
    relocated: bool = False


@dataclass(frozen=True)
class Numbered:
    """One of Bochs's breakpoints: a stop's own, or the one behind it."""

    point: Breakpoint
    behind: bool

    @property
    def address(self) -> int:
        if self.behind and self.point.behind is not None:
            return self.point.behind
        return self.point.address


def breakpoints(
    symbols: Symbols,
    trampoline: int = TRAMPOLINE,
    entry: Optional[int] = None,
    relocated: Optional[int] = None,
) -> tuple[Breakpoint, ...]:
    """The stops: the kernel's entry, the trampoline, lcpu_start64 and ap_entry, where known."""
    found = []
    if entry is not None:
        behind = _behind(symbols, entry, 32)
        found.append(Breakpoint("the kernel's entry", entry, "from the boot loader", True, behind))
    inside = trampoline + 1
    behind = _behind(symbols, inside, 16)
    found.append(Breakpoint("the trampoline", inside, ONE_BYTE_IN, behind=behind))
    for name in ("lcpu_start64", "ap_entry"):
        address = symbols.address(name)
        if address is not None:
            found.append(Breakpoint(name, address, behind=_behind(symbols, address, 64)))
    if relocated is not None:
        behind = _behind(symbols, relocated, 64)
        found.append(Breakpoint("", relocated, behind=behind, relocated=True))
    return tuple(found)


def _behind(symbols: Symbols, address: int, width: int) -> Optional[int]:
    """The address of the instruction after the one at `address`; None if it is not known."""
    found = decode(_code(symbols, address), address, width)
    if found is None or found.kind in _LEAVES:
        return None
    return address + found.length


def _code(symbols: Symbols, address: int) -> bytes:
    """The bytes at a linear or physical address in the ELF files; empty if they are in none."""
    if not isinstance(symbols, ElfSymbols):
        return b""
    for file in symbols.files:
        try:
            segments = file.segments()
        except SymbolError:
            continue
        for segment in segments:
            for base in (segment.virtual, segment.physical):
                at = address - file.offset - base
                if 0 <= at < len(segment.data):
                    return segment.data[at : at + MAX_LENGTH]
    return b""


def numbered(points: Sequence[Breakpoint]) -> tuple[Numbered, ...]:
    """Bochs's breakpoints in the order of their numbers, which begin at 1.

    All stops' own come first: they matter more when there are too many.
    """
    own = [Numbered(point, False) for point in points]
    behind = [Numbered(point, True) for point in points if point.behind is not None]
    return tuple([*own, *behind][:MAX_BREAKPOINTS])


def commands(points: Sequence[Breakpoint]) -> list[str]:
    """The debugger commands that set them, in the order of numbered()."""
    return [f"lb {one.address:#x}" for one in numbered(points)]


def script(points: Sequence[Breakpoint]) -> str:
    """A file for `bochs -rc`: the stops, and mode switches of CPU 0 from the start."""
    return "\n".join([*commands(points), "set $cpu = 0", "modebp", ""])


def entry_of(path: Path) -> Optional[int]:
    """The entry address of an ELF file; None if it is no ELF.  Raises OSError."""
    with path.open("rb") as file:
        header = file.read(64)
    if header[:4] != b"\x7fELF" or len(header) < 32 or header[5] != 1:
        return None
    size = {1: 4, 2: 8}.get(header[4])
    return int.from_bytes(header[24 : 24 + size], "little") if size else None


def main() -> int:
    """Print the script."""
    parser = argparse.ArgumentParser(description="print a script for bochs -rc")
    parser.add_argument("--kernel", type=Path, required=True, help="the kernel's ELF")
    parser.add_argument("--trampoline-elf", type=Path, help="the trampoline's ELF, linked at 0")
    parser.add_argument("--trampoline", type=lambda text: int(text, 0), default=TRAMPOLINE)
    options = parser.parse_args()
    files = [(options.kernel, 0)]
    if options.trampoline_elf is not None:
        files.append((options.trampoline_elf, options.trampoline))
    try:
        points = breakpoints(ElfSymbols(files), options.trampoline, entry_of(options.kernel))
    except (SymbolError, OSError) as error:
        print(f"lamppost: {error}", file=sys.stderr)
        return 2
    sys.stdout.write(script(points))
    return 0


if __name__ == "__main__":
    sys.exit(main())
