# SPDX-License-Identifier: BSD-2-Clause
"""Evidence from Bochs's text alone: a log, a part of one, or a session with its debugger.  Pure."""

from __future__ import annotations

from dataclasses import replace
from typing import Optional

from debug.evidence import Cpu, EventKind, Evidence, ExceptionEvent, Fragment, Registers
from debug.sources import bochs_debugger, bochs_evidence, bochs_pasted, bochs_tables
from debug.sources.bochs_log import BochsLog, LogReader
from debug.sources.excerpt import Excerpt
from debug.sources.kinds import Kind
from debug.sources.pasted import clean
from debug.sources.witness import Ceiling, Witness

SMALL = 8 << 20  # bytes of a log that is cleaned as a whole: longer ones nobody pastes
MARKERS = (b"exception with no resolution", b"Booting from", b"_c::Reset(", b"Start Up IPI")

NO_DEATH = "the log shows no shutdown: whether the exception was handled is not known"
PARTIAL = "the log is a part of one: what came before and after is not known"


class TextReader:
    """Feed it a log as it comes.  A short one is cleaned of what a paste does to it; of a long one
    the head, the tail and what surrounds MARKERS are read, as Bochs wrote them."""

    def __init__(self) -> None:
        self._excerpt = Excerpt(SMALL // 2, SMALL // 2, MARKERS)

    def feed(self, chunk: bytes) -> None:
        self._excerpt.feed(chunk)

    def witness(self, name: str) -> Optional[Witness]:
        """What it says; None if no line of it is Bochs's."""
        pieces = self._excerpt.pieces()
        if self._excerpt.length <= SMALL:
            data = clean(b"".join(piece.data for piece in pieces))
            return text_witness(name, Kind.BOCHS_LOG, data.decode("utf-8", "replace"))
        reader = LogReader()
        for piece in pieces:
            data = piece.data[piece.data.find(b"\n") + 1 :] if piece.start else piece.data
            reader.feed(data[: data.rfind(b"\n") + 1])
        unread = self._excerpt.length - sum(len(piece.data) for piece in pieces)
        found = _witness(name, Kind.BOCHS_LOG, reader.result(), "")
        if found is not None and unread:
            note = f"{unread} bytes in the middle of the log were skipped"
            found = replace(found, notes=(*found.notes, note))
        return found


def text_witness(name: str, kind: Kind, text: str) -> Optional[Witness]:
    """A cleaned text; None if nothing in it is Bochs's."""
    contradiction = bochs_pasted.contradiction(text)
    text = bochs_pasted.canonical(text)
    reader = LogReader()
    reader.feed(text.encode("latin-1", "replace"))
    reader.feed(b"\n")
    found = _witness(name, kind, reader.result(), text)
    if found is not None and contradiction:
        why = f"{contradiction}: a digit was lost or changed"
        found = replace(found, ceiling=Ceiling.POSSIBLE, why=why)
    return found


def _witness(name: str, kind: Kind, log: BochsLog, text: str) -> Optional[Witness]:
    session = bochs_debugger.parse_session(text) if text else ()
    shown = bochs_tables.parse(text)
    if not (log.lines or session or shown.linear or shown.physical or shown.pages):
        return None
    evidence = bochs_evidence.build(log)
    cpus = _with_session(evidence.cpus, session)
    said = bochs_pasted.instructions(text)
    events = _completed(evidence.events, log)
    evidence = _with_memory(replace(evidence, cpus=cpus, events=events), shown)
    evidence = replace(evidence, seen=(*evidence.seen, *(Fragment(i.linear, i.data) for i in said)))
    notes = []
    if said:
        at_death = [cpu.registers.rip for cpu in cpus if cpu.shutdown]
        there = [one for one in said if one.rip in at_death]
        notes.append(f"Bochs disassembled: {(there or said)[-1]}")
    deaths = sum(1 for e in evidence.events if e.kind is EventKind.TRIPLE_FAULT)
    if deaths > 1:
        notes.append(f"{deaths} triple faults are in the file: the last one is explained")
    ceiling, why = _ceiling(kind, log, evidence)
    return Witness(kind, evidence, name, ceiling, why, tuple(notes))


def _completed(events: tuple[ExceptionEvent, ...], log: BochsLog) -> tuple[ExceptionEvent, ...]:
    """An exception that was dumped at its own tick has the registers of that dump."""
    dumps = {(dump.cpu, dump.tick): dump.registers for dump in log.dumps if not dump.after_reset}
    result = []
    for event in events:
        if not event.registers.segments and event.cpu is not None and event.tick is not None:
            registers = dumps.get((event.cpu, event.tick), event.registers)
            event = replace(event, registers=registers)
        if event.error_code == bochs_pasted.UNKNOWN_CODE:
            event = replace(event, error_code=None)
        result.append(event)
    return tuple(result)


def _with_session(cpus: tuple[Cpu, ...], session: tuple[Cpu, ...]) -> tuple[Cpu, ...]:
    """The CPUs of the log, those of the debugger session, and both where both know one."""
    result = {cpu.index: cpu for cpu in session}
    for cpu in cpus:
        extra = result.get(cpu.index)
        if extra is not None:
            mine, more = cpu.registers, extra.registers
            cpu = replace(
                cpu,
                registers=replace(
                    mine,
                    gdtr=mine.gdtr or more.gdtr,
                    idtr=mine.idtr or more.idtr,
                    segments={**mine.segments, **more.segments},
                    control={**more.control, **mine.control},
                ),
            )
        result[cpu.index] = cpu
    return tuple(result[index] for index in sorted(result))


def _with_memory(evidence: Evidence, shown: bochs_tables.Shown) -> Evidence:
    """The tables and the memory that a session shows."""
    physical = list(shown.physical)
    directories = {cpu.registers.get("cr3") for cpu in evidence.cpus} - {None}
    messages = list(evidence.messages)
    for page in shown.pages:
        if len(directories) == 1:
            for cr3 in directories:
                physical += bochs_tables.placed(page, cr3 or 0)
        messages += [f"page {page.address:#x}: {name} {entry:#x}" for name, entry in page.entries]
    if not physical and not shown.linear:
        return replace(evidence, messages=tuple(messages))
    memory = bochs_tables.ShownMemory(tuple(physical))
    return replace(evidence, memory=memory, seen=tuple(shown.linear), messages=tuple(messages))


def _ceiling(kind: Kind, log: BochsLog, evidence: Evidence) -> tuple[Ceiling, str]:
    if kind is Kind.BOCHS_DEBUGGER:
        return Ceiling.POSSIBLE, "a debugger session shows a state, not what led to it"
    if log.death is None:
        refused = any(event.reason and event.vector != 14 for event in evidence.events)
        return (Ceiling.LIKELY if refused else Ceiling.POSSIBLE), NO_DEATH
    dumped = any(
        cpu.index == log.death.cpu and cpu.registers != Registers() for cpu in evidence.cpus
    )
    if not dumped:
        return Ceiling.LIKELY, PARTIAL
    return Ceiling.CERTAIN, ""
