# SPDX-License-Identifier: BSD-2-Clause
"""Code and sessions as HTML: what is typed stands out from what is printed."""

from __future__ import annotations

import re
from html import escape

from pygments import highlight as pygmented
from pygments.formatters import HtmlFormatter
from pygments.lexers import get_lexer_by_name, get_lexer_for_filename
from pygments.util import ClassNotFound

_PROMPT = re.compile(r"^(\$|\(gdb\)|<bochs(?::\d+)?>) ?(.*)$")
_SESSIONS = ("console", "gdb", "bochs")
_ALIASES = {"asm": "nasm", "gas": "gas", "ld": "c", "mk": "make"}
_LARGE = 400_000  # characters: more is shown without colours
_FORMAT = HtmlFormatter(nowrap=True)


def highlighted(language: str, text: str) -> str:
    """The inside of a <code>."""
    if language in _SESSIONS:
        return _session(text)
    try:
        lexer = get_lexer_by_name(_ALIASES.get(language, language), stripnl=False)
    except ClassNotFound:
        return escape(text, quote=False)
    return str(pygmented(text, lexer, _FORMAT))


def source(name: str, text: str) -> str:
    """A whole file, each line with an anchor of its own: L1, L2 …"""
    try:
        lexer = get_lexer_for_filename(name.replace(".inc", ".asm").replace(".tsv", ".txt"))
        lexer.stripnl = False
        if name.endswith((".asm", ".inc")):
            lexer = get_lexer_by_name("nasm", stripnl=False)
        lines = str(pygmented(text[:_LARGE], lexer, _FORMAT)).split("\n")
    except ClassNotFound:
        lines = escape(text[:_LARGE], quote=False).split("\n")
    if lines and not lines[-1]:
        lines.pop()
    return "\n".join(f'<span id="L{n}">{line}</span>' for n, line in enumerate(lines, 1))


def _session(text: str) -> str:
    lines, more = [], False
    for line in text.rstrip("\n").split("\n"):
        prompt = _PROMPT.match(line)
        if prompt:
            sign, command = (escape(part, quote=False) for part in prompt.groups())
            lines.append(f'<span class="prompt">{sign}</span> <b>{command}</b>')
            more = command.endswith("\\")
        elif more:
            lines.append(f"<b>{escape(line, quote=False)}</b>")
            more = line.endswith("\\")
        else:
            lines.append(escape(line, quote=False))
    return "\n".join(lines) + "\n"
