# SPDX-License-Identifier: BSD-2-Clause
"""What the `lamp` commands and the stop handler share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Callable, Optional

from debug.evidence import Evidence
from debug.gdb.debugger import Debugger
from debug.gdb.places import Places
from debug.gdb.snapshot import Snapshot


@dataclass
class Lamp:
    """One session.  `places` changes when the trampoline turns out to be elsewhere."""

    debugger: Debugger
    snapshot: Snapshot
    places: Places
    gather: Callable[[], Evidence]  # everything that is known about the stopped machine
    colour: bool = False  # the user's terminal shows colours
    died: bool = False  # the machine has ended and is kept as it was
    culprit: Optional[int] = None  # the CPU that died
    interrupted: bool = False  # the user stopped it by hand: perhaps it hangs
