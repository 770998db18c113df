# SPDX-License-Identifier: BSD-2-Clause
"""The timeline as a self-contained SVG: one lane per CPU, one mark per stage, time to the right.

The same trace gives the same bytes.  Colours follow the reader's light or dark setting through
CSS; a mark's full text is its tooltip.
"""

from __future__ import annotations

from html import escape
from typing import Optional, Sequence

from debug.evidence import StageEvent
from debug.stages.lanes import Lane
from debug.stages.model import GROUPS, StageTable
from debug.stages.scale import Scale, scale

_LEFT, _RIGHT, _TOP, _LANE, _BOTTOM = 110, 30, 56, 34, 34
_PLOT = 1000  # width of the time axis
_LABEL = 17  # a mark nearer to the label before it gets none
_MAX_LANES = 512

_STYLE = """
svg { background: #ffffff; font: 12px system-ui, sans-serif; }
text { fill: #1f2328; } .dim { fill: #59636e; } .code { font: 10px ui-monospace, monospace; }
.line { stroke: #d1d9e0; } .way { stroke: #818b98; stroke-width: 2; }
.ok { fill: #1a7f37; } .bad { fill: #d1242f; } .restored { stroke: #d1242f; stroke-width: 2; }
.g1 { fill: #9a6700; } .g3 { fill: #8250df; } .g6 { fill: #1b7c83; } .ga { fill: #1a7f37; }
.gb { fill: #0969da; } .gc { fill: #0550ae; } .ge { fill: #d1242f; } .g0 { fill: #59636e; }
@media (prefers-color-scheme: dark) {
svg { background: #0d1117; } text { fill: #e6edf3; } .dim { fill: #9198a1; }
.line { stroke: #3d444d; } .way { stroke: #656c76; }
.ok { fill: #3fb950; } .bad { fill: #f85149; } .restored { stroke: #f85149; }
.g1 { fill: #d29922; } .g3 { fill: #ab7df8; } .g6 { fill: #39c5cf; } .ga { fill: #3fb950; }
.gb { fill: #4493f8; } .gc { fill: #79c0ff; } .ge { fill: #f85149; } .g0 { fill: #9198a1; }
}
"""
_LEGEND = (0x1, 0x3, 0x6, 0xA, 0xB, 0xC, 0xE)


def render(lanes: Sequence[Lane], table: StageTable, ticks_per_us: Optional[float]) -> str:
    """The SVG document; at most 512 lanes are drawn."""
    lanes = lanes[:_MAX_LANES]
    placed = scale(lanes, ticks_per_us)
    height = _TOP + _LANE * len(lanes) + _BOTTOM
    width = _LEFT + _PLOT + _RIGHT
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}" role="img" aria-label="Stages of each CPU over time">',
        f"<style>{_STYLE}</style>",
        *_legend(lanes),
        *_axis(placed, height),
    ]
    for row, lane in enumerate(lanes):
        parts += _lane(lane, placed.rows[row], placed, _TOP + _LANE * row + _LANE // 2, table)
    return "\n".join([*parts, "</svg>"]) + "\n"


def _x(time: float, placed: Scale) -> float:
    return _LEFT + _PLOT * (time / placed.span if placed.span else 0.0)


def _legend(lanes: Sequence[Lane]) -> list[str]:
    used = {event.code >> 4 for lane in lanes for event in lane.events}
    result = []
    x = _LEFT
    for digit in _LEGEND:
        if digit not in used:
            continue
        title = GROUPS[digit]
        result.append(f'<circle class="g{digit:x}" cx="{x}" cy="16" r="5"/>')
        result.append(f'<text class="dim" x="{x + 9}" y="20">{escape(title)}</text>')
        x += 26 + 6 * len(title)
    return result


def _axis(placed: Scale, height: int) -> list[str]:
    result = []
    for tenth in range(0, 11, 2):
        x = _LEFT + _PLOT * tenth // 10
        label = _time(placed.span * tenth / 10, placed.unit)
        result.append(
            f'<line class="line" x1="{x}" y1="{_TOP - 8}" x2="{x}" y2="{height - _BOTTOM}"/>'
        )
        result.append(
            f'<text class="dim" x="{x}" y="{height - 12}" text-anchor="middle">{label}</text>'
        )
    return result


def _time(value: float, unit: str) -> str:
    if unit == "us":
        return f"{value / 1000:.1f} ms" if value >= 10_000 else f"{value:.1f} µs"
    return f"{value:.0f} {unit}"


def _lane(
    lane: Lane, times: Sequence[float], placed: Scale, y: int, table: StageTable
) -> list[str]:
    xs = [_x(time, placed) for time in times]
    result = [f'<text x="8" y="{y + 4}">{escape(lane.label)}{" BSP" if lane.is_bsp else ""}</text>']
    if xs:
        result.append(f'<line class="way" x1="{xs[0]:.1f}" y1="{y}" x2="{xs[-1]:.1f}" y2="{y}"/>')
    labelled = float("-inf")
    for event, time, x in zip(lane.events, times, xs):
        group = event.code >> 4
        style = f"g{group:x}" if group in _LEGEND else "g0"
        tip = f"{lane.label}: {event.code:02x} {table.name(event.code)}"
        tip += "" if event.argument is None else f" = {event.argument:#x}"
        tip += f" at {_time(time, placed.unit)}"
        stage = table.get(event.code)
        tip += f": {stage.became}" if stage else ""
        tip += _origin(event)
        restored = " restored" if event.damaged else ""
        result.append(
            f'<circle class="{style}{restored}" cx="{x:.1f}" cy="{y}" r="4">'
            f"<title>{escape(tip)}</title></circle>"
        )
        if x - labelled >= _LABEL:
            result.append(
                f'<text class="code" x="{x:.1f}" y="{y - 8}" text-anchor="middle">'
                f"{event.code:02x}</text>"
            )
            labelled = x
    if lane.arrived is not None and xs:
        sign, style = ("✓", "ok") if lane.arrived else ("✗", "bad")
        result.append(f'<text class="{style}" x="{xs[-1] + 9:.1f}" y="{y + 4}">{sign}</text>')
    return result


def _origin(event: StageEvent) -> str:
    if not event.damaged:
        return ""
    return " (restored from memory)" if event.source == "memory" else " (put together again)"
