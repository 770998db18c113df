# SPDX-License-Identifier: BSD-2-Clause
"""Where a document's links lead on the site.

A link to another document leads to its page, one to any other file of the tree to a page that
shows that file, so that nothing needs the network; an address elsewhere stays as it is.
"""

from __future__ import annotations

import posixpath
from dataclasses import dataclass, field
from pathlib import Path
from typing import Mapping

_TREE = "tree"
_PICTURES = (".svg", ".png")


@dataclass
class Links:
    """The map from the tree to the site; collects the files that pages of their own are for."""

    root: Path
    targets: Mapping[str, str]  # documents to pages
    rows: frozenset[str]  # ids of the failure table
    files: set[str] = field(default_factory=set)
    pictures: set[tuple[str, str]] = field(default_factory=set)

    def resolve(self, source: str, target: str, address: str) -> str:
        """The href on the page `target` for `address` as the document `source` writes it."""
        if "://" in address or address.startswith(("mailto:", "#")):
            return self._own(source, target, address)
        path, _, anchor = address.partition("#")
        base = "" if path.startswith("/") else posixpath.dirname(source)
        wanted = posixpath.normpath(posixpath.join(base, path.lstrip("/")))
        if wanted == "docs/failure-table.md" and anchor in self.rows:
            return relative(target, f"failures/{anchor}.html")
        found = self._page(wanted, target)
        return found + (f"#{anchor}" if anchor else "")

    def _own(self, source: str, target: str, address: str) -> str:
        """A link within the page, or away from the site."""
        if source == "docs/failure-table.md" and address[1:] in self.rows:
            return relative(target, f"failures/{address[1:]}.html")
        return address

    def _page(self, wanted: str, target: str) -> str:
        for name in (wanted, posixpath.join(wanted, "README.md")):
            if name in self.targets:
                return relative(target, self.targets[name])
        if not (self.root / wanted).exists():
            return relative(target, f"missing/{wanted}")  # the check names it
        if wanted.endswith(_PICTURES):
            place = posixpath.join(posixpath.dirname(target), posixpath.basename(wanted))
            self.pictures.add((wanted, place))
            return relative(target, place)
        self.files.add(wanted)
        return relative(target, tree_page(wanted, (self.root / wanted).is_dir()))


def tree_page(name: str, directory: bool = False) -> str:
    """The page that shows a file or a directory of the tree."""
    return f"{_TREE}/{name}/index.html" if directory else f"{_TREE}/{name}.html"


def relative(page: str, other: str) -> str:
    """The address of `other` as `page` must write it."""
    return posixpath.relpath(other, posixpath.dirname(page) or ".")
