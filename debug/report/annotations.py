# SPDX-License-Identifier: BSD-2-Clause
"""The verdict at its source line: for GitHub Actions, and as compilers write their errors.

Nothing for a healthy machine.
"""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Callable, Optional

from debug.evidence import Symbol
from debug.explain.model import Status
from debug.failures.row import Certainty
from debug.report.diagnosis import Diagnosis
from debug.report.safe import safe

_MAX_CAUSES = 3


def github(diagnosis: Diagnosis, root: str) -> str:
    """A workflow command, which GitHub shows at the line of a file below `root`."""
    if diagnosis.explanation.status is Status.HEALTHY:
        return ""
    place = _place(diagnosis, root)
    properties = [f"file={_property(place[0])}", f"line={place[1]}"] if place else []
    properties.append(f"title={_property(_title(diagnosis))}")
    text = "%0A".join(_data(line) for line in _lines(diagnosis))
    return f"::error {','.join(properties)}::{text}\n"


def gcc(diagnosis: Diagnosis, root: str) -> str:
    """`file:line: error: ...`, which editors jump to; without a file where none is known."""
    if diagnosis.explanation.status is Status.HEALTHY:
        return ""
    place = _place(diagnosis, root)
    where = f"{place[0]}:{place[1]}" if place else "lamppost"
    return f"{where}: error: {safe(diagnosis.explanation.headline)} [{_title(diagnosis)}]\n"


STYLES: dict[str, Callable[[Diagnosis, str], str]] = {"github": github, "gcc": gcc}


def _title(diagnosis: Diagnosis) -> str:
    first = diagnosis.causes[0] if diagnosis.causes else None
    return f"{first.row.id} ({first.certainty.value})" if first else diagnosis.status


def _lines(diagnosis: Diagnosis) -> list[str]:
    """The headline, then each cause that is shown, with its evidence and its fix."""
    lines = [diagnosis.explanation.headline]
    strong = [cause for cause in diagnosis.causes if cause.certainty is not Certainty.POSSIBLE]
    for cause in (strong or list(diagnosis.causes))[:_MAX_CAUSES]:
        lines.append(f"{cause.row.id} ({cause.certainty.value}): {cause.row.title}")
        lines += [f"- {sentence}" for sentence in cause.match.evidence]
        lines.append(f"fix: {cause.row.fix}")
    return lines


def _place(diagnosis: Diagnosis, root: str) -> Optional[tuple[str, int]]:
    """The source line of the first fault, else of where the CPU to blame stands."""
    explanation = diagnosis.explanation
    blamed = [cause.match.cpu for cause in diagnosis.causes[:1] if cause.match.cpu is not None]
    views = [explanation.view(cpu) for cpu in (explanation.culprit, *blamed)]
    found: Optional[Symbol] = None
    for rip in (*(step.rip for step in explanation.chain), *(v.rip for v in views if v)):
        found = diagnosis.evidence.symbols.lookup(rip) if rip is not None else None
        if found and found.file and found.line:
            return _below(found.file, root), found.line
    return None


def _below(file: str, root: str) -> str:
    """The path as the repository at `root` names it; as it is if it lies elsewhere."""
    path = PurePosixPath(file)
    return str(path.relative_to(root)) if path.is_relative_to(root) else file


def _data(text: str) -> str:
    """Escaped as the message of a workflow command."""
    return safe(text).replace("%", "%25")


def _property(text: str) -> str:
    """Escaped as a property of a workflow command."""
    return _data(text).replace(":", "%3A").replace(",", "%2C")
