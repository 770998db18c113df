# SPDX-License-Identifier: BSD-2-Clause
"""A page walk: the address cut into indices, the entry at each level, the level that refused."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from typing import Optional

from debug.evidence import Registers
from debug.explain.context import Machine
from debug.explain.findings import PageFault
from debug.pictures.drawing import MARGIN, WIDTH, Drawing, NoPicture
from debug.report.diagnosis import Diagnosis
from debug.x86.modes import PagingMode
from debug.x86.page_entries import Entry, Level, Reason, formats, size_text
from debug.x86.paging import Access, Walk

_INNER = WIDTH - 2 * MARGIN
_ROW, _GAP = 58, 22
_FLAGS = (("P", 0), ("RW", 1), ("US", 2), ("A", 5), ("D", 6), ("PS", 7), ("NX", 63))


@dataclass(frozen=True)
class Subject:
    """What is walked: the address, with which registers, and why just this one."""

    walk: Walk
    cr3: int
    heading: str


def subject(diagnosis: Diagnosis, address: Optional[str], cpu: Optional[int] = None) -> Subject:
    """The walk for `address` (a number or a symbol), by default for the fault that ended the CPU.

    Its tables are those of `cpu`, by default of the culprit at its first exception, and of the
    BSP where nobody is to blame.  Raises NoPicture.
    """
    machine = Machine(diagnosis.evidence)
    index, registers = _registers(machine, diagnosis, cpu)
    access, at, name = Access(), None, ""
    if address is None:
        fault = diagnosis.explanation.first(PageFault, diagnosis.explanation.culprit)
        if fault is None:
            raise NoPicture("this machine took no page fault: name an address, as in walk:0x8000")
        at, fetch = fault.address, fault.access == "fetch from"
        access = Access(fault.write, fault.user, fetch)
        name = f"{fault.access} {at:#x}"
    else:
        at, symbol = _address(machine, address)
        name = f"{at:#x}" + (f" ({symbol})" if symbol else "")
    walk = machine.linear(registers).walk(at, access)
    cr3 = registers.get("cr3")
    if walk is None or cr3 is None:
        raise NoPicture(f"the paging registers of CPU {index} are not known")
    if walk.mode is PagingMode.NONE:
        raise NoPicture(f"CPU {index} had paging off: {at:#x} is the physical address")
    return Subject(walk, cr3, f"CPU {index}: {name}")


def _registers(machine: Machine, diagnosis: Diagnosis, cpu: Optional[int]) -> tuple[int, Registers]:
    explanation = diagnosis.explanation
    index = cpu if cpu is not None else explanation.culprit
    if index is None:
        index = machine.bsp_index
    for step in explanation.chain:
        if step.cpu == index and step.registers is not None:
            return index or 0, step.registers
    found = machine.cpu(index)
    if found is None:
        raise NoPicture(f"there is no CPU {index}" if index is not None else "no CPU is known")
    return found.index, found.registers


def _address(machine: Machine, text: str) -> tuple[int, str]:
    try:
        return int(text, 0) & (1 << 64) - 1, ""
    except ValueError:
        found = machine.evidence.symbols.address(text)
    if found is None:
        raise NoPicture(f"{text!r} is neither an address nor a known symbol")
    return found, text


def draw(what: Subject) -> str:
    """The picture."""
    walk = what.walk
    result = _result(walk)
    picture = Drawing(
        f"Page walk, {what.heading}", ". ".join([f"CR3 {what.cr3:#x}", *walk.describe()])
    )
    picture.text(MARGIN, 34, what.heading, "strong big")
    levels = formats(walk.mode).levels
    y = _fields(picture, walk, levels, 58)
    picture.box(MARGIN, y, 190, 30, "box")
    picture.text(MARGIN + 12, y + 20, f"CR3  {what.cr3:#x}", "code")
    y += 30
    for number, entry in enumerate(walk.entries):
        picture.arrow((MARGIN + 40, y), (MARGIN + 40, y + _GAP))
        y += _GAP
        at_fault = walk.fault is not None and walk.fault.level == entry.level
        _entry(picture, entry, levels[number], number, at_fault, y)
        y += _ROW
    good = walk.fault is None
    lines = textwrap.wrap(result, 82, break_on_hyphens=False)
    picture.arrow((MARGIN + 40, y), (MARGIN + 40, y + _GAP))
    y += _GAP
    height = 18 + 19 * len(lines)
    picture.box(MARGIN, y, _INNER, height, "good" if good else "fault")
    sign = "✓" if good else "✗"
    picture.text(MARGIN + 21, y + 24, sign, f"strong middle {'ok' if good else 'bad'}")
    for line in lines:
        picture.text(MARGIN + 42, y + 24, line, "strong")
        y += 19
    return picture.svg(y + 18 + MARGIN)


def _result(walk: Walk) -> str:
    if walk.fault is not None:
        code = walk.fault.error_code
        error = "" if code is None else f" Error code {code:#x}."
        vector = {14: "#PF", 13: "#GP"}.get(walk.fault.vector or 0, "")
        unread = walk.fault.reason is Reason.UNREADABLE
        return walk.fault.sentence if unread else f"{vector}: {walk.fault.sentence}.{error}"
    rights = "r" + ("w" if walk.writable else "-") + ("x" if walk.executable else "-")
    rights += ", user too" if walk.user else ", supervisor only"
    return f"physical {walk.physical or 0:#x}, in a {size_text(walk.page_size)} page: {rights}"


def _fields(picture: Drawing, walk: Walk, levels: tuple[Level, ...], y: float) -> float:
    """The address as the indices that the levels take from it."""
    last = levels[len(walk.entries) - 1] if walk.entries else levels[-1]
    shown = levels[: len(walk.entries)] or levels
    low = last.shift
    width = _INNER / (len(shown) + 1)
    x = float(MARGIN)
    for number, level in enumerate(shown):
        index = walk.address >> level.shift & (1 << level.index_bits) - 1
        high = level.shift + level.index_bits - 1
        picture.box(x, y, width - 6, 44, "box")
        picture.text(x + width / 2 - 3, y + 18, f"{level.name} index {index}", "small middle")
        picture.text(
            x + width / 2 - 3, y + 35, f"bits {high}:{level.shift}", "tiny dim middle code"
        )
        x += width
    picture.box(x, y, width, 44, "box")
    offset = walk.address & (1 << low) - 1
    picture.text(x + width / 2, y + 18, f"offset {offset:#x}", "small middle")
    picture.text(x + width / 2, y + 35, f"bits {low - 1}:0", "tiny dim middle code")
    return y + 44 + 20


def _entry(
    picture: Drawing, entry: Entry, level: Level, number: int, at_fault: bool, y: float
) -> None:
    picture.box(MARGIN, y, _INNER, _ROW, "fault" if at_fault else "box")
    picture.text(MARGIN + 12, y + 24, entry.name, "strong")
    picture.text(MARGIN + 12, y + 44, f"at {entry.address:#x}", "code dim")
    picture.text(MARGIN + 190, y + 24, f"{entry.raw:#x}", "code strong")
    what = "page" if entry.leaf else "next table"
    target = f"{what} {entry.target:#x}" if entry.raw & 1 else "not present"
    picture.text(MARGIN + 190, y + 44, target, "small " + ("dim" if entry.raw & 1 else "bad"))
    x = float(MARGIN + 392)
    for name, bit in _FLAGS:
        if bit == 6 and not entry.leaf or bit == 7 and not level.may_be_large:
            continue  # without a meaning at this level
        on = entry.raw >> bit & 1
        picture.box(x, y + 17, 32, 24, "here" if on else "hole box", 4)
        picture.text(x + 16, y + 33, name, "tiny middle" + ("" if on else " dim"))
        x += 40
