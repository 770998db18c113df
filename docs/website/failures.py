# SPDX-License-Identifier: BSD-2-Clause
"""The failure table as a page: every row by what one sees, with a search where scripts run."""

from __future__ import annotations

import json
from html import escape

from debug.failures.row import Place, Row
from debug.failures.table import ROWS
from docs.website.markdown import Heading, slug

SCRIPT = "search.js"

_HEAD = """<h1>Why did it die?</h1>
<p>{count} root causes of CPUs that reset, hang or never arrive. Each page says what proves the
cause, what rules it out, and the fix. <code>lamppost run</code> and <code>lamppost explain</code>
find the row for you.</p>
<form id="search" role="search" hidden>
<label for="words">What do you see?</label>
<input id="words" type="search" autocomplete="off" spellcheck="false"
 placeholder="reboots when paging is turned on" aria-controls="rows">
<output id="found" for="words" aria-live="polite"></output>
</form>
<ol id="best" class="rows" hidden></ol>
<div id="rows">
"""

# What people say, and the words that the rows have for it.
SYNONYMS = {
    "reboot": "reset triple fault restart",
    "restart": "reset reboot",
    "crash": "fault dies triple",
    "freeze": "hang halt spins",
    "stuck": "hang spins waits loop",
    "nothing": "silent never output",
    "silent": "output never",
    "core": "cpu ap",
    "processor": "cpu ap",
    "secondary": "ap",
    "wake": "starts sipi",
    "boot": "starts",
    "missing": "arrive never",
    "smp": "ap",
    "longmode": "long mode",
    "interrupt": "irq idt vector",
    "irq": "interrupt",
    "stack": "rsp",
    "corrupt": "overwritten",
    "timer": "irq tick",
    "apic": "ipi",
}
# What the rows abbreviate, and how it is said in full.
IN_FULL = {
    "#pf": "page fault",
    "#gp": "general protection fault",
    "#df": "double fault",
    "#ud": "invalid opcode undefined instruction",
    "#np": "segment not present",
    "#ss": "stack segment fault",
    "#ts": "invalid tss",
    "#nm": "device not available fpu",
    "#bp": "breakpoint",
    "cr2": "page fault",
    "ap": "application processor",
    "rsp": "stack pointer",
    "ivt": "interrupt vector table",
}


def body() -> tuple[str, tuple[Heading, ...]]:
    """The page's text and its headings."""
    parts, headings = [_HEAD.format(count=len(ROWS))], []
    taken: dict[str, int] = {}
    for place in Place:
        rows = [row for row in ROWS if row.place is place]
        if rows:
            title = place.value[0].upper() + place.value[1:]
            heading = Heading(2, slug(title, taken), title)
            headings.append(heading)
            parts.append(f'<section><h2 id="{heading.anchor}">{escape(title)}</h2>')
            parts.append('<ul class="rows">')
            parts += [_row(row) for row in rows]
            parts.append("</ul></section>")
    words = json.dumps({"synonyms": SYNONYMS, "inFull": IN_FULL}, sort_keys=True)
    parts.append(f'</div>\n<script type="application/json" id="language">{words}</script>')
    return "\n".join(parts), tuple(headings)


def _row(row: Row) -> str:
    """What is searched beyond what is shown stands in data-more."""
    more = " ".join((row.proves, row.fix, row.manual, *row.catalogue, *row.labs))
    seen = "; ".join(row.symptom)
    return (
        f'<li id="{row.id}" data-more="{escape(more, quote=True)}">'
        f'<a href="{row.id}.html">{escape(row.title[0].upper() + row.title[1:])}</a>'
        f"<p>{escape(seen)}</p><code>{row.id}</code></li>"
    )
