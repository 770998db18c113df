# SPDX-License-Identifier: BSD-2-Clause
"""Executing one chapter: every block in its order, in the chapter's own copy of the tree."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Optional, Sequence

from tests.tutorial import host, scratch, transcript
from tests.tutorial.blocks import Block, BlockError, Kind, read, replaced
from tests.tutorial.session import Session, SessionError, Step, steps

LABS = scratch.ROOT / "tests" / "labs"


@dataclass
class Outcome:
    """What was found stale (FILE:LINE: why), the bodies that would be right, the programs used."""

    stale: list[str] = field(default_factory=list)
    fresh: dict[int, list[str]] = field(default_factory=dict)
    programs: list[str] = field(default_factory=list)

    def report(self, reasons: Sequence[str]) -> str:
        """What to tell: with a reason that explains all of it, that and the first line."""
        if not reasons or not self.stale:
            return "\n".join(self.stale)
        more = f"\n(and {len(self.stale) - 1} more)" if len(self.stale) > 1 else ""
        return "\n".join(reasons) + f"\n{self.stale[0]}{more}"


def chapters() -> list[Path]:
    """The chapters in their order."""
    return sorted(scratch.TUTORIAL.glob("[0-9][0-9]-*/README.md"))


def execute(path: Path, directory: Path) -> Outcome:
    """Run a chapter in a scratch copy below `directory`.  Never raises for what a chapter says."""
    outcome = Outcome()
    try:
        blocks = read(path)
    except BlockError as error:
        outcome.stale.append(str(error))
        return outcome
    sessions = [block for block in blocks if block.kind is Kind.SESSION]
    if (missing := host.missing({block.language for block in sessions})) is not None:
        outcome.stale.append(f"{path}: {missing}")
        return outcome
    outcome.programs = host.named(line for block in sessions for line in block.lines)
    tree: Optional[Path] = None
    for block in blocks:
        if block.kind in (Kind.SESSION, Kind.APPLY) and tree is None:
            tree = scratch.make(directory)
        if block.kind is Kind.SESSION:
            assert tree is not None
            _session(block, tree, outcome)
        elif block.kind is Kind.APPLY:
            assert tree is not None
            try:
                scratch.apply(tree, "\n".join(block.lines) + "\n")
            except scratch.ScratchError as error:
                outcome.stale.append(f"{block.at(-1)}: the diff does not apply: {error}")
        elif block.kind is Kind.EXCERPT:
            _excerpt(block, outcome)
        elif block.kind is Kind.LAB:
            _lab(block, outcome)
    return outcome


def rewrite(path: Path, outcome: Outcome) -> bool:
    """Put the fresh bodies into the chapter; whether that changed it."""
    before = path.read_text(encoding="utf-8")
    after = replaced(before, outcome.fresh)
    if after != before:
        path.write_text(after, encoding="utf-8")
    return after != before


def _session(block: Block, tree: Path, outcome: Outcome) -> None:
    try:
        todo = steps(block.lines)
        with Session(tree) as session:
            fresh, stale = _play(block, todo, session)
            wanted = int(block.options.get("status", "0"))
            if session.at == "$ " and (code := session.status()) != wanted:
                stale.append(f"{block.at(todo[-1].index)}: exit code {code}, expected {wanted}")
    except SessionError as error:
        outcome.stale.append(f"{block.at(-1)}: {error}")
        return
    outcome.stale += stale
    if fresh != list(block.lines):
        outcome.fresh[block.line] = fresh


def _play(block: Block, todo: list[Step], session: Session) -> tuple[list[str], list[str]]:
    fresh: list[str] = []
    stale: list[str] = []
    before = transcript.Reading(0)
    for number, step in enumerate(todo):
        following = todo[number + 1].prompt if number + 1 < len(todo) else "$ "
        try:
            came = session.run(step, following)
        except SessionError as error:
            raise SessionError(f"(line {block.line + 1 + step.index}) {error}") from error
        shown = list(step.shown)
        body = block.lines[step.index : step.index + step.extent]
        fresh += [*body, *transcript.update(shown, came, before)]
        reading = transcript.read(shown, came, before)
        if isinstance(reading, transcript.Mismatch):
            stale.append(f"{block.at(step.index + step.extent + reading.index)}: {reading}")
        else:
            before = reading
    return fresh, stale


def _excerpt(block: Block, outcome: Outcome) -> None:
    """The lines shown must follow each other in the file; `…` alone leaves lines out."""
    source = scratch.ROOT / block.options["file"]
    if not source.is_file() or scratch.ROOT not in source.resolve().parents:
        outcome.stale.append(f"{block.at(-1)}: there is no file {block.options['file']}")
        return
    lines = source.read_text(encoding="utf-8").splitlines()
    shown = [*block.lines, transcript.WILDCARD]
    starts = [i for i, line in enumerate(lines) if block.lines and line == block.lines[0]]
    if not starts:
        outcome.stale.append(
            f"{block.at(0)}: {block.options['file']} has no line {shown[0]!r} to begin at"
        )
        return
    found = [(start, transcript.compare(shown, lines[start:])) for start in starts]
    if any(wrong is None for _, wrong in found):
        return
    start, wrong = max(found, key=lambda pair: pair[1].index if pair[1] else 0)
    assert wrong is not None
    outcome.stale.append(f"{block.at(wrong.index)}: {block.options['file']} differs: {wrong}")
    if transcript.WILDCARD not in "".join(block.lines):
        outcome.fresh[block.line] = lines[start : start + len(block.lines)]


def _lab(block: Block, outcome: Outcome) -> None:
    patch = LABS / block.options["lab"] / "break.patch"
    if not patch.is_file():
        outcome.stale.append(f"{block.at(-1)}: there is no lab {block.options['lab']} with a patch")
        return
    real = patch.read_text(encoding="utf-8").splitlines()
    if (wrong := transcript.compare(block.lines, real)) is not None:
        outcome.stale.append(f"{block.at(wrong.index)}: the lab's patch differs: {wrong}")
        outcome.fresh[block.line] = real
