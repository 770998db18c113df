# SPDX-License-Identifier: BSD-2-Clause
"""Each CPU's way through the stages: one lane per CPU, one mark per stage, time to the right.

Time is stretched where stages follow each other quickly, so that each can be seen; a pause that
is long for this trace is drawn as a gap with its length.  A mark's full text is its tooltip.
"""

from __future__ import annotations

from typing import Optional, Sequence

from debug.evidence import StageEvent
from debug.pictures.drawing import MARGIN, Drawing
from debug.stages.lanes import Lane
from debug.stages.model import GROUPS, StageTable
from debug.stages.scale import Scale, scale

_LEFT, _RIGHT, _LANE, _BOTTOM = 108, 40, 42, 58
_PLOT = 812  # width of the time axis
_LABEL = 21  # a mark nearer to the label before it gets none
_MAX_LANES = 512
_PAUSE, _LONG, _MAX_PAUSES = 72, 0.04, 6  # its width, and what share of the whole is long
_LEGEND = (0xB, 0xC, 0x1, 0x3, 0x6, 0xA, 0xE)


def render(lanes: Sequence[Lane], table: StageTable, ticks_per_us: Optional[float]) -> str:
    """The SVG document; at most 512 lanes are drawn."""
    lanes = lanes[:_MAX_LANES]
    placed = scale(lanes, ticks_per_us)
    picture = Drawing(
        f"Stages of {len(lanes)} CPUs over {_time(placed.span, placed.unit)}",
        "; ".join(_said(lane) for lane in lanes),
        _LEFT + _PLOT + _RIGHT,
    )
    top = _legend(picture, lanes)
    height = top + _LANE * len(lanes) + _BOTTOM
    axis = _Axis(placed)
    _axis(picture, placed, axis, top, height)
    for row, lane in enumerate(lanes):
        y = top + _LANE * row + _LANE // 2 + 4
        _lane(
            picture, lane, [(axis.x(t), _time(t, placed.unit)) for t in placed.rows[row]], y, table
        )
    return picture.svg(height)


def _said(lane: Lane) -> str:
    codes = " ".join(f"{event.code:02x}" for event in lane.events[:64])
    end = {True: ", arrived", False: ", did not arrive", None: ""}[lane.arrived]
    return f"{lane.label}: {codes}{end}"


class _Axis:
    """Where each moment lies from left to right, and the pauses."""

    def __init__(self, placed: Scale) -> None:
        moments = sorted({time for row in placed.rows for time in row})
        pauses = sorted(zip(moments, moments[1:]), key=lambda pair: pair[0] - pair[1])
        timed = placed.unit != "events"
        long = [p for p in pauses[:_MAX_PAUSES] if p[1] - p[0] >= placed.span * _LONG]
        self.pauses = sorted(long) if timed else []
        rest = len(moments) - 1 - len(self.pauses)
        step = (_PLOT - _PAUSE * len(self.pauses)) / rest if rest > 0 else 0.0
        self._places: dict[float, float] = {}
        x, ends = float(_LEFT), {end for _, end in self.pauses}
        for number, moment in enumerate(moments):
            x += 0 if not number else _PAUSE if moment in ends else step
            self._places[moment] = x

    def x(self, moment: float) -> float:
        return self._places[moment]


def _legend(picture: Drawing, lanes: Sequence[Lane]) -> int:
    """The groups of stages that occur; the y where the lanes begin."""
    used = {event.code >> 4 for lane in lanes for event in lane.events}
    x, y = float(MARGIN), 26
    for digit in (digit for digit in _LEGEND if digit in used):
        title = f"{digit:x}· {GROUPS[digit]}"
        wide = 34 + 7.6 * len(title)
        if x + wide > picture.width:
            x, y = float(MARGIN), y + 22
        picture.dot(x + 5, y - 4, 5, f"g{digit:x}")
        picture.text(x + 16, y, title, "dim")
        x += wide
    return y + 18


def _axis(picture: Drawing, placed: Scale, axis: _Axis, top: int, height: int) -> None:
    """How long each pause is, and below that the first and the last moment."""
    low, y = height - _BOTTOM + 6, height - 34
    for start, end in axis.pauses:
        x, wide = axis.x(start) + 10, axis.x(end) - axis.x(start) - 20
        picture.box(x, top, wide, low - top, "hole box")
        picture.text(x + wide / 2, y, _time(end - start, placed.unit), "dim middle")
    for moment in (0.0, placed.span):
        if any(moment in row for row in placed.rows):
            x = axis.x(moment)
            picture.line(x, top, x, low)
            style = "dim" + (" end" if moment else "")
            picture.text(x + (6 if moment else 0), y + 20, _time(moment, placed.unit), style)


def _time(value: float, unit: str) -> str:
    if unit == "us":
        return f"{value / 1000:.1f} ms" if value >= 10_000 else f"{value:.1f} µs"
    return f"{value:.0f} {unit}"


def _lane(
    picture: Drawing, lane: Lane, moments: Sequence[tuple[float, str]], y: int, table: StageTable
) -> None:
    xs = [x for x, _ in moments]
    picture.text(MARGIN, y + 5, f"{lane.label}{' BSP' if lane.is_bsp else ''}")
    if xs:
        picture.line(xs[0], y, xs[-1], y, "way")
    labelled = float("-inf")
    for event, (x, time) in zip(lane.events, moments):
        group = event.code >> 4
        style = f"g{group:x}" if group in _LEGEND else "g0"
        tip = f"{lane.label}: {event.code:02x} {table.name(event.code)}"
        tip += "" if event.argument is None else f" = {event.argument:#x}"
        tip += f" at {time}"
        stage = table.get(event.code)
        tip += f": {stage.became}" if stage else ""
        picture.dot(x, y, 4.5, style + (" restored" if event.damaged else ""), tip + _origin(event))
        if x - labelled >= _LABEL:
            picture.text(x, y - 9, f"{event.code:02x}", "code middle")
            labelled = x
    if lane.arrived is not None and xs:
        sign, style = ("✓", "ok") if lane.arrived else ("✗", "bad")
        picture.text(xs[-1] + 10, y + 5, sign, f"strong {style}")


def _origin(event: StageEvent) -> str:
    if not event.damaged:
        return ""
    return " (restored from memory)" if event.source == "memory" else " (put together again)"
