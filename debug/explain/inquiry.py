# SPDX-License-Identifier: BSD-2-Clause
"""What is asked, of whom and in which order.  Each answer is a tuple of findings; none names a cause.

The questions stand in the order in which their answers are read: the first fact of a kind counts.
"""

from __future__ import annotations

from debug.evidence import Cpu
from debug.explain import (
    arrival,
    clues,
    compare,
    conduct,
    counting,
    deaf,
    deep_calls,
    elsewhere,
    firmware,
    gdt_lost,
    handlers,
    handover,
    idt_lost,
    interrupted,
    laxness,
    locks,
    panic,
    pics,
    ports,
    real_mode,
    refusal,
    runaway,
    state,
    trampoline_page,
    unanswered,
    unstarted,
    waiting,
    written_end,
)
from debug.explain.context import Machine
from debug.explain.death import Death
from debug.explain.end import End
from debug.explain.model import UNBEGUN, CpuState, CpuView, Finding

Views = tuple[CpuView, ...]
Findings = tuple[Finding, ...]

_AT_WORK = (CpuState.RUNNING, CpuState.SPINNING)


def of_each_cpu(machine: Machine, death: Death) -> tuple[Views, Findings]:
    """What each CPU does, and what is remarkable about it alone."""
    views: list[CpuView] = []
    found: Findings = ()
    for cpu in machine.cpus:
        shut = bool(cpu.shutdown) or death.happened and death.is_of(cpu)
        view, facts = state.describe(machine, cpu, shut)
        views.append(view)
        found += facts
        if cpu.index != machine.bsp_index:
            found += _of_an_ap(machine, cpu, view)
        if view.state not in UNBEGUN:
            found += _of_its_registers(machine, cpu, view, death)
        if view.state in _AT_WORK:
            found += handlers.lost(machine, cpu) + compare.without_long_mode(machine, cpu)
        if view.state is CpuState.SHUT_DOWN:
            found += _of_the_dead(machine, cpu)
    found += state.shared_stacks(machine, tuple(views))
    found += state.bsp_in_firmware(machine)
    found += trampoline_page.bsp_unprotected(machine)
    return tuple(views), found


def _of_an_ap(machine: Machine, cpu: Cpu, view: CpuView) -> Findings:
    found = arrival.cpu_findings(machine, cpu, view)
    if view.state is CpuState.WAITING_FOR_SIPI:
        return found
    return found + trampoline_page.unprotected(machine, cpu)


def _of_its_registers(machine: Machine, cpu: Cpu, view: CpuView, death: Death) -> Findings:
    found: Findings = laxness.impossible_state(machine, cpu.index, cpu.registers)
    on_its_way = death.happened and death.is_of_another(cpu)
    if view.state is CpuState.IDLE or on_its_way:
        return found
    return found + laxness.mode_traps(machine, cpu.index, cpu.registers)


def _of_the_dead(machine: Machine, cpu: Cpu) -> Findings:
    return (
        *handlers.emptied(machine, cpu),
        *handlers.cut(machine, cpu),
        *handlers.bios_call(machine, cpu),
        *gdt_lost.findings(machine, cpu),
        *idt_lost.findings(machine, cpu),
    )


def of_the_machine(machine: Machine, views: Views, found: Findings) -> Findings:
    """What was found, and what CPUs, devices, console and trampoline tell together."""
    found += arrival.machine_findings(machine)
    found += panic.said(machine)
    found += locks.said(machine)
    found += trampoline_page.lax_descriptors(machine)
    found += trampoline_page.altered(machine)
    found += trampoline_page.ends_early(machine)
    found += conduct.findings(machine, views)
    found += waiting.findings(machine, views)
    found += counting.findings(machine, views, found)
    found += counting.lacking(machine, views, found)
    found += unanswered.findings(machine, views)
    found += elsewhere.findings(machine, views, found)
    found += unstarted.findings(machine, views, found)
    found += refusal.findings(machine, views)
    found += ports.findings(machine, views)
    found += runaway.running(machine, views)
    found += firmware.findings(machine)
    found += firmware.died(machine)
    found += state.reported(machine)
    found += pics.findings(machine)
    found += interrupted.findings(machine, views)
    found += interrupted.in_service(machine)
    found += real_mode.findings(machine)
    found += deaf.findings(machine, views)
    found += written_end.findings(machine, found)
    found += written_end.before_jump(machine, found)
    return found


def of_the_aps(machine: Machine, death: Death, end: End) -> Findings:
    """Where each AP went in the trampoline, and what it has that the BSP has not."""
    found: Findings = ()
    for cpu in machine.aps:
        registers = cpu.registers
        if death.is_of(cpu):
            registers = next((s.registers for s in end.steps if s.registers), registers)
        found += trampoline_page.astray(machine, cpu.index, registers)
        found += handover.findings(machine, cpu.index, registers)
        found += compare.differences(machine, cpu.index, registers)
        if death.is_of(cpu):
            found += compare.map_differences(machine, cpu.index, registers, end.findings)
    return found


def of_the_end(machine: Machine, views: Views, death: Death, end: End) -> Findings:
    """What led to the end of a machine that is not healthy."""
    return (
        *deep_calls.findings(machine, views, end.steps),
        *runaway.ended(machine, end.steps),
        *clues.findings(machine, death.cpu),
    )
