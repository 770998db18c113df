# SPDX-License-Identifier: BSD-2-Clause
"""One SVG document: the shapes that the pictures are made of, and their one style sheet.

Self-contained and readable by itself: text is text, light and dark follow the reader's setting,
<title> and <desc> say what is seen.  Whatever a guest wrote is escaped here and nowhere else.
"""

from __future__ import annotations

from html import escape
from typing import Optional

from debug.report.safe import safe

WIDTH = 720  # of every picture but the timeline: a phone's or a page's column
MARGIN = 20
_MAX_TEXT = 400  # characters of one piece of text

_LIGHT = """\
.paper { fill: #ffffff; } .box { fill: #f6f8fa; stroke: #d1d9e0; } .hole { fill: none; }
text { fill: #1f2328; } .dim { fill: #59636e; } .ok { fill: #1a7f37; } .bad { fill: #cf222e; }
.g1 { fill: #8a5a00; } .g3 { fill: #8250df; } .g6 { fill: #1b7c83; } .ga { fill: #1a7f37; }
.gb { fill: #0969da; } .gc { fill: #0550ae; } .ge { fill: #cf222e; } .g0 { fill: #59636e; }
.line { stroke: #d1d9e0; } .way { stroke: #818b98; } .arrow { stroke: #59636e; }
.tip { fill: #59636e; } .fault { fill: #fff0ee; stroke: #cf222e; }
.good { fill: #eefbf1; stroke: #1a7f37; } .here { fill: #eef6ff; stroke: #0969da; }
.restored { stroke: #cf222e; }"""
_DARK = """\
.paper { fill: #0d1117; } .box { fill: #151b23; stroke: #3d444d; }
text { fill: #e6edf3; } .dim { fill: #9198a1; } .ok { fill: #3fb950; } .bad { fill: #ff7b72; }
.g1 { fill: #d29922; } .g3 { fill: #ab7df8; } .g6 { fill: #39c5cf; } .ga { fill: #3fb950; }
.gb { fill: #4493f8; } .gc { fill: #79c0ff; } .ge { fill: #ff7b72; } .g0 { fill: #9198a1; }
.line { stroke: #3d444d; } .way { stroke: #656c76; } .arrow { stroke: #9198a1; }
.tip { fill: #9198a1; } .fault { fill: #2b1416; stroke: #ff7b72; }
.good { fill: #10241a; stroke: #3fb950; } .here { fill: #101d30; stroke: #4493f8; }
.restored { stroke: #ff7b72; }"""
_SHAPES = """\
text { font: 14px system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif; }
.small { font-size: 12px; } .strong { font-weight: 600; } .big { font-size: 16px; }
.code { font-family: ui-monospace, "SFMono-Regular", "DejaVu Sans Mono", monospace;
font-size: 12.5px; }
.tiny { font-size: 11px; } .middle { text-anchor: middle; } .end { text-anchor: end; }
.arrow { stroke-width: 1.5; fill: none; } .way { stroke-width: 2; } .restored { stroke-width: 2; }
.hole { stroke-dasharray: 4 3; }"""
STYLE = f"{_SHAPES}\n{_LIGHT}\n@media (prefers-color-scheme: dark) {{\n{_DARK}\n}}"


class NoPicture(Exception):
    """There is nothing to draw; the message says why."""


class Drawing:
    """A picture that grows downwards; coordinates are pixels from the top left."""

    def __init__(self, title: str, description: str, width: int = WIDTH) -> None:
        self._title, self._description, self.width = title, description, width
        self._parts: list[str] = []

    def text(self, x: float, y: float, text: str, style: str = "") -> None:
        """One line of text; `style` names classes."""
        shown = said(text)
        self._parts.append(f'<text x="{_n(x)}" y="{_n(y)}"{_class(style)}>{shown}</text>')

    def box(
        self,
        x: float,
        y: float,
        width: float,
        height: float,
        style: str = "box",
        corner: float = 6,
    ) -> None:
        """A rectangle."""
        self._parts.append(
            f'<rect x="{_n(x)}" y="{_n(y)}" width="{_n(width)}" height="{_n(height)}"'
            f' rx="{_n(corner)}"{_class(style)}/>'
        )

    def dot(self, x: float, y: float, radius: float, style: str, tip: str = "") -> None:
        """A filled circle; `tip` is shown when it is pointed at."""
        inside = f"<title>{said(tip)}</title>" if tip else ""
        end = f">{inside}</circle>" if inside else "/>"
        self._parts.append(
            f'<circle cx="{_n(x)}" cy="{_n(y)}" r="{_n(radius)}"{_class(style)}{end}'
        )

    def line(self, x1: float, y1: float, x2: float, y2: float, style: str = "line") -> None:
        """A straight line."""
        self._parts.append(
            f'<line x1="{_n(x1)}" y1="{_n(y1)}" x2="{_n(x2)}" y2="{_n(y2)}"{_class(style)}/>'
        )

    def arrow(self, *points: tuple[float, float], style: str = "arrow") -> None:
        """A line through points with a head at the last, which it reaches from above or the side."""
        (x0, y0), (x, y) = points[-2:]
        across = abs(x - x0) > abs(y - y0)
        sign = (1 if x > x0 else -1) if across else (1 if y > y0 else -1)
        back = 8 * sign
        stop = (x - back, y) if across else (x, y - back)
        way = " ".join(f"{_n(a)},{_n(b)}" for a, b in (*points[:-1], stop))
        head = (
            ((x, y), (x - back, y - 4), (x - back, y + 4))
            if across
            else ((x, y), (x - 4, y - back), (x + 4, y - back))
        )
        self._parts.append(f'<polyline points="{way}"{_class(style)}/>')
        corners = " ".join(f"{_n(a)},{_n(b)}" for a, b in head)
        self._parts.append(f'<polygon points="{corners}" class="tip"/>')

    def svg(self, height: float) -> str:
        """The document."""
        size = f'width="{self.width}" height="{_n(height)}"'
        return "\n".join(
            [
                f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {self.width} {_n(height)}"'
                f' {size} role="img" aria-labelledby="title desc">',
                f'<title id="title">{said(self._title)}</title>',
                f'<desc id="desc">{said(self._description, 2000)}</desc>',
                f"<style>{STYLE}</style>",
                f'<rect {size} rx="8" class="paper"/>',
                *self._parts,
                "</svg>\n",
            ]
        )


def said(text: str, limit: int = _MAX_TEXT) -> str:
    """Anybody's text as XML: no markup, no control characters, no more than `limit` of it."""
    shown = safe(text, limit + 1)
    return escape(shown if len(shown) <= limit else shown[: limit - 1] + "…")


def fit(text: str, width: float, size: float = 8.2) -> str:
    """`text`, cut where it would be longer than `width` pixels at `size` pixels a character."""
    most = max(int(width / size), 1)
    return text if len(text) <= most else text[: most - 1] + "…"


def _class(style: str) -> str:
    return f' class="{style}"' if style else ""


def _n(value: Optional[float]) -> str:
    """A coordinate: one decimal at most."""
    return f"{value or 0:.1f}".rstrip("0").rstrip(".")
