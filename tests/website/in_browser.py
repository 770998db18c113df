# SPDX-License-Identifier: BSD-2-Clause
"""The site as Chromium shows it: `make website-check`.  Not part of make test: it needs a browser."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Iterator
from urllib.parse import unquote, urlsplit

import pytest

from docs.website.site import build
from tests.website.browser import chromium, show

HERE = Path(__file__).resolve().parent
ACCESSIBLE = (HERE / "accessible.js").read_text(encoding="utf-8")
LOOKS = [(360, False), (360, True), (1280, False), (1280, True)]

# What a person types, and a row that must be among the first three.
ASKED = {
    "reboots when paging is turned on": "identity-map-missing",
    "triple fault when paging is enabled": "cr3-zero",
    "second core never starts": "no-sipi",
    "SIPI sent but nothing happens": "sipi-wrong-vector",
    "page fault on the stack": "stack-unmapped",
    "works in QEMU but dies on real hardware": "segments-not-reloaded",
    "#GP at the far jump": "far-jump-beyond-gdt",
    "no IDT": "idt-missing",
    "wrmsr EFER #GP": "no-long-mode",
    "zyzzyva quux": "",
}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("website")
    build(target)
    return target


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with chromium(tmp_path_factory.mktemp("profile")) as running:
        yield running


def hindrances(driver: Any, page: Path) -> list[str]:
    """What hinders a reader of a page, and what the browser itself complains of."""
    driver.get(page.as_uri())
    found = [str(fault) for fault in driver.execute_script(ACCESSIBLE)]
    broken = driver.execute_async_script(
        "const done = arguments[0];"
        "Promise.all([...document.images].map((i) => i.decode().catch(() => i.src)))"
        ".then((all) => done(all.filter(Boolean)));"
    )
    found += [f"the picture {source} is not shown" for source in broken]
    return found + [entry["message"] for entry in driver.get_log("browser")]


@pytest.mark.parametrize("width,dark", LOOKS)
def test_nothing_hinders_a_reader(site: Path, driver: Any, width: int, dark: bool) -> None:
    show(driver, width, dark)
    found = []
    for page in sorted(site.rglob("*.html")):
        found += [f"{page.relative_to(site)}: {fault}" for fault in hindrances(driver, page)]
    assert not found, f"{len(found)} at {width} pixels\n" + "\n".join(found[:40])


def test_every_link_and_anchor_is_there(site: Path, driver: Any) -> None:
    anchors: dict[str, set[str]] = {}
    links: dict[str, str] = {}
    for page in sorted(site.rglob("*.html")):
        driver.get(page.as_uri())
        found = driver.execute_script(
            "return [[...document.querySelectorAll('[id]')].map((e) => e.id),"
            " [...document.links].map((e) => e.href)]"
        )
        anchors[str(page)] = set(found[0])
        links.update({link: str(page.relative_to(site)) for link in found[1]})
    dead = []
    for link, shown_on in links.items():
        parts = urlsplit(link)
        if parts.scheme in ("https", "http"):
            continue
        target = unquote(parts.path)
        if not Path(target).is_file():
            dead.append(f"{shown_on}: {link}")
        elif parts.fragment and unquote(parts.fragment) not in anchors.get(target, set()):
            dead.append(f"{shown_on}: {link}")
    assert links and not dead, "\n".join(dead)


@pytest.mark.parametrize("words", ASKED)
def test_the_search_finds_a_row_by_a_persons_words(site: Path, driver: Any, words: str) -> None:
    show(driver, 360, False)
    driver.get((site / "failures" / "index.html").as_uri())
    field = driver.find_element("id", "words")
    field.clear()
    field.send_keys(words)
    first = driver.execute_script(
        "return [...document.querySelectorAll('#best code')].slice(0, 3).map(e => e.textContent)"
    )
    said = driver.find_element("id", "found").text
    if ASKED[words]:
        assert ASKED[words] in first, first
        assert "the best first" in said and not driver.find_element("id", "rows").is_displayed()
    else:
        assert first == [] and said == "No row has these words."
    field.clear()
    field.send_keys(" ")
    assert driver.find_element("id", "rows").is_displayed()


def test_a_search_can_be_linked_to(site: Path, driver: Any) -> None:
    page = (site / "failures" / "index.html").as_uri()
    driver.get("about:blank")
    driver.get(page + "#q=stack%20overflow")
    assert driver.find_element("id", "words").get_attribute("value") == "stack overflow"
    assert driver.find_elements("css selector", "#best li")


def test_the_whole_table_is_read_without_scripts(site: Path, driver: Any) -> None:
    show(driver, 360, False)
    driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        driver.get((site / "failures" / "index.html").as_uri())
        rows = driver.find_elements("css selector", "#rows li")
        pages = len(list((site / "failures").glob("*.html"))) - 1
        assert len(rows) == pages > 100
        assert rows[-1].is_displayed() and not driver.find_element("id", "search").is_displayed()
    finally:
        driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


BAD = """<!DOCTYPE html><html><head><title></title></head><body>
<h1>Wrong</h1><h3>A step too far</h3><p style="color:#bbb;background:#fff">pale</p>
<a href="x"></a><input><img src="nothing.svg" alt=""><nav></nav>
<div style="width:200px;overflow-x:auto"><p style="width:900px">wide</p></div>
<p style="width:3em"><code>-d int,cpu</code></p>
<p style="width:2000px;background:#fff">wider than the page</p></body></html>"""


def test_a_bad_page_is_seen_to_be_bad(driver: Any, tmp_path: Path) -> None:
    """Each check fails when it must."""
    page = tmp_path / "bad.html"
    page.write_text(BAD, encoding="utf-8")
    show(driver, 360, False)
    found = "\n".join(hindrances(driver, page))
    for what in (
        "a contrast of 1.9",
        "a step from 1 to 3",
        "a link without words",
        "a field without a label",
        "no alternative text",
        "a region without a name",
        "not 1 <main>",
        "no title or no language",
        "does not skip to the text",
        "scrolls, and the keyboard can't",
        "pixels wide in a window of 360",
        "an option on two lines",
        "nothing.svg is not shown",
    ):
        assert what in found, found
