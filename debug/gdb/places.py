# SPDX-License-Identifier: BSD-2-Clause
"""Where the kernel emits its stages, wherever its trampoline runs.  Pure."""

from __future__ import annotations

import difflib
from dataclasses import dataclass, replace
from typing import Iterable, Optional

from debug.stages.model import Site, Stage, StageTable

DEFAULT_BASE = 0x8000
_OPTION = "trampoline="


class NoSuchStage(ValueError):
    """No stage has this name or code; the message offers the nearest."""


def base_of(options: str) -> int:
    """The page that the kernel's command line asks for; the default where it asks for none.

    Raises ValueError for a value that is no page address below 640 KiB.
    """
    base = DEFAULT_BASE
    for word in options.split():
        if word.startswith(_OPTION):
            base = page_address(word[len(_OPTION) :])
    return base


def page_address(text: str) -> int:
    """A page address below 640 KiB, hexadecimal with 0x or decimal.  Raises ValueError."""
    try:
        value = int(text, 0)
    except ValueError:
        value = -1
    if not 0 < value < 0xA0000 or value % 0x1000:
        raise ValueError(f"{text!r}: expected a page address below 0xa0000, such as 0x9000")
    return value


@dataclass(frozen=True)
class Places:
    """The sites of all stages, with the trampoline at `base`."""

    table: StageTable
    sites: tuple[Site, ...]
    base: int = DEFAULT_BASE

    def moved(self, base: int) -> Places:
        """The same with the trampoline elsewhere."""
        return replace(self, base=base)

    def address(self, site: Site) -> int:
        """The linear address of a site."""
        return self.base + site.address if site.in_trampoline else site.address

    def at(self, address: Optional[int]) -> Optional[Stage]:
        """The stage whose site is at this linear address."""
        for site in self.sites:
            if address is not None and self.address(site) == address:
                return self.table.get(site.code)
        return None

    def stage(self, text: str) -> Stage:
        """The stage with this name, in any case, or this code in hexadecimal."""
        name = text.upper()
        stage = self.table.by_name.get(name)
        if stage is None and 0 < len(text) <= 4:
            try:
                stage = self.table.get(int(text, 16))
            except ValueError:
                stage = None
        if stage is not None:
            return stage
        raise NoSuchStage(f"no such stage: {text!r}{_offer(name, self.table.by_name)}")

    def sites_of(self, stage: Stage) -> tuple[Site, ...]:
        return tuple(site for site in self.sites if site.code == stage.code)


def _offer(name: str, names: Iterable[str]) -> str:
    known = list(names)
    near = difflib.get_close_matches(name, known, 3, 0.5)
    near = near or [one for one in known if name and name in one][:3]
    if near:
        return f"; did you mean {' or '.join(near)}?"
    return "; `lamp break --list` names them all"
