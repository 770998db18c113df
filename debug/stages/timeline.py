# SPDX-License-Identifier: BSD-2-Clause
"""The timeline in a terminal: each CPU's stages as a row of words, wrapped to the width.

    CPU 0  BSP  b0 · b1 · b2 … c9 ✓
    CPU 1       10 · 11 · 12 · 30 ✗  AP_PROT32: 32-bit protected mode was entered …

Stages that were restored from memory stand in parentheses.  Made of rich Text; a pipe or
NO_COLOR gets the same characters without colours, an ASCII locale gets `-`, `ok` and `X`.
"""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from typing import Mapping, Optional, Sequence, TextIO

from rich.console import Console
from rich.text import Text

from debug.evidence import StageEvent
from debug.stages.lanes import Lane, Roll
from debug.stages.model import StageTable
from debug.stages.steps import Step, steps
from debug.terminal import coloured

WIDTH = 80  # in a pipe
_MIN_WIDTH = 40

_COLOURS: Mapping[int, str] = {
    0x1: "yellow",
    0x3: "magenta",
    0x6: "cyan",
    0xA: "green",
    0xB: "blue",
    0xC: "bright_blue",
    0xE: "bold red",
}


@dataclass(frozen=True)
class Marks:
    """The signs of a timeline."""

    between: str = "·"
    arrived: str = "✓"
    stopped: str = "✗"


ASCII = Marks("-", "ok", "X")


def marks_for(stream: TextIO) -> Marks:
    """Signs that the stream's encoding can show."""
    try:
        "·✓✗".encode(getattr(stream, "encoding", None) or "ascii")
    except (UnicodeEncodeError, LookupError):
        return ASCII
    return Marks()


def console_for(stream: TextIO) -> Console:
    """A rich console without surprises: 80 columns unless it is a terminal, and colours if it has them."""
    colours = coloured(stream)
    return Console(
        file=stream,
        width=None if stream.isatty() else WIDTH,
        no_color=not colours,
        color_system="auto" if colours else None,
        force_terminal=colours,
        legacy_windows=False,
        highlight=False,
        markup=False,
        emoji=False,
        soft_wrap=True,
    )


def render(
    lanes: Sequence[Lane],
    table: StageTable,
    width: int,
    marks: Marks = Marks(),
    ticks_per_us: Optional[float] = None,
    deltas: bool = False,
) -> list[Text]:
    """One Text per line, none wider than `width` (at least 40); no newlines in them.

    `deltas` adds the time since the CPU's stage before: microseconds if the TSC's rate is known,
    else cycles.
    """
    width = max(width, _MIN_WIDTH)
    head = max((len(_head(lane, lanes)) for lane in lanes), default=0) + 2
    result: list[Text] = []
    for lane in lanes:
        words = [_word(step, ticks_per_us, deltas) for step in steps(lane)]
        result += _row(_head(lane, lanes).ljust(head), words, _end(lane, marks), width, marks)
        result += _reason(lane, table, head, width)
    return result


def _head(lane: Lane, lanes: Sequence[Lane]) -> str:
    any_bsp = any(other.is_bsp for other in lanes)
    return lane.label + (" BSP" if lane.is_bsp and any_bsp else "")


def _word(step: Step, rate: Optional[float], deltas: bool) -> tuple[str, str]:
    text = f"({step.text})" if step.restored else step.text
    if deltas and step.delta is not None:
        text += f" {_duration(step.delta, rate)}"
    return text, _COLOURS.get(step.code >> 4, "")


def _duration(cycles: int, rate: Optional[float]) -> str:
    if rate is None:
        return f"{cycles:+}"
    microseconds = cycles / rate
    digits = 1 if abs(microseconds) < 100 else 0
    return f"{microseconds:+.{digits}f}us"


def _end(lane: Lane, marks: Marks) -> tuple[str, str]:
    if lane.arrived is None:
        return "", ""
    return (marks.arrived, "bold green") if lane.arrived else (marks.stopped, "bold red")


def _row(
    head: str,
    words: Sequence[tuple[str, str]],
    end: tuple[str, str],
    width: int,
    marks: Marks,
) -> list[Text]:
    """A lane's line and its continuation lines."""
    lines = [Text(head, style="bold")]
    column = len(head)
    for index, (text, style) in enumerate(words):
        first = column == len(head)
        last = index == len(words) - 1
        between = "" if first else f" {marks.between} "
        needed = len(between) + len(text) + (len(end[0]) + 1 if last and end[0] else 2)
        if not first and column + needed > width:
            lines[-1].append(f" {marks.between}", style="dim")
            lines.append(Text(" " * len(head)))
            column, between = len(head), ""
        lines[-1].append(between, style="dim")
        lines[-1].append(text, style=style)
        column += len(between) + len(text)
    if end[0]:
        lines[-1].append(f" {end[0]}", style=end[1])
    return lines


def _reason(lane: Lane, table: StageTable, head: int, width: int) -> list[Text]:
    """For a CPU that did not arrive: where it stands and what came next."""
    if lane.arrived is not False or not lane.events:
        return []
    stage = table.get(lane.events[-1].code)
    if stage is None:
        return []
    said = f"{stage.code:02x} {stage.name}: {stage.became}; next: {stage.needs}"
    return [
        Text(" " * head + line, style="red") for line in textwrap.wrap(said, max(width - head, 20))
    ]


def summary(roll: Roll) -> str:
    """`4 of 4 CPUs online`, and who never spoke."""
    total = roll.present if roll.expected is None else roll.expected
    line = f"{roll.online} of {total} CPUs online"
    if roll.silent:
        shown = ", ".join(str(apic_id) for apic_id in roll.silent[:16])
        more = ", ..." if len(roll.silent) > 16 else ""
        line += f"; woken and never seen: APIC ID {shown}{more}"
    return line


def listing(lanes: Sequence[Lane], table: StageTable, width: int) -> list[Text]:
    """Every event in the trace's order: CPU, code, name, argument and its sentence."""
    events = sorted(
        (place, lane.apic_id, event)
        for lane in lanes
        for place, event in zip(lane.places, lane.events)
    )
    names = max((len(_named(event, table)) for _, _, event in events), default=0)
    numbers = max((len(str(apic_id)) for _, apic_id, _ in events), default=0)
    result: list[Text] = []
    for _, apic_id, event in events:
        stage = table.get(event.code)
        said = stage.became if stage else "not in the stage table"
        said += " (restored)" if event.damaged else ""
        column = 4 + numbers + 2 + 4 + names + 2
        lines = textwrap.wrap(said, max(width - column, 24))
        head = Text(f"CPU {apic_id:<{numbers}}  ")
        head.append(f"{event.code:02x}", style=_COLOURS.get(event.code >> 4, ""))
        head.append(f"  {_named(event, table):<{names}}  {lines[0]}")
        result.append(head)
        result += [Text(" " * column + line) for line in lines[1:]]
    return result


def _named(event: StageEvent, table: StageTable) -> str:
    value = "" if event.argument is None else f"={event.argument:x}"
    return table.name(event.code) + value
