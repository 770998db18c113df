# SPDX-License-Identifier: BSD-2-Clause
"""Where a report is printed: colours in a terminal, plain text elsewhere."""

from __future__ import annotations

import shutil
from typing import TextIO

from debug.report import text
from debug.report.diagnosis import Diagnosis
from debug.terminal import coloured


def write(diagnosis: Diagnosis, stream: TextIO) -> None:
    """Print the report, as wide as the terminal; elsewhere it is of 80 columns."""
    width = min(shutil.get_terminal_size().columns, 100) if stream.isatty() else text.WIDTH
    if not coloured(stream):
        stream.write(encodable(text.render(diagnosis, width), stream))
        return
    from rich.console import Console

    console = Console(file=stream, highlight=False, emoji=False, soft_wrap=True)
    console.print(text.render(diagnosis, width, text.markup), end="")


_PLAIN = {"→": "->", "·": ".", "✗": "x", "✓": "+", "…": "..."}


def encodable(shown: str, stream: TextIO) -> str:
    """`shown` in characters that the stream's encoding has."""
    encoding = stream.encoding or "ascii"
    try:
        shown.encode(encoding)
    except (UnicodeEncodeError, LookupError):
        for character, ascii_text in _PLAIN.items():
            shown = shown.replace(character, ascii_text)
        shown = shown.encode("ascii", "replace").decode("ascii")
    return shown
