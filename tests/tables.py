# SPDX-License-Identifier: BSD-2-Clause
"""Tables that tests read: tab-separated, a line of names first, lines with # are remarks."""

from __future__ import annotations

import csv
from pathlib import Path


def read_table(path: Path) -> list[dict[str, str]]:
    """Each row by the names of its columns."""
    with open(path, encoding="utf-8") as file:
        lines = (line for line in file if not line.startswith("#"))
        return list(csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE))
