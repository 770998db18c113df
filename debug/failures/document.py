# SPDX-License-Identifier: BSD-2-Clause
"""docs/failure-table.md, made from the rows: `python3 -m debug.failures.document [--check]`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from debug.failures import chapters
from debug.failures.row import Place, Row
from debug.failures.table import ROWS

LABS = Path(__file__).resolve().parents[2] / "tests" / "labs"
PATH = Path(__file__).resolve().parents[2] / "docs" / "failure-table.md"

_HEAD = """<!-- Made by debug/failures/document.py from debug/failures/rows; do not edit. -->
# The failure table

One row for each root cause that the diagnoser can name. `lamppost failures` prints the list,
`lamppost failures ID` one row. A verdict is *certain* when the architecture leaves nothing else,
*likely* when everything seen fits, *possible* when it is one of several explanations. Where a lab
has the root cause, the report is the one of its last run under QEMU (`make reports`).

*Covers* numbers the finer causes that a row merges where no evidence separates them: AP0 to AP4 on
an AP's way, B16 and B32 16- and 32-bit code, PG paging, LM long mode, STK stacks, ENT the entry into
C, IDT, TSS, IRQ, FPU and CPU what they say, FW firmware, BLD the build, HANG hangs.
`lamppost failures STK-02` finds the row.
"""


def document() -> str:
    """The whole document."""
    parts = [_HEAD, _contents()]
    for place in Place:
        rows = [row for row in ROWS if row.place is place]
        if rows:
            parts.append(f"## {place.value[0].upper()}{place.value[1:]}\n")
            parts += [section(row) for row in rows]
    return "\n".join(parts)


def _contents() -> str:
    lines = ["| id | root cause | what you see |", "| --- | --- | --- |"]
    for place in Place:
        for row in (row for row in ROWS if row.place is place):
            seen = _cell("; ".join(row.symptom[:2]))
            lines.append(f"| [{row.id}](#{row.id}) | {_cell(row.title)} | {seen} |")
    return "\n".join(lines) + "\n"


def section(row: Row) -> str:
    """What the document says of one row."""
    lines = [f"### {row.id}\n", f"{_sentence(row.title)}\n"]
    lines.append(f"- **You see:** {'; '.join(row.symptom)}")
    lines.append(f"- **Proved by:** {row.proves}")
    lines.append(f"- **Ruled out by:** {row.disproves}")
    lines.append(f"- **Fix:** {row.fix}")
    if row.manual:
        lines.append(f'- **Manual:** "{row.manual}" ([references](references.md))')
    if chapter := chapters.path(row.chapter):
        lines.append(f"- **Read:** [{row.chapter}](../{chapter}/README.md)")
    if row.labs:
        labs = ", ".join(f"`make lab LAB={lab}`" for lab in row.labs)
        lines.append(f"- **Try:** {labs}")
    if row.catalogue:
        lines.append(f"- **Covers:** {', '.join(row.catalogue)}")
    return "\n".join(lines) + "\n" + _example(row)


def _example(row: Row) -> str:
    """What was said of the first of the row's labs that it is the first cause of."""
    for lab in row.labs:
        path = LABS / lab / "report.txt"
        report = path.read_text(encoding="utf-8") if path.exists() else ""
        if f"\n  why    {row.id} (" in f"\n{report}":
            summary = f"<summary><code>make diagnose LAB={lab}</code></summary>"
            return f"\n<details>{summary}\n\n```text\n{report}```\n\n</details>\n"
    return ""


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:] + "."


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def main() -> int:
    """Write the document, or with --check say whether it is stale (1) or current (0)."""
    parser = argparse.ArgumentParser(description="Make docs/failure-table.md from the rows.")
    parser.add_argument("--check", action="store_true", help="only say whether it is current")
    options = parser.parse_args()
    text = document()
    if options.check:
        current = PATH.read_text(encoding="utf-8") if PATH.exists() else ""
        if current != text:
            print(f"{PATH.name} is stale: run python3 -m debug.failures.document", file=sys.stderr)
            return 1
        return 0
    PATH.parent.mkdir(parents=True, exist_ok=True)
    PATH.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
