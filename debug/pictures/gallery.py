# SPDX-License-Identifier: BSD-2-Clause
"""Which pictures there are, how a user names one, and writing it."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Optional, Sequence

from debug.cli.errors import CommandError
from debug.cli.exit_codes import ExitCode
from debug.evidence import Evidence
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
    table = diagnosis.evidence.stage_table or table_for(None)
    ways = lanes(diagnosis.evidence.stages, table)
    return timeline.render(ways, table, ticks_per_us(ways, table))


class Easel:
    """Draws the wanted pictures while a machine can be read, and writes those of the one reported."""

    def __init__(self, pictures: Sequence[Wanted]) -> None:
        self._wanted = pictures
        self._drawn: list[tuple[Evidence, list[str | NoPicture]]] = []

    def look(self, diagnosis: Diagnosis) -> None:
        """Draw; the machine's memory must still be readable."""
        drawn: list[str | NoPicture] = []
        for wish in self._wanted:
            try:
                drawn.append(draw(diagnosis, wish.kind, wish.subject))
            except NoPicture as error:
                drawn.append(error)
        self._drawn.append((diagnosis.evidence, drawn))

    def write(self, diagnosis: Diagnosis) -> None:
        """Write what was drawn of this machine.  Raises CommandError."""
        for evidence, drawn in self._drawn:
            if evidence is diagnosis.evidence:
                for wish, picture in zip(self._wanted, drawn):
                    _save(wish, picture)

    def paint(self, diagnosis: Diagnosis) -> None:
        """Both at once.  Raises CommandError."""
        self.look(diagnosis)
        self.write(diagnosis)


def _save(wish: Wanted, picture: str | NoPicture) -> None:
    if isinstance(picture, NoPicture):
        raise CommandError(f"--picture {wish.kind}: {picture}", ExitCode.USAGE)
    try:
        wish.path.write_text(picture, encoding="utf-8")
    except OSError as error:
        raise CommandError(f"{wish.path}: {error.strerror}", ExitCode.USAGE) from error
