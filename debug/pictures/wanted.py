# SPDX-License-Identifier: BSD-2-Clause
"""Which pictures there are, and how a user names one."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

KINDS = {
    "stages": "each CPU's way through the stages, over time",
    "chain": "the exceptions that ended a CPU, and why none could be delivered",
    "memory": "what lies where below 1 MiB, and what the page tables map there",
    "walk": "a page walk: for the fault, or walk:ADDRESS, walk:SYMBOL",
}


@dataclass(frozen=True)
class Wanted:
    """One picture to be written: `subject` is the address of a walk."""

    kind: str
    subject: Optional[str]
    path: Path


def wanted(text: str) -> Wanted:
    """`KIND[:SUBJECT]=FILE`, for argparse."""
    what, equals, path = text.partition("=")
    kind, _, subject = what.partition(":")
    if not equals or not path or kind not in KINDS or subject and kind != "walk":
        kinds = ", ".join(KINDS)
        raise argparse.ArgumentTypeError(
            f"{text!r}: expected KIND=FILE with KIND one of {kinds}, or walk:ADDRESS=FILE"
        )
    return Wanted(kind, subject or None, Path(path))


def add_picture_option(parser: argparse.ArgumentParser) -> None:
    """--picture."""
    parser.add_argument(
        "--picture",
        metavar="KIND=FILE",
        type=wanted,
        action="append",
        default=[],
        help=f"draw this machine as SVG ({', '.join(KINDS)}; walk:ADDRESS); may be repeated",
    )
