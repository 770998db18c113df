# SPDX-License-Identifier: BSD-2-Clause
"""Which CPU a logged exception belongs to, where the log does not say.  Pure."""

from __future__ import annotations

from dataclasses import replace
from typing import Optional, Sequence

from debug.evidence import Cpu, EventKind, ExceptionEvent, Registers
from debug.sources.qemu_log_events import LogEvent


def same_place(event: Registers, cpu: Registers) -> bool:
    """Nothing was executed between the two: all that both know is equal.  CR2 may differ."""
    if event.rip is None or cpu.rip is None or event.rip != cpu.rip:
        return False
    if any(cpu.general.get(name) != value for name, value in event.general.items()):
        return False
    for name in ("cr0", "cr3", "cr4", "efer"):
        if name in event.control and name in cpu.control:
            if event.control[name] != cpu.control[name]:
                return False
    ours, theirs = event.segments.get("cs"), cpu.segments.get("cs")
    return ours is None or theirs is None or ours.selector == theirs.selector


def _own(registers: Registers) -> tuple[Optional[int], ...]:
    """What is usually different on each CPU: where its TSS, GDT and per-CPU block are."""
    task = registers.segments.get("tr")
    return (
        task.base if task and task.flags & 0xF00 and task.base else None,
        registers.control.get("gs_base") or None,
        registers.gdtr.base if registers.gdtr and registers.gdtr.base else None,
    )


def attribute(events: Sequence[LogEvent], cpus: Sequence[Cpu]) -> list[LogEvent]:
    """Give each event of a log that names no CPU the one CPU that its registers fit.

    With one CPU that is it.  Otherwise: the CPU that still stands where the event left it; else
    the only CPU with this TSS, GS base or GDT; else none.
    """
    if len(cpus) == 1:
        return [on_cpu(entry, cpus[0].index) for entry in events]
    result: list[LogEvent] = []
    for entry in events:
        registers = entry.event.registers
        if registers.rip is None:
            result.append(entry)
            continue
        fit = [cpu.index for cpu in cpus if same_place(registers, cpu.registers)]
        marks = _own(registers)
        for position, mark in enumerate(marks):
            if len(fit) == 1:
                break
            if mark is not None:
                fit = [cpu.index for cpu in cpus if _own(cpu.registers)[position] == mark]
        result.append(on_cpu(entry, fit[0]) if len(fit) == 1 else entry)
    return spread_final_chain(result, cpus)


def spread_final_chain(events: list[LogEvent], cpus: Sequence[Cpu]) -> list[LogEvent]:
    """The chain in front of a triple fault is one CPU's, also where real mode left no registers."""
    end = next(
        (
            index
            for index in range(len(events) - 1, -1, -1)
            if events[index].event.kind is EventKind.TRIPLE_FAULT
        ),
        None,
    )
    if end is None:
        return events
    culprit = events[end].event.cpu
    if culprit is None and events[end].event.registers.rip is None:
        candidates = [
            cpu.index
            for cpu in cpus
            if not cpu.waiting_for_sipi
            and not cpu.halted
            and not cpu.registers.control.get("cr0", 0) & 1
        ]
        culprit = candidates[0] if len(candidates) == 1 else None
    if culprit is None:
        return events
    changed = list(events)
    for index in range(end, -1, -1):
        event = events[index].event
        if event.kind is EventKind.TRIPLE_FAULT and index != end:
            break
        changed[index] = on_cpu(events[index], culprit)
        if event.while_delivering in (None, -1) and event.kind is EventKind.EXCEPTION:
            break
    return changed


def on_cpu(entry: LogEvent, cpu: int) -> LogEvent:
    return replace(entry, event=replace(entry.event, cpu=cpu))


def complete(events: Sequence[ExceptionEvent], cpus: Sequence[Cpu]) -> list[ExceptionEvent]:
    """Give the last events of a CPU that has shut down its registers, where the log had none: it
    has executed nothing since."""
    final = {cpu.index: cpu.registers for cpu in cpus if cpu.shutdown}
    changed = list(events)
    for index in range(len(changed) - 1, -1, -1):
        event = changed[index]
        if event.cpu not in final or event.registers.rip is not None:
            continue
        chain_starts = event.kind is EventKind.EXCEPTION and event.while_delivering in (None, -1)
        changed[index] = replace(event, registers=final[event.cpu])
        if chain_starts:
            del final[event.cpu]
    return changed
