# SPDX-License-Identifier: BSD-2-Clause
"""`make generate`: docs/tutorial/README.md, the list of chapters, from the chapters themselves."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from tests.tutorial.scratch import TUTORIAL

LAST_SECTION = "## What you can now diagnose"
HEAD = """<!-- Made by tests/tutorial/index.py from the chapters; do not edit. -->
# The tutorial

From the first byte on port 0xE9 to a machine whose deaths you can read. `make tutorial` executes
every line of it. Begin with the first chapter; each needs what the ones above it explain.

| chapter | what you can diagnose after it |
| --- | --- |
"""


def row(path: Path) -> str:
    """A chapter's line: its title, and the first sentence of what its last section promises."""
    lines = path.read_text(encoding="utf-8").splitlines()
    title = lines[0].removeprefix("# ")
    promise: list[str] = []
    if LAST_SECTION in lines:
        for line in lines[lines.index(LAST_SECTION) + 2 :]:
            if not line.strip():
                break
            promise.append(line.strip())
    text = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", " ".join(promise))
    first = re.split(r"(?<=\.) (?=[A-Z])", text)[0]
    return f"| [{title}]({path.parent.name}/README.md) | {first} |"


def index(chapters: list[Path]) -> str:
    """The whole page."""
    return HEAD + "".join(row(path) + "\n" for path in chapters)


def main() -> int:
    """Entry point: the exit code."""
    chapters = sorted(TUTORIAL.glob("[0-9][0-9]-*/README.md"))
    (TUTORIAL / "README.md").write_text(index(chapters), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
