# SPDX-License-Identifier: BSD-2-Clause
"""Evidence from QEMU's text alone: a log, or pasted registers.  Pure."""

from __future__ import annotations

import bisect
import re
from dataclasses import replace
from typing import Optional, Sequence

from debug.evidence import Cpu, Ending, EventKind, Evidence, Fragment, Registers
from debug.sources import gdb_registers
from debug.sources.excerpt import Piece
from debug.sources.kinds import Kind
from debug.sources.qemu_agreement import Agreement, Reading, judge
from debug.sources.qemu_attribute import on_cpu, same_place, spread_final_chain
from debug.sources.qemu_evidence import REAL_MODE, CpuState, build_cpus, matters
from debug.sources.qemu_log import QemuLog, parse_pieces
from debug.sources.witness import Ceiling, Witness
from debug.x86.modes import linear_pc

_CPU = re.compile(r"^\s*CPU#(\d{1,5})\s*$", re.MULTILINE)
_DUMP = re.compile(r"^\s*[ER]AX=[0-9a-f]{8}", re.MULTILINE)
_LAPIC = re.compile(r"dumping local APIC state for CPU (\d{1,5})")
_KVM = re.compile(
    r"^.*KVM internal error.*$|^.*KVM: entry failed.*$|^.*Failed to put registers.*$"
    r"|^emulation failure.*$",
    re.MULTILINE,
)
_EXTRA = re.compile(r"extra data\[(\d)\]: (?:0x)?([0-9a-f]{1,16})\b")
_NO_RAM_EXITS = (0x30, 0x31)  # EPT violation and misconfiguration: KVM's way to see a device
_FATAL = re.compile(r"qemu[-\w]*: fatal: ([^\n]{1,200})")
_TRIPLE = re.compile(r"^\s*Triple fault\b", re.MULTILINE)
_CODE = re.compile(r"\bCode=((?:[0-9a-f]{2} |<[0-9a-f]{2}> ?|\?\? ?){1,64})")
MAX_DUMPS = 4096


def log_evidence(log: QemuLog) -> Evidence:
    """The evidence in a log alone.  What follows the last triple fault is another life: of that
    only the resets right behind it count, which show every CPU's last registers."""
    entries = list(log.events)
    ends = [i for i, entry in enumerate(entries) if entry.event.kind is EventKind.TRIPLE_FAULT]
    if ends:
        entries = entries[: ends[-1] + 1]
    known = (entry.event.registers for entry in reversed(entries))
    last = next((registers for registers in known if registers.rip is not None), None)
    limits = ["a log has no memory and no final registers"]
    cpus: list[Cpu] = []
    if {reset.cpu for reset in log.resets} <= {0}:
        entries = [on_cpu(entry, 0) for entry in entries]
        limits.append("the log names no CPU; it mentions none but CPU 0")
        if ends:
            last = _without_record(entries[-1].event.registers, last, log)
        if last is not None:
            cpus.append(Cpu(0, last, executed=True, shutdown=True if ends else None))
    else:
        limits.append("the log does not say which CPU an exception was raised on")
        if ends and last is not None:
            fit = {r.cpu for r in log.resets if r.registers and same_place(last, r.registers)}
            index = fit.pop() if len(fit) == 1 else None
            if index is not None:
                cpus.append(Cpu(index, last, executed=True, shutdown=True))
                entries = spread_final_chain([*entries[:-1], on_cpu(entries[-1], index)], cpus)
    events = [entry.event for entry in entries]
    if any(event.registers.rip is None and event.kind is EventKind.EXCEPTION for event in events):
        limits.append(REAL_MODE)
    if log.unread:
        limits.append(f"{log.unread} bytes in the middle of the log were skipped")
    return Evidence(
        emulator="qemu",
        ending=Ending.TRIPLE_FAULT if ends else Ending.UNKNOWN,
        cpus=tuple(cpus),
        events=tuple(events),
        ipis=log.ipis,
        resets=tuple(reset for reset in log.resets if matters(reset)),
        seen=log.seen,
        messages=log.messages,
        cut_off=log.cut and not ends,
        limits=tuple(limits),
    )


def _without_record(
    at_end: Registers, last: Optional[Registers], log: QemuLog
) -> Optional[Registers]:
    """A death that left no record (real mode, or -d cpu_reset alone): the reset behind it shows
    the registers at the end."""
    if at_end.rip is not None:
        return last
    shown = [r.registers for r in log.resets if r.registers is not None and matters(r)]
    return shown[-1] if shown else last


def log_witness(name: str, pieces: Sequence[Piece], unread: int, deaths: int) -> Witness:
    """A log of which these cleaned pieces were kept; `deaths` counts the lines "Triple fault"."""
    log = replace(parse_pieces(pieces), unread=unread)
    evidence = log_evidence(log)
    notes = []
    deaths = max(deaths, log.triple_faults)
    if deaths > 1:
        notes.append(f"{deaths} triple faults are in the file: the last one is explained")
    if not log.records and not log.events:
        notes.append("the log holds no exception: was it made with -d int,cpu_reset?")
    agreement = judge(pieces)
    readings = tuple(_read_as(evidence, reading, agreement) for reading in agreement.readings)
    return Witness(
        Kind.QEMU_LOG,
        readings[0] if readings else evidence,
        name,
        agreement.ceiling,
        agreement.why,
        tuple(notes),
        readings,
    )


def _read_as(evidence: Evidence, reading: Reading, agreement: Agreement) -> Evidence:
    """The evidence with the values of one reading in the last records, and in the CPU at the end."""
    events = list(evidence.events)
    last: Optional[Registers] = None
    dumps: list[Registers] = []  # what has no record of its own has the registers of the next one
    for place in range(len(events) - 1, -1, -1):
        registers = events[place].registers
        if registers.rip is None:
            continue
        if registers not in dumps:
            dumps.append(registers)
        if len(dumps) > agreement.records:
            break
        last = last or registers
        events[place] = replace(events[place], registers=reading.of(registers))
    cpus = tuple(
        replace(cpu, registers=reading.of(cpu.registers)) if cpu.registers == last else cpu
        for cpu in evidence.cpus
    )
    return replace(evidence, events=tuple(events), cpus=cpus)


def registers_evidence(text: str) -> Evidence:
    """The evidence in pasted `info registers [-a]` text, of `info lapic` and of an abort; no CPUs
    if it holds none.  Where a CPU is shown more than once the last time counts, and whether it
    moved since the time before is known."""
    dumps: dict[int, list[str]] = {}
    for index, part in _dumps(text):
        dumps.setdefault(index, []).append(part)
    lapics = _lapics(text)
    states = [
        CpuState(index, index, parts[-1], lapics.get(index, ""), earlier=(["", *parts])[-2])
        for index, parts in sorted(dumps.items())
    ]
    cpus = build_cpus(states, running=True)
    fatal, kvm = _FATAL.search(text), [line.strip()[:200] for line in _KVM.findall(text)]
    messages = list(dict.fromkeys(kvm[:8]))
    ending, accelerator = Ending.UNKNOWN, ""
    if kvm:
        ending, accelerator = Ending.EMULATOR_DIED, "kvm"
    elif fatal is not None:
        ending = Ending.EMULATOR_DIED
        messages.append(f"qemu: fatal: {fatal[1].strip()}")
    elif _TRIPLE.search(text):
        ending = Ending.TRIPLE_FAULT
        if len(cpus) == 1:
            cpus = (replace(cpus[0], shutdown=True),)
    seen: tuple[Fragment, ...] = ()
    if code := _CODE.search(text):
        messages.append(f"the bytes at RIP, in <>: {code[1].strip()}")
        seen = _shown(cpus, code[1])
    messages += _while_delivering(text) if kvm else ()
    limits: tuple[str, ...] = ("register text has neither memory nor the exceptions before it",)
    if gdb_registers.HEAD.search(text):
        limits += (gdb_registers.LIMIT,)
    return Evidence(
        emulator="qemu",
        accelerator=accelerator,
        ending=ending,
        cpus=cpus,
        seen=seen,
        messages=tuple(messages),
        limits=limits,
    )


def _shown(cpus: tuple[Cpu, ...], code: str) -> tuple[Fragment, ...]:
    """The bytes around RIP that QEMU prints behind `Code=`, of the one CPU that was dumped."""
    before, mark, after = code.partition("<")
    at = linear_pc(cpus[0].registers) if len(cpus) == 1 else None
    if not mark or at is None or "?" in code or "<" in after:
        return ()
    prefix = bytes.fromhex(before.replace(" ", ""))
    data = prefix + bytes.fromhex(after.replace(">", "").replace(" ", ""))
    return (Fragment(at - len(prefix), data),) if at >= len(prefix) else ()


def _while_delivering(text: str) -> tuple[str, ...]:
    """What KVM's suberror 3 says: an exit in the middle of a delivery, and at which address."""
    extra = {int(found[1]): int(found[2], 16) for found in _EXTRA.finditer(text)}
    if "Suberror: 3" not in text or extra.get(1) not in _NO_RAM_EXITS or 3 not in extra:
        return ()
    return (
        f"KVM: physical address {extra[3]:#x}, where no RAM is, was accessed while vector"
        f" {extra.get(0, 0) & 0xFF:#x} was being delivered",
    )


def _dumps(text: str) -> list[tuple[int, str]]:
    """(CPU, its dump) for each dump, in order: `CPU#n` begins one, and so does the first register
    of the next where that line is missing."""
    found: list[tuple[int, str]] = []
    named = [(mark.start(), int(mark[1])) for mark in _CPU.finditer(text)][-MAX_DUMPS:]
    starts = list(named)
    for mark in [*_DUMP.finditer(text)][-MAX_DUMPS:]:
        place = bisect.bisect_left(named, (mark.start(), 0)) - 1
        if place < 0:
            starts.append((mark.start(), 0))
        elif _DUMP.search(text, named[place][0], mark.start()):
            starts.append((mark.start(), named[place][1]))
    starts.sort()
    if not starts and text.strip():
        starts = [(0, 0)]
    ends = [start for start, _ in starts[1:]] + [len(text)]
    for (start, index), end in zip(starts, ends):
        found.append((index, text[start:end]))
    return [(index, part) for index, part in found if "=" in part]


def _lapics(text: str) -> dict[int, str]:
    marks = list(_LAPIC.finditer(text))
    ends = [mark.start() for mark in marks[1:]] + [len(text)]
    return {int(mark[1]): text[mark.end() : end] for mark, end in zip(marks, ends)}


def registers_witness(name: str, text: str) -> Optional[Witness]:
    """Pasted registers; None if there is no CPU in the text."""
    evidence = registers_evidence(text)
    if not any(cpu.registers != Registers() for cpu in evidence.cpus):
        return None
    why = "registers of one moment do not show what was raised, nor in which order"
    ceiling = Ceiling.POSSIBLE
    if evidence.ending is Ending.TRIPLE_FAULT or evidence.ending is Ending.EMULATOR_DIED:
        ceiling = Ceiling.LIKELY
    return Witness(Kind.QEMU_REGISTERS, evidence, name, ceiling, why)
