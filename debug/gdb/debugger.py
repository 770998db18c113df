# SPDX-License-Identifier: BSD-2-Clause
"""What the `lamp` commands need of a debugger: the narrow seam that debug/gdb/seam.py fills."""

from __future__ import annotations

from typing import Callable, Optional, Protocol


class DebuggerError(Exception):
    """The debugger could not do what was asked; the message says why and what to do."""


class Breakpoint(Protocol):
    """A breakpoint of the user or of ours."""

    @property
    def addresses(self) -> tuple[int, ...]:
        """The linear addresses where it stops."""

    @property
    def enabled(self) -> bool:
        ...

    def enable(self, on: bool) -> None:
        ...

    def delete(self) -> None:
        ...


class Debugger(Protocol):
    """One debugger connected to one machine.  CPUs are named by their index."""

    def cpus(self) -> tuple[int, ...]:
        """All CPUs; empty when not connected."""

    def selected(self) -> Optional[int]:
        """The CPU that the user looks at, None when not connected."""

    def select(self, cpu: int) -> None:
        """Let the user look at another CPU."""

    def monitor(self, line: str) -> str:
        """The answer of QEMU's monitor.  Raises DebuggerError."""

    def read_physical(self, address: int, length: int) -> Optional[bytes]:
        """Physical memory, None where it can't be read."""

    def evaluate(self, expression: str) -> int:
        """An expression in the debugger's language, modulo 2^64.  Raises DebuggerError."""

    def hardware_break(
        self, address: int, condition: Optional[Callable[[], bool]] = None
    ) -> Breakpoint:
        """Stop at a linear address, or only where `condition` says True (then the user does not
        see the breakpoint).  Raises DebuggerError."""

    def breakpoints(self) -> tuple[Breakpoint, ...]:
        """Every breakpoint on an address, the user's and ours."""

    def step_alone(self, cpu: int) -> None:
        """Execute one instruction on this CPU while all others stand still."""

    def replace_symbols(self, path: str, old: Optional[int], new: int) -> None:
        """Load a file's symbols at the offset `new`, in place of those at `old`."""

    def write(self, text: str) -> None:
        """Show text to the user."""
