# SPDX-License-Identifier: BSD-2-Clause
"""`lamppost failures [ID]`: the failure table, one row of it, or the rows for some words."""

from __future__ import annotations

import argparse
import json
import sys
import textwrap

from debug.cli.errors import CommandError
from debug.cli.exit_codes import ExitCode
from debug.failures import chapters
from debug.failures.row import Place, Row
from debug.failures.table import ROWS, find
from debug.report.safe import safe
from debug.report.terminal import encodable

_WIDTH = 80


def configure(parser: argparse.ArgumentParser) -> None:
    """The arguments of the command."""
    parser.add_argument(
        "id",
        nargs="?",
        metavar="ID",
        help="a row's id, a number of what it covers (STK-02), or words to search the symptoms for",
    )
    parser.add_argument("--json", action="store_true", help="the rows as JSON")


def run(options: argparse.Namespace) -> int:
    """Print the whole table, or the rows that `options.id` names."""
    rows = ROWS if options.id is None else _chosen(options.id)
    if options.json:
        text = json.dumps([as_object(row) for row in rows], indent=2) + "\n"
    elif options.id is None or len(rows) > 1:
        text = listing(rows)
    else:
        text = page(rows[0])
    sys.stdout.write(encodable(text, sys.stdout))
    return int(ExitCode.HEALTHY)


def _chosen(wanted: str) -> tuple[Row, ...]:
    exact = find(wanted)
    if exact is not None:
        return (exact,)
    words = wanted.lower().split()
    found = tuple(row for row in ROWS if words and all(word in _haystack(row) for word in words))
    if not found:
        raise CommandError(
            f"no row of the failure table has the id or the words {safe(wanted, 80)!r};"
            " `lamppost failures` lists all ids",
            ExitCode.USAGE,
        )
    return found


def _haystack(row: Row) -> str:
    return " ".join((row.id, row.title, *row.symptom, *row.catalogue)).lower()


def as_object(row: Row) -> dict[str, object]:
    """A row as plain data."""
    return {
        "id": row.id,
        "title": row.title,
        "place": row.place.value,
        "symptom": list(row.symptom),
        "proves": row.proves,
        "disproves": row.disproves,
        "fix": row.fix,
        "manual": row.manual,
        "chapter": row.chapter,
        "labs": list(row.labs),
        "catalogue": list(row.catalogue),
    }


def listing(rows: tuple[Row, ...]) -> str:
    """Ids and titles, by place, 80 columns."""
    lines: list[str] = []
    for place in Place:
        group = [row for row in rows if row.place is place]
        if group:
            lines += ["", place.value]
        for row in group:
            lines += textwrap.wrap(
                f"{row.id:<28} {row.title}",
                _WIDTH,
                initial_indent="  ",
                subsequent_indent=" " * 31,
                break_on_hyphens=False,
            )
    return "\n".join(lines[1:]) + "\n"


def page(row: Row) -> str:
    """One row, 80 columns."""
    parts = [
        ("see", "; ".join(row.symptom)),
        ("proof", row.proves),
        ("not if", row.disproves),
        ("fix", row.fix),
        ("manual", f'"{row.manual}"' if row.manual else ""),
        ("read", chapters.path(row.chapter)),
        ("try", ", ".join(f"make lab LAB={lab}" for lab in row.labs)),
        ("covers", ", ".join(row.catalogue)),
    ]
    lines = [row.id, *_wrapped("", row.title), ""]
    for label, text in parts:
        if text:
            lines += _wrapped(label, text)
    return "\n".join(lines) + "\n"


def _wrapped(label: str, text: str) -> list[str]:
    return textwrap.wrap(
        text,
        _WIDTH,
        initial_indent="  " + label.ljust(8 if label else 0),
        subsequent_indent=" " * (10 if label else 2),
        break_on_hyphens=False,
    )
