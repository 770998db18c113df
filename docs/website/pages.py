# SPDX-License-Identifier: BSD-2-Clause
"""Which pages there are: documents of the tree, each with its place on the site and its title."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from debug.failures.document import section
from debug.failures.table import ROWS

FAILURES = "failures/index.html"
_HEADING = re.compile(r"^# +(.+)$", re.M)


@dataclass(frozen=True)
class Page:
    """One page: `source` and `target` are relative to the tree and to the site."""

    source: str
    target: str
    title: str
    markdown: str
    group: str  # "", "tutorial", "reference" or "failures": where the menu lists it

    @property
    def short(self) -> str:
        """The title as the menu shows it."""
        return self.title.replace(" · ", " ", 1)


def pages(root: Path) -> tuple[Page, ...]:
    """Every page that is written from a document, in the order of the menu."""
    found = [_page(root, "README.md", "index.html", "")]
    for path in sorted(root.glob("docs/tutorial/[0-9][0-9]-*/README.md")):
        chapter = path.parent.name
        found.append(
            _page(
                root,
                str(path.relative_to(root)),
                f"tutorial/{chapter}/index.html",
                "tutorial",
            )
        )
    for path in sorted(root.glob("docs/*.md")):
        name = str(path.relative_to(root))
        target = FAILURES if path.name == "failure-table.md" else f"{path.stem}.html"
        found.append(_page(root, name, target, "reference"))
    for path in sorted(root.glob("docs/*/README.md")):
        if path.parent.name != "tutorial":
            name = str(path.relative_to(root))
            found.append(_page(root, name, f"{path.parent.name}/index.html", "reference"))
    return (*found, *_rows())


def _page(root: Path, source: str, target: str, group: str) -> Page:
    text = (root / source).read_text(encoding="utf-8")
    heading = _HEADING.search(text)
    title = heading.group(1).strip() if heading else Path(source).stem
    return Page(source, target, re.sub(r"[`*]", "", title), text, group)


def _rows() -> list[Page]:
    """A page for each row of the failure table: the table itself is too long for a phone."""
    return [
        Page(
            "docs/failure-table.md",
            f"failures/{row.id}.html",
            row.title[0].upper() + row.title[1:],
            _alone(row.title[0].upper() + row.title[1:], section(row)),
            "failures",
        )
        for row in ROWS
    ]


def _alone(title: str, text: str) -> str:
    """A row's section as a page of its own: its title as the heading, its report unfolded."""
    text = re.sub(r"^### .*\n\n.*\n", lambda _: f"# {title}\n", text)
    return text.replace("<details>", "<details open>", 1)
