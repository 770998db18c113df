# SPDX-License-Identifier: BSD-2-Clause
"""The whole explanation: evidence in, `Explanation` out.  Pure; never raises on any evidence."""

from __future__ import annotations

from typing import Optional

from debug.evidence import Cpu, Ending, Evidence
from debug.explain import (
    alive,
    arrival,
    chain,
    clues,
    compare,
    conduct,
    counting,
    deaf,
    deep_calls,
    doomed,
    firmware,
    gdt_lost,
    handlers,
    idt_lost,
    interrupted,
    laxness,
    locks,
    panic,
    pics,
    ports,
    real_mode,
    state,
    trampoline_page,
    trampoline_search,
    uefi_report,
    unanswered,
    unstarted,
    waiting,
    written_end,
)
from debug.explain.context import Machine
from debug.explain.end import End, end_of
from debug.explain.findings import (
    Disagreement,
    ExceptionReported,
    HaltedForever,
    KernelGaveUp,
    Laxness,
    PanicMessage,
    PortPolled,
    Spinning,
)
from debug.explain.findings.handlers import NoInterruptComes, ProgramLoops, RetriedInRealMode
from debug.explain.headline import headline
from debug.explain.model import CpuState, CpuView, Explanation, Finding, Status
from debug.explain.status import judge

_WORDS = 6  # lines of an emulator that ended by itself


def explain(evidence: Evidence) -> Explanation:
    """What happened to this machine."""
    evidence = uefi_report.recorded(evidence)
    machine = Machine(evidence)
    died = chain.died(machine)
    culprit = chain.culprit(machine) if died else doomed.doomed(machine)
    predicted, died = not died and culprit is not None, died or culprit is not None
    views, findings = _cpus(machine, culprit, died)
    findings += arrival.machine_findings(machine) + panic.said(machine) + locks.said(machine)
    findings += trampoline_page.lax_descriptors(machine) + trampoline_page.altered(machine)
    findings += trampoline_page.ends_early(machine)
    findings += conduct.findings(machine, views) + waiting.findings(machine, views)
    findings += counting.findings(machine, views, findings)
    findings += counting.lacking(machine, views, findings) + unanswered.findings(machine, views)
    findings += unstarted.findings(machine, views, findings)
    findings += ports.findings(machine, views) + firmware.findings(machine)
    findings += firmware.died(machine) + state.reported(machine)
    findings += pics.findings(machine) + interrupted.findings(machine, views)
    findings += interrupted.in_service(machine) + real_mode.findings(machine)
    findings += deaf.findings(machine, views) + written_end.findings(machine, findings)
    findings += written_end.before_jump(machine, findings)
    status = judge(machine, views, findings, died)
    end = end_of(machine, culprit, status, findings)
    findings = end.findings + findings + _comparisons(machine, culprit, end)
    if status is not Status.HEALTHY:
        findings += deep_calls.findings(machine, views, end.steps)
        findings += clues.findings(machine, culprit)
    index = culprit.index if culprit is not None else end.cpu
    if index is None:
        index = _suspect(status, views, findings)
    notes = [f.sentence for f in findings if isinstance(f, (Laxness, Disagreement))]
    notes += [f.note for f in findings if isinstance(f, PortPolled) and f.input]
    notes += [line for f in findings if isinstance(f, ProgramLoops) for line in f.sentences()]
    notes += [*_parked(machine, views), *alive.notes(machine, views, status)]
    if uefi := uefi_report.note(evidence.console):
        notes.append(uefi)
    said = evidence.messages[1:_WORDS] if evidence.ending is Ending.EMULATOR_DIED else ()
    notes = [*end.notes, *notes, *said, *arrival.uncounted(machine), *evidence.limits]
    notes += [doomed.how(machine)] if predicted else []
    if died and culprit is None:
        notes.append("which CPU shut down could not be found out")
    return Explanation(
        status,
        headline(status, machine, index, end.steps, views),
        index,
        views,
        end.steps,
        tuple(dict.fromkeys(findings)),
        tuple(dict.fromkeys(notes)),
        trampoline_search.worth_telling(machine, status, index),
    )


def _parked(machine: Machine, views: tuple[CpuView, ...]) -> list[str]:
    """What is said of APs that halt for good in a kernel that does not say why."""
    found = [v for v in views if v.state is CpuState.PARKED and not machine.traced]
    if not found:
        return []
    names = ", ".join(str(view.index) for view in found[:8])
    return [
        f"CPU {names}: halted with interrupts off at {found[0].where} while the BSP is idle, and not in"
        " a handler: parked on purpose, as it seems"
    ]


def _cpus(
    machine: Machine, culprit: Optional[Cpu], died: bool
) -> tuple[tuple[CpuView, ...], tuple[Finding, ...]]:
    views: list[CpuView] = []
    found: list[Finding] = []
    for cpu in machine.cpus:
        shut = bool(cpu.shutdown) or died and culprit is not None and cpu.index == culprit.index
        view, facts = state.describe(machine, cpu, shut)
        views.append(view)
        found += facts
        if cpu.index != machine.bsp_index:
            found += arrival.cpu_findings(machine, cpu, view)
            if view.state is not CpuState.WAITING_FOR_SIPI:
                found += trampoline_page.unprotected(machine, cpu)
        if view.state not in (CpuState.FIRMWARE, CpuState.WAITING_FOR_SIPI):
            found += laxness.impossible_state(machine, cpu.index, cpu.registers)
            # The death of one CPU stops the others anywhere on their way.
            on_its_way = died and culprit is not None and cpu.index != culprit.index
            if view.state is not CpuState.IDLE and not on_its_way:
                found += laxness.mode_traps(machine, cpu.index, cpu.registers)
        if view.state in (CpuState.RUNNING, CpuState.SPINNING):
            found += handlers.lost(machine, cpu)
        if view.state is CpuState.SHUT_DOWN:
            found += handlers.emptied(machine, cpu) + handlers.cut(machine, cpu)
            found += handlers.bios_call(machine, cpu) + gdt_lost.findings(machine, cpu)
            found += idt_lost.findings(machine, cpu)
        if view.state in (CpuState.RUNNING, CpuState.SPINNING):
            found += compare.without_long_mode(machine, cpu)
    found += state.shared_stacks(machine, tuple(views)) + state.bsp_in_firmware(machine)
    found += trampoline_page.bsp_unprotected(machine)
    return tuple(views), tuple(found)


def _comparisons(machine: Machine, culprit: Optional[Cpu], end: End) -> tuple[Finding, ...]:
    found: list[Finding] = []
    for cpu in machine.aps:
        dead = culprit is not None and cpu.index == culprit.index
        registers = cpu.registers
        if dead:
            registers = next((s.registers for s in end.steps if s.registers), registers)
        found += trampoline_page.astray(machine, cpu.index, registers)
        found += trampoline_page.sent(machine, cpu.index, registers)
        found += compare.differences(machine, cpu.index, registers)
        if dead:
            found += compare.map_differences(machine, cpu.index, registers, end.findings)
    return tuple(found)


def _suspect(
    status: Status, views: tuple[CpuView, ...], findings: tuple[Finding, ...]
) -> Optional[int]:
    """The CPU to look at where none died: the missing, the stuck, the reporting one."""
    if status is Status.MISSING_CPU:
        gave_up = next((f for f in findings if isinstance(f, KernelGaveUp)), None)
        if gave_up is not None and gave_up.cpu is not None:
            return gave_up.cpu
        return next((view.index for view in views if view.arrived is False), None)
    if status is Status.PANIC:
        speakers = [f.cpu for f in findings if isinstance(f, (ExceptionReported, PanicMessage))]
        return next((cpu for cpu in speakers if cpu is not None), None)
    if status is Status.HANG:
        kinds = (HaltedForever, Spinning, NoInterruptComes, RetriedInRealMode)
        stuck = [f.cpu for f in findings if isinstance(f, kinds)]
        return stuck[0] if stuck else None
    return None
