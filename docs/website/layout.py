# SPDX-License-Identifier: BSD-2-Clause
"""The frame of every page: where one is, where one can go, and the text between them.

The menu follows the text: on a phone a link leads down to it, beside wider text it stands left.
"""

from __future__ import annotations

from html import escape
from typing import Optional, Sequence

from docs.website.links import relative
from docs.website.markdown import Heading
from docs.website.pages import FAILURES, Page

_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<meta name="description" content="{description}">
<link rel="stylesheet" href="{style}">
<link rel="icon" href="{icon}">{script}
</head>
<body>
<a class="skip" href="#content">To the text</a>
<header>
<a class="home" href="{home}"><span class="lamp" aria-hidden="true"></span>lamppost</a>
<nav aria-label="Main">
<a href="{first}">Tutorial</a>
<a href="{failures}">Why did it die?</a>
<a class="all" href="#menu">All pages</a>
</nav>
</header>
<div class="columns">
<main id="content" tabindex="-1">
{body}
{around}
</main>
<nav class="menu" id="menu" aria-label="All pages">
{menu}
</nav>
</div>
<footer>
<p>lamppost. BSD-2-Clause; the drop-in kit 0BSD. These pages are files: they need no network.</p>
</footer>
</body>
</html>
"""
_GROUPS = (("", ""), ("tutorial", "Tutorial"), ("reference", "Reference"))


def page(
    target: str,
    title: str,
    body: str,
    menu: Sequence[Page],
    headings: Sequence[Heading] = (),
    around: str = "",
    script: Optional[str] = None,
) -> str:
    """The whole document for the page at `target`."""
    name = title if title == "lamppost" else f"{title} · lamppost"
    tag = f'\n<script src="{relative(target, script)}" defer></script>' if script else ""
    first = next((p.target for p in menu if p.group == "tutorial"), "index.html")
    return _PAGE.format(
        title=escape(name),
        description=escape(f"{title}: how an x86 CPU gets from reset to C, and why it dies", True),
        style=relative(target, "style.css"),
        icon=relative(target, "icon.svg"),
        script=tag,
        home=relative(target, "index.html"),
        first=relative(target, first),
        failures=relative(target, FAILURES),
        menu=_menu(target, menu, headings),
        body=body,
        around=around,
    )


def _menu(target: str, pages: Sequence[Page], headings: Sequence[Heading]) -> str:
    parts = []
    for group, name in _GROUPS:
        listed = [page for page in pages if page.group == group]
        if not listed:
            continue
        if name:
            parts.append(f"<p>{name}</p>")
        parts.append("<ul>")
        for page_ in listed:
            here = page_.target == target
            current = ' aria-current="page"' if here else ""
            address = escape(relative(target, page_.target), quote=True)
            inside = _sections(headings) if here else ""
            title = escape(page_.short)
            parts.append(f'<li><a href="{address}"{current}>{title}</a>{inside}</li>')
        parts.append("</ul>")
    return "\n".join(parts)


def _sections(headings: Sequence[Heading]) -> str:
    """The page's own sections."""
    own = [heading for heading in headings if heading.level == 2][:24]
    if len(own) < 2:
        return ""
    items = "".join(f'<li><a href="#{h.anchor}">{escape(h.text)}</a></li>' for h in own)
    return f"<ul>{items}</ul>"


def around(target: str, pages: Sequence[Page]) -> str:
    """The way to the chapter before and the one after."""
    chapters = [page for page in pages if page.group == "tutorial"]
    at = next((n for n, page in enumerate(chapters) if page.target == target), None)
    if at is None:
        return ""
    links = []
    for word, number in (("Before", at - 1), ("Next", at + 1)):
        if 0 <= number < len(chapters):
            other = chapters[number]
            address = escape(relative(target, other.target), quote=True)
            links.append(
                f'<a class="{word.lower()}" href="{address}">'
                f"<span>{word}</span> {escape(other.short)}</a>"
            )
    return f'<nav class="around" aria-label="Chapters">{"".join(links)}</nav>' if links else ""
