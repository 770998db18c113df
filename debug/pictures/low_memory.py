# SPDX-License-Identifier: BSD-2-Clause
"""What lies where below 640 KiB and in the kernel's image: regions, and who maps them.

Derived from what the machine left in its memory: the BIOS's own word for its data area, the
stage record's control block, the page that the kernel named for its trampoline, symbols.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Iterator, Optional

from debug.evidence import Registers
from debug.explain.code import filler
from debug.explain.context import LOW_MEMORY, PAGE, Machine
from debug.explain.trampoline_page import pages
from debug.stages.memory import MemoryTrace, read_memory
from debug.x86.linear import tables_of
from debug.x86.mappings import Mapping, mappings
from debug.x86.modes import PagingMode

_IVT, _BDA, _BIOS_DATA, _EBDA_SEGMENT = 0x0, 0x400, 0x500, 0x40E
_MAX_MAPPINGS = 40_000
_MAX_PARTS = 16


@dataclass(frozen=True)
class Region:
    """Physical memory from `start` to before `end`; `parts` are (offset, name) inside it."""

    start: int
    end: int
    kind: str  # firmware, trampoline, trace, free, used, hole, kernel
    name: str
    note: str = ""
    parts: tuple[tuple[int, str], ...] = ()


@dataclass(frozen=True)
class View:
    """How a region is mapped: `r-x` where linear and physical are equal, and elsewhere."""

    identity: str
    elsewhere: str


def regions(machine: Machine) -> tuple[Region, ...]:
    """From address 0 to 1 MiB without a gap, and the kernel's image where symbols name it."""
    record = read_memory(machine.evidence.memory)
    known = sorted([*_firmware(machine), *_trampolines(machine), *_trace(record)], key=_start)
    found: list[Region] = []
    at = 0
    for region in known:
        if region.start < at:
            continue
        found += [*_rest(machine, at, region.start), region]
        at = region.end
    return (*found, *_kernel(machine))


def _start(region: Region) -> int:
    return region.start


def _firmware(machine: Machine) -> list[Region]:
    word = machine.physical(_EBDA_SEGMENT, 2)
    ebda = int.from_bytes(word or b"\0\0", "little") << 4
    found = [
        Region(_IVT, _BDA, "firmware", "interrupt vectors of real mode", "256 far pointers"),
        Region(_BDA, _BIOS_DATA, "firmware", "BIOS data area"),
    ]
    if 0x80000 <= ebda < LOW_MEMORY:
        found.append(Region(ebda, LOW_MEMORY, "firmware", "extended BIOS data area"))
    return [*found, Region(LOW_MEMORY, 0x100000, "hole", "video memory and ROMs", "no RAM")]


def _trampolines(machine: Machine) -> Iterator[Region]:
    for page in pages(machine):
        if 0 < page < LOW_MEMORY:
            note = f"SIPI vector {page >> 12:#04x}: CS {page >> 4:#x}, IP 0"
            yield Region(
                page, page + PAGE, "trampoline", "trampoline page", note, _parts(machine, page)
            )


def _parts(machine: Machine, page: int) -> tuple[tuple[int, str], ...]:
    """Where each of its parts begins, by the symbols."""
    found: dict[str, int] = {}
    for offset in range(PAGE):
        symbol = machine.symbol(page + offset)
        if symbol is not None and symbol.offset == 0 and _tells(symbol.name):
            found.setdefault(symbol.name, offset)
    return tuple((offset, name) for name, offset in found.items())[:_MAX_PARTS]


def _tells(name: str) -> bool:
    """Whether the symbol is a routine, a table or the parameters, not a place in a routine."""
    return "." not in name or name.endswith(".parameters")


def _trace(record: MemoryTrace) -> list[Region]:
    """The control block and the APs' records, where they are in low memory."""
    control = record.control
    if control is None or not PAGE <= control.address < LOW_MEMORY:
        return []
    end = control.records + control.slots * control.record_bytes
    if not control.address < end < LOW_MEMORY or control.records < control.address:
        end = control.address + PAGE
    end = -(-end // PAGE) * PAGE
    parts = ((0, "control block"), (control.records - control.address, "a record for each CPU"))
    note = f"{len(record.cpus)} of {control.slots} slots claimed"
    return [Region(control.address & -PAGE, end, "trace", "stage record", note, parts)]


def _rest(machine: Machine, start: int, end: int) -> Iterator[Region]:
    """What nobody named: split where pages with and without content meet."""
    at = start
    while at < end:
        used, stop = _used(machine, at, end), min((at // PAGE + 1) * PAGE, end)
        while stop < end and _used(machine, stop, end) == used:
            stop = min(stop + PAGE, end)
        if used is None:
            yield Region(at, stop, "hole", "not readable")
        elif used:
            yield Region(at, stop, "used", "written to", "by firmware, loader or kernel")
        else:
            yield Region(at, stop, "free", "free", "only zeros or one pattern")
        at = stop


def _used(machine: Machine, at: int, end: int) -> Optional[bool]:
    data = machine.physical(at, min((at // PAGE + 1) * PAGE, end) - at)
    return None if data is None else any(data) and filler(data) is None


def _kernel(machine: Machine) -> list[Region]:
    """The image's groups of pages, by the symbols of our linker script."""
    names = (
        ("kernel_text_start", "kernel_rodata_start", "kernel code"),
        ("kernel_rodata_start", "kernel_data_start", "kernel constants"),
        ("kernel_data_start", "kernel_end", "kernel data"),
    )
    bsp, found = machine.bsp, []
    for first, last, name in names:
        low, high = (machine.evidence.symbols.address(symbol) for symbol in (first, last))
        if bsp is None or low is None or high is None or not 0 < high - low < 1 << 26:
            continue
        walk = machine.linear(bsp.registers).walk(low)
        if walk is not None and walk.page_size and walk.entries:
            physical = walk.entries[-1].target + low % walk.page_size
            found.append(Region(physical, physical + high - low, "kernel", name))
    return found


def mapped(machine: Machine, registers: Registers) -> Optional[list[Mapping]]:
    """The pages that a CPU's tables map, as many as one can want; None without paging."""
    tables = tables_of(registers, *machine.paging_limits)
    if tables is None or tables.mode is PagingMode.NONE:
        return None
    found = []
    for mapping in mappings(machine.evidence.memory, tables, 4096):
        found.append(mapping)
        if len(found) >= _MAX_MAPPINGS:
            break
    return found


def view(region: Region, pages_: list[Mapping]) -> View:
    """How the region's first byte is mapped."""
    identity, elsewhere = "", ""
    for mapping in pages_:
        if not mapping.physical <= region.start < mapping.physical + mapping.size:
            continue
        linear = mapping.linear + region.start - mapping.physical
        rights = "r" + ("w" if mapping.writable else "-") + ("x" if mapping.executable else "-")
        if linear == region.start:
            identity = rights
        elif not elsewhere or region.kind == "kernel":
            elsewhere = f"{linear:#x} {rights}"
    return View(identity, elsewhere)
