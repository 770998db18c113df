# SPDX-License-Identifier: BSD-2-Clause
"""The memory around the trampoline: what lies where, and what a CPU's tables map."""

from __future__ import annotations

from dataclasses import replace
from typing import Optional

from debug.evidence import Registers
from debug.explain.context import Machine
from debug.pictures.drawing import MARGIN, Drawing, fit
from debug.pictures.low_memory import Region, View, mapped, regions, view
from debug.report.diagnosis import Diagnosis
from debug.x86.page_entries import size_text

_STYLE = {
    "trampoline": "here",
    "trace": "good",
    "free": "hole box",
    "hole": "hole box",
    "fault": "fault",
}
_LEFT, _BOX, _IDENTITY, _ELSEWHERE = MARGIN, MARGIN + 96, 400, 470
_MAX_REGIONS = 24


def draw(diagnosis: Diagnosis) -> str:
    """The picture; whose tables the right-hand columns show, its heading says."""
    machine = Machine(diagnosis.evidence)
    who, registers = _whose(machine, diagnosis)
    pages = mapped(machine, registers) if registers is not None else None
    rows = _quiet(regions(machine))[:_MAX_REGIONS]
    page = machine.trampoline
    title = "Memory below 1 MiB" + (f", trampoline at {page:#x}" if page is not None else "")
    picture = Drawing(title, "; ".join(_said(row) for row in rows))
    picture.text(MARGIN, 34, title, "strong big")
    picture.text(MARGIN, 56, _caption(who, pages is not None), "small dim")
    y = 84.0
    if pages is not None:
        picture.text(_IDENTITY, y, "as it is", "tiny dim")
        picture.text(_ELSEWHERE, y, "elsewhere: linear address", "tiny dim")
    picture.text(_LEFT, y, "physical", "tiny dim")
    y += 8
    for row in rows:
        y = _row(picture, row, view(row, pages) if pages is not None else None, y)
    return picture.svg(y + MARGIN)


def _whose(machine: Machine, diagnosis: Diagnosis) -> tuple[str, Optional[Registers]]:
    """The culprit's tables if it had paging on, else the BSP's."""
    explanation = diagnosis.explanation
    for index in (explanation.culprit, machine.bsp_index):
        cpu = machine.cpu(index)
        step = next((s for s in explanation.chain if s.cpu == index and s.registers), None)
        registers = step.registers if step is not None else cpu.registers if cpu else None
        if registers is None:
            continue
        found = mapped(machine, registers)
        if found:
            return f"CPU {index}", registers
    return "", None


def _caption(who: str, paging: bool) -> str:
    if not paging:
        return "No CPU's page tables could be read."
    return f"Right: what the page tables of {who} map, at the same linear address and elsewhere."


def _quiet(rows: tuple[Region, ...]) -> list[Region]:
    """Without the detail far from the trampoline: what is used and free there is one region."""
    lots = [row for row in rows if row.kind in ("used", "free") and row.start >= 0x10000]
    if len(lots) < 2:
        return list(rows)
    low, high = lots[0].start, lots[-1].end
    inside = [row for row in rows if low <= row.start < high]
    if len(inside) != len(lots):
        return list(rows)
    free = sum(row.end - row.start for row in lots if row.kind == "free")
    name = "conventional memory"
    note = f"{size_text(free)} of {size_text(high - low)} never written"
    whole = replace(lots[0], end=high, kind="free", name=name, note=note)
    return sorted([r for r in rows if r not in lots] + [whole], key=lambda r: r.start)


def _said(row: Region) -> str:
    return f"{row.start:#x} to {row.end - 1:#x} {row.name}"


def _row(picture: Drawing, row: Region, how: Optional[View], y: float) -> float:
    parts = row.parts
    height = 40 + 17 * len(parts)
    picture.text(_LEFT, y + 17, f"{row.start:#x}", "code")
    picture.box(_BOX, y, _IDENTITY - _BOX - 16, height - 4, _STYLE.get(row.kind, "box"), 4)
    picture.text(_BOX + 12, y + 17, row.name, "small strong")
    size = f"{size_text(row.end - row.start)}" + (f" · {row.note}" if row.note else "")
    picture.text(_BOX + 12, y + 31, fit(size, _IDENTITY - _BOX - 36, 6.0), "tiny dim")
    at = y + 49
    for offset, name in parts:
        picture.text(_BOX + 24, at, f"+{offset:#05x}", "code tiny dim")
        picture.text(_BOX + 84, at, fit(name, 180, 7.0), "code tiny")
        at += 17
    if how is not None:
        here = how.identity or "not mapped"
        picture.text(_IDENTITY, y + 22, here, f"code {'strong' if how.identity else 'dim'}")
        picture.text(_ELSEWHERE + 30, y + 22, how.elsewhere or "—", "code dim")
    return y + height
