# SPDX-License-Identifier: BSD-2-Clause
"""What a stage is, and the table of them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Iterable, Mapping, Optional

# The number of each mode in the ELF's list of sites, and what the mode means.
MODES: Mapping[str, int] = {"real16": 1, "prot16": 2, "prot32": 3, "compat32": 4, "long64": 5}
MODE_MEANING: Mapping[str, str] = {
    "real16": "CR0.PE=0",
    "prot16": "CR0.PE=1, CS still the real-mode one",
    "prot32": "CR0.PE=1, 32-bit code segment, no paging",
    "compat32": "EFER.LMA=1, CS.L=0",
    "long64": "EFER.LMA=1, CS.L=1",
}

# Where a CPU is, by the high digit of its stage.
GROUPS: Mapping[int, str] = {
    0x1: "An AP in 16-bit assembly",
    0x3: "An AP in 32-bit assembly",
    0x6: "An AP in 64-bit assembly",
    0x8: "Any CPU, later",
    0x9: "Any CPU, later",
    0xA: "An AP in C",
    0xB: "The BSP, booting",
    0xC: "The BSP, starting the other CPUs",
    0xE: "Any CPU: exceptions and panic",
}


class StageTableError(ValueError):
    """A stage table that can't be read; the message says what was wrong and what is expected."""


@dataclass(frozen=True)
class Stage:
    """One lamp: its code, its name and the two sentences that explain it."""

    code: int
    name: str
    mode: str
    became: str  # what has just become true
    needs: str  # what the next step needs


@dataclass(frozen=True)
class Site:
    """A place in the code that emits a stage.

    `address` is linear, or below 0x1000 an offset into the trampoline page wherever that is.
    """

    address: int
    code: int
    mode: str

    @property
    def in_trampoline(self) -> bool:
        return self.address < 0x1000

    def moved(self, offset: int) -> Site:
        """The same in a kernel that runs `offset` from where it is linked."""
        return self if self.in_trampoline else replace(self, address=self.address + offset)


@dataclass(frozen=True)
class StageTable:
    """All stages, in the table's order; `origin` says where they were read."""

    stages: tuple[Stage, ...]
    origin: str

    @cached_property
    def by_code(self) -> Mapping[int, Stage]:
        return {stage.code: stage for stage in self.stages}

    @cached_property
    def by_name(self) -> Mapping[str, Stage]:
        return {stage.name: stage for stage in self.stages}

    def get(self, code: int) -> Optional[Stage]:
        """The stage with this code, None if the table has none."""
        return self.by_code.get(code)

    def name(self, code: int) -> str:
        """The stage's name; `?` for a code that the table does not know."""
        stage = self.by_code.get(code)
        return stage.name if stage else "?"

    def codes(self, names: Iterable[str]) -> frozenset[int]:
        """The codes of those of `names` that the table has."""
        return frozenset(self.by_name[name].code for name in names if name in self.by_name)
