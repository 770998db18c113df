# SPDX-License-Identifier: BSD-2-Clause
"""A document's Markdown as HTML: headings that can be linked to, blocks that say what they are."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from html import escape
from typing import Any, Callable, Sequence

from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token

from docs.website.highlight import highlighted

Link = Callable[[str], str]
_SESSIONS = {
    "console": "In a terminal",
    "gdb": "In GDB",
    "bochs": "In the Bochs debugger",
}
_UNBROKEN = 20  # characters: a phone's line holds them, so an option keeps its hyphen


@dataclass(frozen=True)
class Heading:
    """A heading of a page."""

    level: int
    anchor: str
    text: str


def slug(text: str, taken: dict[str, int]) -> str:
    """The anchor that GitHub gives a heading, so that a link works there and here."""
    base = re.sub(r"[^\w\- ]", "", text.strip().lower()).replace(" ", "-")
    count = taken.get(base, 0)
    taken[base] = count + 1
    return f"{base}-{count}" if count else base


class _Html(RendererHTML):
    """The parts that are not as everybody writes them; `env["link"]` turns addresses."""

    def fence(self, tokens: Sequence[Token], idx: int, options: Any, env: Any) -> str:
        return block(tokens[idx].info, tokens[idx].content, env["link"])

    def code_block(self, tokens: Sequence[Token], idx: int, options: Any, env: Any) -> str:
        return block("text", tokens[idx].content, env["link"])

    def code_inline(self, tokens: Sequence[Token], idx: int, options: Any, env: Any) -> str:
        text = tokens[idx].content
        unbroken = ' class="unbroken"' if len(text) <= _UNBROKEN else ""
        return f"<code{unbroken}>{escape(text)}</code>"

    def table_open(self, tokens: Sequence[Token], idx: int, options: Any, env: Any) -> str:
        return '<div class="table" tabindex="0" role="group" aria-label="Table"><table>\n'

    def table_close(self, tokens: Sequence[Token], idx: int, options: Any, env: Any) -> str:
        return "</table></div>\n"

    def image(self, tokens: Sequence[Token], idx: int, options: Any, env: Any) -> str:
        text = escape(tokens[idx].content, quote=True)
        source = escape(str(tokens[idx].attrGet("src")), quote=True)
        return (
            f'<span class="picture" role="group" aria-label="{text}" tabindex="0">'
            f'<img src="{source}" alt="{text}" loading="lazy"></span>'
        )


def render(text: str, link: Link) -> tuple[str, tuple[Heading, ...]]:
    """The HTML of a document and its headings; `link` turns each address into the site's."""
    parser = MarkdownIt("commonmark", {"html": True}, renderer_cls=_Html).enable("table")
    tokens = parser.parse(text)
    headings = _headings(tokens)
    _addresses(tokens, link)
    _tables(tokens)
    return str(parser.renderer.render(tokens, parser.options, {"link": link})), headings


def _headings(tokens: Sequence[Token]) -> tuple[Heading, ...]:
    found, taken = [], dict[str, int]()
    for token, inline in zip(tokens, tokens[1:]):
        if token.type == "heading_open":
            text = "".join(
                child.content
                for child in inline.children or ()
                if child.type in ("text", "code_inline")
            )
            anchor = slug(text, taken)
            token.attrSet("id", anchor)
            found.append(Heading(int(token.tag[1]), anchor, text))
    return tuple(found)


def _addresses(tokens: Sequence[Token], link: Link) -> None:
    for token in tokens:
        for child in token.children or ():
            if child.type == "link_open":
                child.attrSet("href", link(str(child.attrGet("href"))))
            elif child.type == "image":
                child.attrSet("src", link(str(child.attrGet("src"))))


def _tables(tokens: Sequence[Token]) -> None:
    """A heading cell says what it heads; one without text heads nothing and is a cell."""
    for token, inline in zip(tokens, tokens[1:]):
        if token.type == "th_open" and not inline.content.strip():
            token.tag = "td"
            close = tokens[tokens.index(inline) + 1]
            close.tag = "td"
        elif token.type == "th_open":
            token.attrSet("scope", "col")


def block(info: str, content: str, link: Link) -> str:
    """A fenced block with a caption that says what it is."""
    try:
        words = shlex.split(info)
    except ValueError:
        words = info.split()
    language = words[0] if words else "text"
    options = dict(word.partition("=")[::2] for word in words[1:])
    caption, label = _caption(language, options, link)
    code = highlighted(language, content)
    shown = f"<figcaption>{caption}</figcaption>" if caption else ""
    return (
        f'<figure class="block {escape(language, quote=True)}">{shown}'
        f'<pre tabindex="0" role="group" aria-label="{escape(label, quote=True)}">'
        f"<code>{code}</code></pre></figure>\n"
    )


def _caption(language: str, options: dict[str, str], link: Link) -> tuple[str, str]:
    """(HTML of the caption, the block's name for those who don't see it)."""
    if path := options.get("file"):
        address = escape(link(f"/{path}"), quote=True)
        return f'<a href="{address}">{escape(path)}</a>', f"Excerpt of {path}"
    if lab := options.get("lab"):
        address = escape(link(f"/tests/labs/{lab}"), quote=True)
        return f'the bug of lab <a href="{address}">{escape(lab)}</a>', f"Change of lab {lab}"
    if options.get("apply"):
        return "change it like this", "A change to make"
    if why := options.get("why"):
        return f"not run: {escape(why)}", "Text"
    return "", _SESSIONS.get(language, "Code" if language != "text" else "Text")
