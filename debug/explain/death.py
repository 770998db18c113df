# SPDX-License-Identifier: BSD-2-Clause
"""Whether a CPU shut down, and which: told by a source, or the only way on that the rules leave."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

from debug.evidence import Cpu
from debug.explain import chain, doomed
from debug.explain.context import Machine


@dataclass(frozen=True)
class Death:
    """A CPU's shutdown.  `cpu` is None where it could not be found out, or none shut down.

    notes: what is to be said of how it is known.
    """

    happened: bool
    cpu: Optional[Cpu]
    notes: tuple[str, ...] = ()

    def is_of(self, cpu: Cpu) -> bool:
        """Whether it is this one that shut down."""
        return self.cpu is not None and self.cpu.index == cpu.index

    def is_of_another(self, cpu: Cpu) -> bool:
        """Whether another one's end stopped this CPU, anywhere on its way."""
        return self.cpu is not None and self.cpu.index != cpu.index


def death_of(machine: Machine) -> Death:
    """How far this machine's end is a CPU's shutdown."""
    if chain.died(machine):
        cpu = chain.culprit(machine)
        unknown = ("which CPU shut down could not be found out",) if cpu is None else ()
        return Death(True, cpu, unknown)
    cpu = doomed.doomed(machine)
    return Death(cpu is not None, cpu, (doomed.how(machine),) if cpu is not None else ())
