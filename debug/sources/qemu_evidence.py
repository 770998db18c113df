# SPDX-License-Identifier: BSD-2-Clause
"""From what QEMU said to the evidence model.  Pure: texts and parsed logs in, evidence out."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Mapping, Optional, Sequence

from debug.evidence import Cpu, Ending, EventKind, ExceptionEvent, IpiEvent, Registers, ResetEvent
from debug.sources.qemu_attribute import attribute, complete, on_cpu
from debug.sources.qemu_log import QemuLog
from debug.sources.qemu_log_events import LogEvent
from debug.sources.qemu_text import parse_lapic, parse_registers

MAX_EVENTS, MAX_FIRST_EVENTS = 512, 128

NO_LOG = "exceptions were not logged: how the CPU came to its last state is not known"
REAL_MODE = "QEMU logs no registers for exceptions raised in real mode"
AMBIGUOUS = (
    "one thread runs all CPUs and its log names none: "
    "events whose registers fit no CPU, or several, belong to no CPU here"
)


@dataclass(frozen=True)
class CpuState:
    """One CPU of a paused machine as the monitor shows it."""

    index: int
    thread: int  # host thread id
    registers: str  # its part of `info registers -a`
    lapic: str = ""  # `info lapic`
    apic_id: Optional[int] = None
    earlier: str = ""  # `info registers` of a sample before, if one was taken
    roamed: bool = False  # in some sample before it was in another mode
    long_mode: Optional[bool] = None


def in_reset(registers: Registers) -> bool:
    """The CPU stands at the reset vector with nothing executed since INIT or power-on."""
    code = registers.segments.get("cs")
    return (
        code is not None
        and registers.rip == 0xFFF0
        and code.selector == 0xF000
        and code.base == 0xFFFF0000
        and not registers.control.get("cr0", 1) & 1
    )


def matters(reset: ResetEvent) -> bool:
    """Resetting a CPU that has executed nothing changes nothing: QEMU does it at power-on."""
    return reset.registers is None or not in_reset(reset.registers)


def at_sipi_entry(registers: Registers) -> bool:
    """RIP and CS are as a SIPI sets them and nothing else changed since INIT."""
    code = registers.segments.get("cs")
    return (
        code is not None
        and registers.rip == 0
        and code.selector & 0xFF == 0
        and code.base == code.selector << 4
        and not registers.control.get("cr0", 1) & 1
        and not any(value for name, value in registers.general.items() if name != "rdx")
    )


def build_cpus(states: Sequence[CpuState], running: bool, wrote: bool = False) -> tuple[Cpu, ...]:
    """The CPUs; `running` says that they could execute between the two samples.

    `wrote`: the guest wrote something in between.  A CPU that is awake alone did that: it moved,
    though it was met at the same place each time, as in a loop of OUT or on a busy host.

    A CPU with a thread of its own always executes after its SIPI; one that shares a thread and
    still stands at its first instruction has not been given the time.
    """
    threads = [state.thread for state in states]
    shown = [parse_registers(state.registers) for state in states]
    alone = sum(not halted for _, halted in shown) == 1
    cpus = []
    for state, (registers, halted) in zip(states, shown):
        waiting = None if halted is None else halted and in_reset(registers)
        moved: Optional[bool] = None
        if running and state.earlier:
            before = parse_registers(state.earlier)[0]
            moved = (before.rip, before.rflags, before.general) != (
                registers.rip,
                registers.rflags,
                registers.general,
            ) or state.roamed
            if wrote and alone and not halted:
                moved = True
        executed: Optional[bool] = None
        if at_sipi_entry(registers) and not halted:
            if moved is False and threads.count(state.thread) > 1:
                executed = False
        elif registers.rip is not None and not in_reset(registers):
            executed = True
        cpus.append(
            Cpu(
                index=state.index,
                registers=registers,
                apic_id=state.apic_id,
                halted=halted,
                waiting_for_sipi=waiting,
                apic=parse_lapic(state.lapic, state.apic_id),
                executed=executed,
                moved=moved,
                long_mode=state.long_mode,
            )
        )
    return tuple(cpus)


@dataclass(frozen=True)
class LogParts:
    """The logs of one machine: by CPU index where a thread wrote for one CPU only."""

    by_cpu: Mapping[int, QemuLog]
    shared: Sequence[QemuLog] = ()


def build(
    logs: LogParts, cpus: Sequence[Cpu], ending: Ending
) -> tuple[
    tuple[Cpu, ...],
    tuple[ExceptionEvent, ...],
    tuple[IpiEvent, ...],
    tuple[ResetEvent, ...],
    tuple[str, ...],
]:
    """CPUs with the culprit marked, events, IPIs and resets in order, and limits."""
    limits: list[str] = []
    entries: list[LogEvent] = []
    ipis: list[IpiEvent] = []
    resets: list[ResetEvent] = []
    for index, log in sorted(logs.by_cpu.items()):
        entries += [on_cpu(entry, index) for entry in log.events]
        ipis += [replace(ipi, source=index) for ipi in log.ipis]
        resets += [reset for reset in log.resets if matters(reset)]
    for log in logs.shared:
        attributed = attribute(log.events, cpus)
        if cpus and any(
            entry.event.cpu is None and entry.event.kind is EventKind.EXCEPTION
            for entry in attributed
        ):
            limits.append(AMBIGUOUS)
        entries += attributed
        only = cpus[0].index if len(cpus) == 1 else None
        ipis += [replace(ipi, source=only) for ipi in log.ipis]
        resets += [reset for reset in log.resets if matters(reset)]
    entries.sort(key=lambda entry: (entry.number, entry.event.cpu or 0, entry.sequence))
    events = [entry.event for entry in entries]
    if len(events) > MAX_EVENTS:  # the first in time is the cause, the last ones are the death
        events = events[:MAX_FIRST_EVENTS] + events[MAX_FIRST_EVENTS - MAX_EVENTS :]
    dead = {event.cpu for event in events if event.kind is EventKind.TRIPLE_FAULT}
    if ending is Ending.TRIPLE_FAULT:
        known = dead - {None}
        cpus = [
            replace(cpu, shutdown=True if cpu.index in dead else False if known else None)
            for cpu in cpus
        ]
        events = complete(events, cpus)
    if any(event.registers.rip is None and event.kind is EventKind.EXCEPTION for event in events):
        limits.append(REAL_MODE)
    return tuple(cpus), tuple(events), tuple(ipis), tuple(resets), tuple(limits)
