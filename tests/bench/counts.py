# SPDX-License-Identifier: BSD-2-Clause
"""What one boot counted, and the ratios between boots.  Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Mapping, Optional, Sequence

BSP = 0
_FRAME = re.compile(
    rb"(?<!@)(?:@@)*@([0-9a-f]{2,8}):[0-9a-f]{2}(?:=[0-9a-f]{1,8})?\.[0-9a-f]\*[0-9a-f]{2}\n"
)


class CountError(Exception):
    """What a boot left behind is no count; the message says what was expected."""


@dataclass(frozen=True)
class BringUp:
    """Guest instructions from the call of smp_bring_up() until all CPUs are online.

    bsp: the BSP's, its polling included; aps: each AP's, in order of its CPU index, until it meets
    the barrier (what it polls there only shows how long the others took); sent: how many
    inter-processor interrupts the BSP sent.
    """

    bsp: int
    aps: tuple[int, ...]
    sent: int = 0

    @property
    def total(self) -> int:
        return self.bsp + sum(self.aps)

    @property
    def second_sipis(self) -> int:
        """How many were sent; INIT, its de-assert and one SIPI go to each AP in any case."""
        return max(0, self.sent - 3 * len(self.aps))

    @property
    def own(self) -> float:
        """What an AP executes itself, on average; 0 without APs."""
        return sum(self.aps) / len(self.aps) if self.aps else 0.0

    @property
    def per_ap(self) -> float:
        """What an AP costs the whole machine, on average; 0 without APs."""
        return self.total / len(self.aps) if self.aps else 0.0


def parse_counts(text: str, cpus: int) -> BringUp:
    """The plugin's file: a line "vcpu executed before-arrival calls" for each vCPU.

    Raises CountError unless each of `cpus` CPUs is there.
    """
    found: dict[int, tuple[int, int, int]] = {}
    for line in text.splitlines():
        words = line.split()
        if len(words) != 4 or not all(word.isdecimal() for word in words):
            raise CountError(f"expected four numbers a line from the counter, found {line!r}")
        vcpu, executed, arrived, calls = map(int, words)
        found[vcpu] = (executed, arrived, calls)
    missing = sorted(set(range(cpus)) - set(found))
    if missing:
        listed = ", ".join(map(str, missing[:8])) + (" …" if len(missing) > 8 else "")
        raise CountError(f"expected counts of {cpus} CPUs, found none of CPU {listed}")
    aps = tuple(found[vcpu][1] for vcpu in sorted(found) if vcpu != BSP)
    return BringUp(found[BSP][0], aps, found[BSP][2])


def frame_bytes(stream: bytes) -> Mapping[int, int]:
    """Bytes of stage frames in a raw console stream, by APIC ID."""
    found: dict[int, int] = {}
    for match in _FRAME.finditer(stream):
        apic_id = int(match.group(1), 16)
        start = match.start(1) - 1
        found[apic_id] = found.get(apic_id, 0) + match.end() - start
    return found


def clock_cycles(console: str) -> Optional[int]:
    """What the kernel says that its bring-up took, in TSC cycles; None if it says nothing."""
    match = re.search(r"bring-up took (\d+) TSC cycles", console)
    return int(match.group(1)) if match else None


def growth(boots: Sequence[BringUp]) -> tuple[float, ...]:
    """How an AP's cost for the whole machine grows: 1 means that it stays as in the first boot."""
    first = boots[0].per_ap if boots else 0.0
    return tuple(boot.per_ap / first if first else 0.0 for boot in boots)


def median(values: Sequence[float]) -> float:
    """The middle one; of an even number the upper middle one.  Raises CountError for none."""
    if not values:
        raise CountError("expected at least one measurement, found none")
    return sorted(values)[len(values) // 2]
