# SPDX-License-Identifier: BSD-2-Clause
"""Writing the site: the documents' pages, and those of the files that they link to."""

from __future__ import annotations

import shutil
import subprocess
from html import escape
from pathlib import Path
from typing import Sequence

from docs.website import failures, highlight, layout
from docs.website.links import Links, relative, tree_page
from docs.website.markdown import render
from docs.website.pages import FAILURES, Page, pages

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
ASSETS = ("style.css", "icon.svg", failures.SCRIPT)
_MAX_FILE = 1 << 20  # bytes of a source file that is shown


def build(target: Path, root: Path = ROOT) -> int:
    """Write the whole site into `target`, which is emptied first; how many pages it has."""
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    for asset in ASSETS:
        shutil.copyfile(HERE / asset, target / asset)
    known = pages(root)
    links = Links(
        root,
        {page.source: page.target for page in known if page.group != "failures"},
        frozenset(Path(page.target).stem for page in known if page.group == "failures"),
    )
    for page in known:
        _put(target, page.target, _document(page, known, links))
    shown = _tree(target, known, links)
    for source, place in sorted(links.pictures):
        (target / place).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(root / source, target / place)
    return len(known) + shown


def _put(target: Path, place: str, text: str) -> None:
    path = target / place
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def _document(page: Page, known: Sequence[Page], links: Links) -> str:
    if page.target == FAILURES:
        body, headings = failures.body()
        return layout.page(page.target, page.title, body, known, headings, script=failures.SCRIPT)
    body, headings = render(
        page.markdown, lambda address: links.resolve(page.source, page.target, address)
    )
    if page.group == "failures":
        table = relative(page.target, FAILURES)
        body = f'<p class="up"><a href="{table}">The failure table</a></p>\n{body}'
    around = layout.around(page.target, known)
    return layout.page(page.target, page.title, body, known, headings, around)


def _tree(target: Path, known: Sequence[Page], links: Links) -> int:
    """Pages for the files and directories that were linked; those of a directory follow it."""
    tracked = _tracked(links.root)
    done: set[str] = set()
    while todo := sorted(links.files - done):
        for name in todo:
            done.add(name)
            path = links.root / name
            if path.is_dir():
                body = _directory(name, tracked, links)
                place = tree_page(name, True)
            else:
                body = _file(name, path)
                place = tree_page(name)
            _put(target, place, layout.page(place, name, body, known))
    return len(done)


def _tracked(root: Path) -> list[str]:
    done = subprocess.run(
        ["git", "-C", str(root), "ls-files", "-z"], capture_output=True, check=False
    )
    if done.returncode:  # a release without its history
        return [str(path.relative_to(root)) for path in sorted(root.rglob("*")) if path.is_file()]
    return done.stdout.decode("utf-8").rstrip("\0").split("\0")


def _directory(name: str, tracked: Sequence[str], links: Links) -> str:
    place = tree_page(name, True)
    items = []
    for file in tracked:
        if Path(file).parent == Path(name):
            links.files.add(file)
            address = escape(relative(place, tree_page(file)), quote=True)
            items.append(f'<li><a href="{address}">{escape(Path(file).name)}</a></li>')
    return f"<h1><code>{escape(name)}</code></h1>\n<ul>{''.join(items)}</ul>"


def _file(name: str, path: Path) -> str:
    data = path.read_bytes()[:_MAX_FILE]
    try:
        shown = highlight.source(name, data.decode("utf-8"))
    except UnicodeDecodeError:
        return f"<h1><code>{escape(name)}</code></h1>\n<p>{len(data)} bytes that are no text.</p>"
    return (
        f"<h1><code>{escape(name)}</code></h1>\n"
        f'<figure class="block source"><pre tabindex="0" role="group"'
        f' aria-label="{escape(name, quote=True)}"><code>{shown}</code></pre></figure>'
    )
