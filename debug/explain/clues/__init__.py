# SPDX-License-Identifier: BSD-2-Clause
"""What a log alone proves: registers, CR2, error codes and the emulator's words, without memory.

Where memory can be read the rules are re-derived from it instead, and nothing here is asked but
which pointer was wrong when firmware took the exception: its memory holds no kernel to ask.
"""

from __future__ import annotations

from typing import Optional

from debug.evidence import Cpu
from debug.explain import uefi_report
from debug.explain.clues import instruction, pointers, session, stack, tables, words
from debug.explain.clues.moment import moment
from debug.explain.code import instruction_at
from debug.explain.context import Machine
from debug.explain.model import Finding


def findings(machine: Machine, culprit: Optional[Cpu]) -> tuple[Finding, ...]:
    """The facts about the end of the CPU that died, or of the one whose registers are known."""
    firmware = uefi_report.printed(machine.evidence.console) is not None
    if machine.has_memory and not firmware:
        return ()
    found = moment(machine, culprit)
    if machine.has_memory:
        return tuple(pointers.wild(found)) if found is not None else ()
    shown = () if machine.evidence.events else tuple(session.findings(machine))
    if found is None:
        return shown
    said = words.spoken(found, machine.evidence.messages)
    return (
        *said,
        *shown,
        *tables.findings(found),
        *instruction.findings(found, instruction_at(machine, found.registers)),
        *stack.findings(found),
        *pointers.findings(found),
    )
