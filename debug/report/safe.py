# SPDX-License-Identifier: BSD-2-Clause
"""Guest text made safe to print: no escape sequence of a guest reaches a terminal."""

from __future__ import annotations

import unicodedata


def safe(text: str, limit: int = 2000) -> str:
    """`text` on one line without control characters, bidirectional marks and surrogates.

    Each of those is replaced by `?`; at most `limit` characters.
    """
    shown = text[:limit]
    return "".join(c if _printable(c) else " " if c in "\t\r\n" else "?" for c in shown)


def _printable(character: str) -> bool:
    if " " <= character <= "~":
        return True
    return unicodedata.category(character)[0] not in "CZ"
