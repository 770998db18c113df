# SPDX-License-Identifier: BSD-2-Clause
"""Which CPU died, where no source logged an exception: the one that the rules leave no way on.

A CPU that shuts down stands where it faulted, with the registers of that moment; only CR2 is that
of the last page fault on the way.
"""

from __future__ import annotations

from typing import Optional

from debug.evidence import Cpu, Ending
from debug.explain import delivery, fault
from debug.explain.context import Machine
from debug.explain.findings import DeliveryFailed

_NEAR = 16  # bytes from the start of a gate or frame that an emulator may fault at

PREDICTED = (
    "no source tells how the machine ended: where this CPU stands it can neither execute its"
    " instruction nor deliver the exception, so it has shut down or is about to"
)
DERIVED = (
    "nothing was logged while the machine ran: the chain follows from the registers and memory at"
    " its end"
)


def how(machine: Machine) -> str:
    """The note that says how the death is known."""
    return DERIVED if machine.evidence.ending is Ending.RESTARTED else PREDICTED


def doomed(machine: Machine) -> Optional[Cpu]:
    """The CPU that has shut down or is about to; None if there is none, or it could be several.

    A machine that restarted may have several that were about to: CR2 tells which one did.
    """
    ending = machine.evidence.ending
    if ending not in (Ending.UNKNOWN, Ending.RESTARTED) or machine.evidence.events:
        return None
    found = [cpu for cpu in machine.cpus if _is_doomed(machine, cpu, ending)]
    if ending is Ending.UNKNOWN:
        return found[0] if found else None
    return found[0] if len(found) == 1 else None


def _is_doomed(machine: Machine, cpu: Cpu, ending: Ending) -> bool:
    if cpu.halted or cpu.waiting_for_sipi or cpu.registers.rip is None:
        return False
    first = fault.predict(machine, cpu.registers)
    if first is None:
        return False
    chain = delivery.propagate(machine, cpu.index, cpu.registers, first.vector)
    if not chain.shutdown:
        return False
    if ending is Ending.UNKNOWN:
        return True
    failed = (f.address for f in chain.findings if isinstance(f, DeliveryFailed))
    faults = [address for address in (first.cr2, *failed) if address is not None]
    cr2 = cpu.registers.get("cr2")
    return not faults or cr2 is None or 0 <= cr2 - faults[-1] < _NEAR
