# SPDX-License-Identifier: BSD-2-Clause
"""What must hold of the site, read from its files: links, anchors, pictures, headings, landmarks."""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import Iterator, Optional
from urllib.parse import unquote, urlsplit

_ALWAYS = ("html", "title", "main", "h1", "header", "footer", "nav")
_ELSEWHERE = ("http", "https", "mailto")


@dataclass
class Seen:
    """What one page contains."""

    ids: list[str] = field(default_factory=list)
    links: list[str] = field(default_factory=list)
    pictures: list[tuple[str, Optional[str]]] = field(default_factory=list)
    levels: list[int] = field(default_factory=list)
    tags: dict[str, int] = field(default_factory=dict)
    language: Optional[str] = None


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.seen = Seen()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, Optional[str]]]) -> None:
        seen, given = self.seen, dict(attributes)
        seen.tags[tag] = seen.tags.get(tag, 0) + 1
        if given.get("id"):
            seen.ids.append(given["id"] or "")
        if tag == "html":
            seen.language = given.get("lang")
        if tag in ("a", "link") and given.get("href") is not None:
            seen.links.append(given["href"] or "")
        if tag == "script" and given.get("src"):
            seen.links.append(given["src"] or "")
        if tag == "img":
            seen.pictures.append((given.get("src") or "", given.get("alt")))
        if len(tag) == 2 and tag[0] == "h" and tag[1].isdigit():
            seen.levels.append(int(tag[1]))


def read(path: Path) -> Seen:
    """What the page at `path` contains."""
    reader = _Reader()
    reader.feed(path.read_text(encoding="utf-8"))
    reader.close()
    return reader.seen


def faults(site: Path) -> list[str]:
    """Everything that is wrong with the site, one sentence each."""
    pages = {path.resolve(): read(path) for path in sorted(site.rglob("*.html"))}
    found = []
    for path, seen in pages.items():
        name = path.relative_to(site.resolve())
        found += [f"{name}: {fault}" for fault in _page(seen)]
        for link in seen.links:
            if fault := _link(path, link, pages, site.resolve()):
                found.append(f"{name}: {fault}")
        for source, _ in seen.pictures:
            if not (path.parent / unquote(source)).is_file():
                found.append(f"{name}: the picture {source} is not there")
    return found


def _page(seen: Seen) -> Iterator[str]:
    """What is wrong within one page."""
    for tag in _ALWAYS:
        if not seen.tags.get(tag):
            yield f"it has no <{tag}>"
    if seen.tags.get("main", 0) > 1 or seen.tags.get("h1", 0) > 1:
        yield "it has more than one <main> or <h1>"
    if not seen.language:
        yield "its language is not named"
    for anchor in sorted({a for a in seen.ids if seen.ids.count(a) > 1}):
        yield f"the anchor {anchor} is there twice"
    for before, level in zip(seen.levels, seen.levels[1:]):
        if level > before + 1:
            yield f"a heading of level {level} follows one of level {before}"
    for source, text in seen.pictures:
        if not (text or "").strip():
            yield f"the picture {source} has no alternative text"


def _link(path: Path, link: str, pages: dict[Path, Seen], site: Path) -> Optional[str]:
    parts = urlsplit(link)
    if parts.scheme in _ELSEWHERE:
        return None
    if parts.scheme or parts.netloc or parts.path.startswith("/"):
        return f"the link {link} leads neither to the site nor to a web address"
    target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
    if not target.is_relative_to(site) or not target.is_file():
        return f"the link {link} leads nowhere"
    anchor = unquote(parts.fragment)
    if anchor and (target not in pages or anchor not in pages[target].ids):
        return f"the link {link} names an anchor that is not there"
    return None
