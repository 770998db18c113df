# SPDX-License-Identifier: BSD-2-Clause
"""Drawing what was wished for, and writing it; what draws is imported when it is wanted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Sequence

from debug.cli.errors import CommandError
from debug.cli.exit_codes import ExitCode
from debug.evidence import Evidence
from debug.pictures.drawing import NoPicture
from debug.pictures.wanted import Wanted

if TYPE_CHECKING:
    from debug.report.diagnosis import Diagnosis


class Easel:
    """Draws the wanted pictures while a machine can be read, and writes those of the one reported."""

    def __init__(self, pictures: Sequence[Wanted]) -> None:
        self._wanted = pictures
        self._drawn: list[tuple[Evidence, list[str | NoPicture]]] = []

    def look(self, diagnosis: Diagnosis) -> None:
        """Draw; the machine's memory must still be readable."""
        if self._wanted:
            from debug.pictures.gallery import draw
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
