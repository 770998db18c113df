# SPDX-License-Identifier: BSD-2-Clause
"""Which pictures there are, how a user names one, and writing it."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Optional, Sequence

from debug.cli.errors import CommandError
from debug.cli.exit_codes import ExitCode
from debug.pictures import chain, memory_map, timeline, walk
from debug.pictures.drawing import NoPicture
from debug.report.diagnosis import Diagnosis
from debug.stages.elf import table_for
from debug.stages.lanes import lanes, ticks_per_us

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
    kinds = "; ".join(f"{kind}: {what}" for kind, what in KINDS.items())
    parser.add_argument(
        "--picture",
        metavar="KIND=FILE",
        type=wanted,
        action="append",
        default=[],
        help=f"write an SVG drawn from this machine, may be repeated; {kinds}",
    )


def draw(diagnosis: Diagnosis, kind: str, subject: Optional[str] = None) -> str:
    """The SVG.  The machine's memory must still be readable.  Raises NoPicture."""
    if kind == "chain":
        return chain.draw(diagnosis)
    if kind == "memory":
        return memory_map.draw(diagnosis)
    if kind == "walk":
        return walk.draw(walk.subject(diagnosis, subject))
    if not diagnosis.evidence.stages:
        raise NoPicture("this guest lit no stage: docs/drop-in-kit.md teaches it to")
    table = table_for(None)
    ways = lanes(diagnosis.evidence.stages, table)
    return timeline.render(ways, table, ticks_per_us(ways, table))


def write(diagnosis: Diagnosis, pictures: Sequence[Wanted]) -> None:
    """Write each of them.  Raises CommandError."""
    for picture in pictures:
        try:
            text = draw(diagnosis, picture.kind, picture.subject)
            picture.path.write_text(text, encoding="utf-8")
        except NoPicture as error:
            raise CommandError(f"--picture {picture.kind}: {error}", ExitCode.USAGE) from error
        except OSError as error:
            raise CommandError(f"{picture.path}: {error.strerror}", ExitCode.USAGE) from error
