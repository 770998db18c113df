# SPDX-License-Identifier: BSD-2-Clause
"""How a Bochs machine is to be watched."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Callable, Optional

from debug.evidence import NoSymbols, Symbols
from debug.sources.bochs_idle import QUIET
from debug.sources.watch import Watch

if TYPE_CHECKING:
    from debug.sources.bochs_live import BochsMachine


@dataclass(frozen=True)
class Options(Watch):
    """How to watch a Bochs.

    quiet: seconds without output before the machine is stopped to sample it.  Bochs 2.7 passes over a
        breakpoint that a CPU reaches right after such a stop.
    on_start: called before the first instruction, to set breakpoints.
    on_stop: called when the debugger takes over though nothing ended, with its words; it returns the
        command that goes on ("c"), or None to end the observation.
    break_when: polled; the machine is stopped, and on_stop called, when it says True.
    """

    symbols: Symbols = field(default_factory=NoSymbols)
    quiet: float = QUIET
    on_start: Optional[Callable[[BochsMachine], None]] = None
    on_stop: Optional[Callable[[BochsMachine, str], Optional[str]]] = None
    break_when: Optional[Callable[[], bool]] = None
