# SPDX-License-Identifier: BSD-2-Clause
"""The table as text: the contents of the ELF section .lamppost.stages.

One line a stage: code (2 hex digits), name, mode, what became true, what is needed next,
separated by tabs.  The text comes from an ELF file and is not trusted.
"""

from __future__ import annotations

import re
from typing import Iterable

from debug.stages.model import MODES, Stage, StageTable, StageTableError

MAX_BYTES = 256 * 300  # 256 stages of at most that many characters
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
_CODE = re.compile(r"[0-9a-f]{2}")


def format_tsv(stages: Iterable[Stage]) -> str:
    """The text of the section."""
    return "".join(f"{s.code:02x}\t{s.name}\t{s.mode}\t{s.became}\t{s.needs}\n" for s in stages)


def parse_tsv(data: bytes, origin: str) -> StageTable:
    """The table that the section's bytes hold; NUL padding at the end is ignored.

    Raises StageTableError, naming the line, when a line is not a stage or a code comes twice.
    """
    if len(data) > MAX_BYTES:
        raise StageTableError(f"{origin}: the stage table has {len(data)} bytes, over {MAX_BYTES}")
    stages: dict[int, Stage] = {}
    for number, line in enumerate(data.rstrip(b"\0").decode("ascii", "replace").split("\n"), 1):
        if not line:
            continue
        stage = _line(line, f"{origin}: line {number} of the stage table")
        if stage.code in stages:
            raise StageTableError(
                f"{origin}: line {number} of the stage table gives code {stage.code:02x} again"
            )
        stages[stage.code] = stage
    if not stages:
        raise StageTableError(f"{origin}: the stage table is empty")
    return StageTable(tuple(stages.values()), origin)


def _line(line: str, where: str) -> Stage:
    fields = line.split("\t")
    if len(fields) != 5:
        raise StageTableError(f"{where} has {len(fields)} fields, expected 5 separated by tabs")
    code, name, mode, became, needs = fields
    if not _CODE.fullmatch(code):
        raise StageTableError(f"{where}: {code[:16]!a} is not a code of two hex digits")
    if not _NAME.fullmatch(name):
        raise StageTableError(f"{where}: {name[:64]!a} is not a name")
    if mode not in MODES:
        raise StageTableError(f"{where}: {mode[:16]!a} is not one of {', '.join(MODES)}")
    return Stage(int(code, 16), name, mode, _plain(became), _plain(needs))


def _plain(text: str) -> str:
    return "".join(c if " " <= c <= "~" else "?" for c in text)
