# SPDX-License-Identifier: BSD-2-Clause
"""The site's files: what can be told without a browser, and that the telling can fail."""

from __future__ import annotations

from pathlib import Path

import pytest

from debug.failures.table import ROWS
from docs.website.check import faults, read
from docs.website.links import Links, relative
from docs.website.markdown import block, render, slug
from docs.website.site import ROOT, build


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("site") / "website"
    build(target)
    return target


def test_every_link_anchor_heading_and_picture_is_in_order(site: Path) -> None:
    assert faults(site) == []


def test_the_same_tree_gives_the_same_site(site: Path, tmp_path: Path) -> None:
    build(tmp_path / "again")
    first = {p.relative_to(site): p.read_bytes() for p in site.rglob("*") if p.is_file()}
    again = tmp_path / "again"
    assert first == {p.relative_to(again): p.read_bytes() for p in again.rglob("*") if p.is_file()}


def test_nothing_comes_from_elsewhere(site: Path) -> None:
    for path in site.rglob("*.html"):
        seen = read(path)
        assert not [s for s, _ in seen.pictures if "//" in s]
        assert seen.tags.get("script", 0) <= (2 if path.parent.name == "failures" else 0)
    style = (site / "style.css").read_text(encoding="utf-8")
    assert "url(" not in style and "@import" not in style


def test_each_row_has_a_page_and_stands_in_the_table(site: Path) -> None:
    table = (site / "failures" / "index.html").read_text(encoding="utf-8")
    for row in ROWS:
        page = (site / "failures" / f"{row.id}.html").read_text(encoding="utf-8")
        assert f'<li id="{row.id}"' in table and "Proved by" in page


def test_each_chapter_has_a_page_with_the_way_on(site: Path) -> None:
    chapters = sorted(ROOT.glob("docs/tutorial/[0-9][0-9]-*/README.md"))
    assert chapters
    for number, chapter in enumerate(chapters):
        page = site / "tutorial" / chapter.parent.name / "index.html"
        text = page.read_text(encoding="utf-8")
        assert ('class="next"' in text) == (number + 1 < len(chapters))
        assert ('class="before"' in text) == (number > 0)


BROKEN = {
    '<a href="gone.html">x</a>': "the link gone.html leads nowhere",
    '<a href="#gone">x</a>': "the link #gone names an anchor that is not there",
    '<a href="/etc/passwd">x</a>': "leads neither to the site nor to a web address",
    '<a href="../../out.html">x</a>': "leads nowhere",
    '<img src="gone.svg" alt="words">': "the picture gone.svg is not there",
    '<img src="index.html">': "has no alternative text",
    "<h3>deep</h3>": "a heading of level 3 follows one of level 1",
    '<p id="a"></p><p id="a"></p>': "the anchor a is there twice",
    "<h1>again</h1>": "more than one <main> or <h1>",
}
GOOD = (
    '<html lang="en"><head><title>t</title></head><body><header></header><nav></nav>'
    "<main><h1>t</h1>{}</main><footer></footer></body></html>"
)


def test_a_page_in_order_has_no_fault(tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text(GOOD.format('<a href="https://x.y/">x</a>'))
    assert faults(tmp_path) == []


@pytest.mark.parametrize("body", BROKEN)
def test_a_broken_page_is_found(body: str, tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text(GOOD.format(body))
    assert any(BROKEN[body] in fault for fault in faults(tmp_path))


def test_links_lead_to_pages_rows_and_files() -> None:
    targets = {"README.md": "index.html", "docs/a.md": "a.html", "docs/failure-table.md": "f.html"}
    links = Links(ROOT, targets, frozenset({"cr3-zero"}))
    source, page = "docs/tutorial/00-x/README.md", "tutorial/00-x/index.html"

    def to(address: str) -> str:
        return links.resolve(source, page, address)

    assert to("../../a.md#part") == "../../a.html#part"
    assert to("../../failure-table.md#cr3-zero") == "../../failures/cr3-zero.html"
    assert to("../../failure-table.md") == "../../f.html"
    assert to("../../../src/kmain.c") == "../../tree/src/kmain.c.html"
    assert to("../../../src/smp") == "../../tree/src/smp/index.html"
    assert to("https://example.org/") == "https://example.org/"
    assert to("#here") == "#here"
    assert links.files == {"src/kmain.c", "src/smp"}
    assert "missing" in to("../../nothing.md")


def test_anchors_are_those_that_github_gives() -> None:
    taken: dict[str, int] = {}
    assert slug("What you will see first", taken) == "what-you-will-see-first"
    assert slug("`lamp walk`: levels & entries", taken) == "lamp-walk-levels--entries"
    assert [slug("Why", taken), slug("Why", taken)] == ["why", "why-1"]
    assert relative("a/b/c.html", "a/d.html") == "../d.html"


def test_blocks_say_what_they_are() -> None:
    def same(address: str) -> str:
        return address

    session = block("console", "$ make run \\\n    CPUS=2\nout <b>\n", same)
    assert '<span class="prompt">$</span> <b>make run \\</b>\n<b>    CPUS=2</b>' in session
    assert "out &lt;b&gt;" in session
    excerpt = block("c file=src/kmain.c", "int x;\n", same)
    assert '<a href="/src/kmain.c">src/kmain.c</a>' in excerpt and 'class="kt">int' in excerpt
    assert "not run: it takes an hour" in block('text why="it takes an hour"', "x", same)
    html, headings = render("# A\n\n## B\n\n![seen](a.svg)\n\n| a |\n| - |\n| b |\n", same)
    assert [h.anchor for h in headings] == ["a", "b"]
    assert 'alt="seen"' in html and 'scope="col"' in html and 'role="group"' in html
