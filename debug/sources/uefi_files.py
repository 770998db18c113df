# SPDX-License-Identifier: BSD-2-Clause
"""Evidence from the exception dump that UEFI firmware (EDK II) prints.  Pure."""

from __future__ import annotations

from dataclasses import replace
from typing import Optional

from debug.evidence import Cpu, Evidence
from debug.sources.kinds import Kind
from debug.sources.witness import Ceiling, Witness
from debug.x86.uefi_dump import UefiDump, dumps

_TAIL = 16384  # characters in front of the dump's end that are kept as the console

LIMITS = (
    "UEFI's dump shows no descriptor: CS is taken for the flat code segment that UEFI runs in",
    "of what UEFI printed alone memory can't be read: the instruction is not known",
)


def witness_of(name: str, text: str) -> Optional[Witness]:
    """The first dump in a text; None if there is none.  Those behind it are its consequences."""
    found = dumps(text)
    if not found:
        return None
    first, notes = found[0], []
    if len(found) > 1:
        notes.append(
            f"{len(found)} dumps of exceptions are in the file: the first one is explained"
        )
    why = "the firmware printed it, of one moment, and nothing else bears it out"
    ceiling = Ceiling.LIKELY
    if first.contradicts:
        ceiling, why = Ceiling.POSSIBLE, "the error code and its bits in words differ"
    evidence = evidence_of(first, _console(first, text))
    return Witness(Kind.UEFI_DUMP, evidence, name, ceiling, why, tuple(notes))


def with_console(witness: Witness, text: str) -> Witness:
    """A log with what the firmware printed into the same file: that tells how it ended."""
    found = dumps(text)
    if not found:
        return witness
    console = _console(found[0], text)
    readings = tuple(replace(one, console=console) for one in witness.readings)
    return replace(witness, evidence=replace(witness.evidence, console=console), readings=readings)


def _console(dump: UefiDump, text: str) -> str:
    return text[max(0, dump.end - _TAIL) : dump.end]


def evidence_of(dump: UefiDump, console: str) -> Evidence:
    """One exception of one CPU.  Firmware that prints has no number for it but its APIC ID."""
    registers, cpu = dump.registers, dump.apic_id
    told = registers.rip is not None
    return Evidence(
        cpus=(Cpu(cpu, registers, apic_id=dump.apic_id, executed=True),) if told else (),
        events=(dump.event(registers, cpu),) if told else (),
        console=console,
        limits=LIMITS,
    )
