# SPDX-License-Identifier: BSD-2-Clause
"""One file's evidence, and several files' evidence about one machine made one.  Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum
from typing import Optional, Sequence

from debug.evidence import (
    Cpu,
    Ending,
    Evidence,
    ExceptionEvent,
    Memory,
    NoMemory,
    Registers,
    StageEvent,
)
from debug.sources.kinds import Kind
from debug.sources.qemu_attribute import attribute, complete, same_place
from debug.sources.qemu_log_events import LogEvent

NAMES = {
    Kind.QEMU_LOG: "a QEMU log",
    Kind.QEMU_REGISTERS: "QEMU's register text",
    Kind.QEMU_CORE: "a QEMU core",
    Kind.BOCHS_LOG: "a Bochs log",
    Kind.BOCHS_DEBUGGER: "a session with Bochs's debugger",
    Kind.UEFI_DUMP: "UEFI's dump of an exception",
    Kind.STAGES: "a stage trace",
}


class Ceiling(Enum):
    """How much a verdict from this source alone can be worth; the values are the report's."""

    CERTAIN = "certain"  # what it says is said twice, and agrees
    LIKELY = "likely"
    POSSIBLE = "possible"


_ORDER = tuple(Ceiling)


@dataclass(frozen=True)
class Witness:
    """What one file says.  `why` is the reason for the ceiling, one sentence, "" for CERTAIN.

    `readings`: where the file says a thing twice and differently, the evidence with each of them; `evidence` is the
    first of these.
    """

    kind: Kind
    evidence: Evidence
    name: str = ""
    ceiling: Ceiling = Ceiling.POSSIBLE
    why: str = ""
    notes: tuple[str, ...] = ()  # about the file, for the report
    readings: tuple[Evidence, ...] = ()

    @staticmethod
    def of_stages(name: str, stages: tuple[StageEvent, ...], console: str) -> "Witness":
        """A trace: who got how far, and nothing of why."""
        evidence = Evidence(
            stages=stages,
            console=console,
            limits=("a stage trace shows how far each CPU came, and no register",),
        )
        why = "stages alone never prove a cause: the guest itself wrote them"
        return Witness(Kind.STAGES, evidence, name, Ceiling.POSSIBLE, why)

    def with_stages(self, stages: tuple[StageEvent, ...], console: str) -> "Witness":
        """The same witness with frames that were written into the same file."""
        return replace(self, evidence=replace(self.evidence, stages=stages, console=console))


def merge(witnesses: Sequence[Witness]) -> Witness:
    """The witnesses as one, all of them about the same machine at the same end.

    Registers, memory, stages come from the best witness that has them: a core or register text
    for the final state, a log for exceptions, IPIs and the ending, a trace for stages.  Where a
    log and a final state show the same CPU at different places, both stay and a note says so.
    """
    if len(witnesses) == 1:
        return witnesses[0]
    ordered = sorted(witnesses, key=lambda w: _RANK.get(w.kind, 9))
    base = ordered[0].evidence
    notes: list[str] = []
    for other in ordered[1:]:
        base, said = _add(base, other)
        notes += said
    names = ", ".join(f"{NAMES.get(w.kind, 'a file')} ({w.name})" for w in witnesses)
    notes.insert(0, f"taken as witnesses of one machine: {names}")
    emulators = {w.evidence.emulator for w in witnesses if w.evidence.emulator}
    best = min(witnesses, key=lambda w: _ORDER.index(w.ceiling))
    ceiling, why = best.ceiling, best.why
    if len(emulators) > 1:
        notes.append("the files come from different emulators: they can't show the same run")
        ceiling, why = Ceiling.POSSIBLE, "the files can't be from the same run"
    elif any(note.startswith(DISAGREE) for note in notes):
        ceiling, why = Ceiling.POSSIBLE, "the files do not show the same end"
    return Witness(
        ordered[0].kind,
        replace(base, limits=tuple(dict.fromkeys(base.limits))),
        ", ".join(w.name for w in witnesses),
        ceiling,
        why,
        tuple(dict.fromkeys(n for w in witnesses for n in w.notes)) + tuple(notes),
    )


DISAGREE = "the files disagree"

_RANK = {
    Kind.QEMU_CORE: 0,
    Kind.QEMU_REGISTERS: 1,
    Kind.BOCHS_DEBUGGER: 2,
    Kind.QEMU_LOG: 3,
    Kind.BOCHS_LOG: 3,
    Kind.UEFI_DUMP: 4,
    Kind.STAGES: 5,
}


def _add(base: Evidence, witness: Witness) -> tuple[Evidence, list[str]]:
    """`base` with what `witness` knows and it does not."""
    other, notes = witness.evidence, []
    cpus, said = _merge_cpus(base.cpus, other)
    notes += said
    memory: Memory = base.memory
    if isinstance(memory, NoMemory):
        memory = other.memory
    ending = base.ending if base.ending is not Ending.UNKNOWN else other.ending
    events: Sequence[ExceptionEvent] = (*base.events, *other.events)
    if cpus and any(event.cpu is None for event in events):
        numbered = [LogEvent(place, place, event) for place, event in enumerate(events)]
        events = [entry.event for entry in attribute(numbered, [_plain(cpu) for cpu in cpus])]
    if ending is Ending.TRIPLE_FAULT:
        events = complete(events, cpus)
    limits = [limit for limit in (*base.limits, *other.limits)]
    return (
        replace(
            base,
            emulator=base.emulator or other.emulator,
            version=base.version or other.version,
            accelerator=base.accelerator or other.accelerator,
            ending=ending,
            cpus=cpus,
            events=tuple(events),
            ipis=base.ipis or other.ipis,
            resets=(*base.resets, *other.resets),
            stages=(*base.stages, *other.stages),
            memory=memory,
            console=base.console or other.console,
            messages=(*base.messages, *other.messages),
            limits=tuple(_still_true(limits, base, other, memory, events)),
        ),
        notes,
    )


def _still_true(
    limits: Sequence[str],
    base: Evidence,
    other: Evidence,
    memory: Memory,
    events: Sequence[ExceptionEvent],
) -> list[str]:
    """The limits of one file that another makes up for go."""
    gone: list[str] = []
    if base.events or other.events:
        gone += ["holds no exceptions", "nor the exceptions before it"]
    if base.cpus and other.events:
        gone += ["has no memory and no final registers"]
    if base.cpus or other.cpus:
        gone += ["and no register"]
    if not isinstance(memory, NoMemory):
        gone += ["memory can't be read"]
    if base.cpus and all(event.cpu is not None for event in events):
        gone += ["does not say which CPU"]
    return [limit for limit in limits if not any(words in limit for words in gone)]


def _merge_cpus(cpus: Sequence[Cpu], other: Evidence) -> tuple[tuple[Cpu, ...], list[str]]:
    """The final CPUs with the other witness's word on who died, and registers it alone knows."""
    if not cpus:
        return other.cpus, []
    notes: list[str] = []
    theirs = {cpu.index: cpu for cpu in other.cpus}
    dead = next((cpu for cpu in other.cpus if cpu.shutdown), None)
    last = _last_registers(other)
    if other.ending is Ending.TRIPLE_FAULT and last is not None:
        alike = [cpu.index for cpu in cpus if same_place(last, _plain(cpu).registers)]
        if len(alike) == 1:
            dead = next(cpu for cpu in cpus if cpu.index == alike[0])
        elif not alike:
            dead = None
            notes.append(
                f"{DISAGREE}: the last exception in the log was at {last.rip or 0:#x}, and no CPU"
                " stands there; they may be from different runs"
            )
    merged = []
    for cpu in cpus:
        known = theirs.pop(cpu.index, None)
        if known is not None:
            cpu = _fill_in(cpu, known)
        if dead is not None:
            cpu = replace(cpu, shutdown=cpu.index == dead.index)
        merged.append(cpu)
    return tuple(merged), notes


def _plain(cpu: Cpu) -> Cpu:
    """The CPU without EFER, of which a core only tells a part."""
    control = {name: value for name, value in cpu.registers.control.items() if name != "efer"}
    return replace(cpu, registers=replace(cpu.registers, control=control))


def _last_registers(evidence: Evidence) -> Optional[Registers]:
    for event in reversed(evidence.events):
        if event.registers.rip is not None:
            return event.registers
    return None


def _fill_in(cpu: Cpu, known: Cpu) -> Cpu:
    """What `known` has and `cpu` lacks: EFER beside a core, access bytes beside a Bochs dump."""
    mine, theirs = cpu.registers, known.registers
    if (
        mine.rip is not None
        and theirs.rip is not None
        and not same_place(theirs, _plain(cpu).registers)
    ):
        return cpu
    control = {**theirs.control, **mine.control}
    if "efer" in theirs.control:  # a core's is only derived
        control["efer"] = theirs.control["efer"]
    registers = replace(
        mine,
        rip=mine.rip if mine.rip is not None else theirs.rip,
        rflags=mine.rflags if mine.rflags is not None else theirs.rflags,
        general={**theirs.general, **mine.general},
        control=control,
        segments={**theirs.segments, **mine.segments},
        gdtr=mine.gdtr or theirs.gdtr,
        idtr=mine.idtr or theirs.idtr,
        cpl=mine.cpl if mine.cpl is not None else theirs.cpl,
        a20=mine.a20 if mine.a20 is not None else theirs.a20,
        smm=mine.smm if mine.smm is not None else theirs.smm,
    )
    return replace(
        cpu,
        registers=registers,
        apic_id=cpu.apic_id if cpu.apic_id is not None else known.apic_id,
        halted=cpu.halted if cpu.halted is not None else known.halted,
        waiting_for_sipi=(
            cpu.waiting_for_sipi if cpu.waiting_for_sipi is not None else known.waiting_for_sipi
        ),
        executed=cpu.executed if cpu.executed is not None else known.executed,
    )
