# SPDX-License-Identifier: BSD-2-Clause
"""The whole explanation: evidence in, `Explanation` out.  Pure; never raises on any evidence."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Optional

from debug.evidence import Cpu, Ending, EventKind, Evidence, ExceptionEvent
from debug.explain import (
    arrival,
    chain,
    clues,
    compare,
    conduct,
    deep_calls,
    delivery,
    doomed,
    ended,
    fault,
    firmware,
    handlers,
    interrupted,
    laxness,
    locks,
    observed,
    panic,
    pics,
    ports,
    real_mode,
    recursion,
)
from debug.explain import stages as stage
from debug.explain import state, trampoline_page, trampoline_search, uefi_report, waiting
from debug.explain.context import Machine
from debug.explain.findings import (
    DeliveryFailed,
    Disagreement,
    ExceptionReported,
    HaltedForever,
    InterruptStorm,
    KernelGaveUp,
    Laxness,
    OnlyFirmware,
    PanicMessage,
    PortPolled,
    Spinning,
)
from debug.explain.findings.handlers import RetriedInRealMode
from debug.explain.headline import headline
from debug.explain.model import CpuState, CpuView, Explanation, Finding, Status, Step
from debug.explain.status import judge
from debug.x86.exceptions import NMI

_WORDS = 6  # lines of an emulator that ended by itself
_STORM = 16  # the same fault so often, deeper each time, was never handled


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
    findings += ports.findings(machine, views) + firmware.findings(machine)
    findings += pics.findings(machine) + interrupted.findings(machine, views)
    findings += interrupted.in_service(machine) + real_mode.findings(machine)
    findings += ended.findings(machine, findings)
    status = judge(machine, views, findings, died)
    end = _end(machine, culprit, status, findings)
    findings = end.findings + findings + _comparisons(machine, culprit, end)
    if status is not Status.HEALTHY:
        findings += deep_calls.findings(machine, views, end.steps)
        findings += clues.findings(machine, culprit)
    index = culprit.index if culprit is not None else end.cpu
    if index is None:
        index = _suspect(status, views, findings)
    notes = [f.sentence for f in findings if isinstance(f, (Laxness, Disagreement))]
    notes += [f.note for f in findings if isinstance(f, PortPolled) and f.input]
    notes += _parked(machine, views)
    if (uefi := uefi_report.printed(evidence.console)) is not None and uefi.note:
        notes.append(uefi.note)
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


@dataclass(frozen=True)
class _End:
    """The chain of exceptions at the end, explained."""

    steps: tuple[Step, ...] = ()
    findings: tuple[Finding, ...] = ()
    notes: tuple[str, ...] = ()
    cpu: Optional[int] = None


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
            found += handlers.bios_call(machine, cpu)
        if view.state in (CpuState.RUNNING, CpuState.SPINNING):
            found += compare.without_long_mode(machine, cpu)
    found += state.shared_stacks(machine, tuple(views)) + state.bsp_in_firmware(machine)
    found += trampoline_page.bsp_unprotected(machine)
    return tuple(views), tuple(found)


def _end(
    machine: Machine,
    culprit: Optional[Cpu],
    status: Status,
    findings: tuple[Finding, ...],
) -> _End:
    if status is Status.TRIPLE_FAULT:
        return _shutdown(machine, culprit)
    retried = next((f for f in findings if isinstance(f, RetriedInRealMode)), None)
    if status is Status.HANG and retried is not None:
        return _retried(machine, machine.cpu(retried.cpu))
    if status in (Status.PANIC, Status.HANG):
        reported = next((f for f in findings if isinstance(f, ExceptionReported)), None)
        storm = next((f for f in findings if isinstance(f, InterruptStorm)), None)
        if status is Status.HANG and storm is None:
            ended = chain.halted_after_exception(machine)
            return _reported(machine, ended) if ended is not None else _stalled(machine)
        if reported is None and storm is None and _panicked_by_itself(machine):
            return _End()  # what was logged last was handled
        return _reported(machine, machine.cpu(reported.cpu) if reported is not None else None)
    if status is Status.UNKNOWN:
        alone = any(isinstance(f, OnlyFirmware) for f in findings)
        return _End() if alone else _last_chain(machine)
    if status is Status.MISSING_CPU:
        return _missing_chain(machine)
    return _End()


def _stalled(machine: Machine) -> _End:
    """A CPU does not leave an instruction that hardware refuses: the emulator does neither.

    QEMU 7.2 stays so at a MOV to CR4 with a reserved bit.
    """
    for cpu in machine.cpus:
        if cpu.moved is not False or cpu.halted or cpu.registers.cpl not in (0, None):
            continue
        first = fault.from_registers(machine, cpu.index, cpu.registers)
        if first is not None:
            note = "the emulator neither executes that instruction nor raises the exception"
            return _End((first.step,), first.findings, (*first.notes, note), cpu.index)
    return _End()


def _retried(machine: Machine, cpu: Optional[Cpu]) -> _End:
    """The exception that real mode's handler returns to, as the rules raise it."""
    then = real_mode.retried(machine, cpu) if cpu is not None else None
    first = fault.from_registers(machine, cpu.index, then) if cpu is not None and then else None
    if cpu is None or first is None:
        return _End()
    return _End((first.step,), first.findings, first.notes, cpu.index)


def _panicked_by_itself(machine: Machine) -> bool:
    """Whether the kernel lit the stage of a panic; one after an exception has a stage before it."""
    return any(event.code == stage.PANIC for event in machine.evidence.stages)


def _missing_chain(machine: Machine) -> _End:
    """The first exception of the AP that was meant to come up and takes exceptions instead."""
    for cpu in machine.aps:
        if machine.reached(cpu, stage.AP_ONLINE) or not machine.stages_of(cpu):
            continue
        own = [e for e in machine.last_events if e.cpu == cpu.index]
        faults = [e for e in own if e.kind is EventKind.EXCEPTION and e.vector != NMI]
        if not faults:
            continue
        first = fault.from_event(machine, cpu.index, faults[0])
        notes = first.notes
        if len(faults) > 1:
            notes += (f"CPU {cpu.index} took {len(faults)} exceptions; the first one is shown",)
        return _with_state(machine, cpu, _End((first.step,), first.findings, notes, cpu.index))
    return _End()


def _last_chain(machine: Machine) -> _End:
    """The record ends with an exception, and nothing says whether it was survived."""
    events = chain.final_chain(list(machine.last_events))
    if not events:
        return _End()
    first = fault.from_event(machine, events[0].cpu, events[0])
    steps = (first.step, *delivery.observed_steps(machine, events[1:]))
    notes = (*first.notes, "the record ends here: whether the exception was handled is not known")
    return _with_state(machine, None, _End(steps, first.findings, notes, events[0].cpu))


def _shutdown(machine: Machine, culprit: Optional[Cpu]) -> _End:
    """The chain that ended in shutdown."""
    index = culprit.index if culprit is not None else None
    recorded = chain.events_of(machine, culprit)
    events = chain.final_chain(recorded)
    nest = recursion.find(machine, recorded, events[0]) if events else None
    if nest is not None:
        return _nested(machine, index, nest, events)
    if events:
        first = fault.from_event(machine, index, events[0])
        rest = events[1:]
    elif culprit is not None:
        predicted = fault.from_registers(machine, culprit.index, culprit.registers)
        if predicted is None:
            note = (
                "no exception was recorded, and the rules find nothing wrong where the CPU stands"
            )
            return _with_state(machine, culprit, _End((), (), (note,), index))
        first, rest = predicted, ()
    else:
        return _End(notes=("no exception was recorded",))
    registers = first.step.registers
    assert registers is not None  # every first step has them
    derived = delivery.propagate(machine, index, registers, first.vector, first.interrupt)
    steps = (first.step, *derived.steps)
    shown = {step.vector for step in steps}
    if not derived.shutdown:
        left = tuple(event for event in rest if event.vector not in shown)
        steps += delivery.observed_steps(machine, left)
        steps = _ends_in_shutdown(steps)
    disagreements = delivery.compare(index, derived, rest, True)
    failed = (*derived.findings, *_embedded(first))
    if first.interrupt and not failed and not derived.shutdown and derived.handler is None:
        failed = observed.failures(observed.normal(events))[:1]
    found = (*first.findings, *failed, *disagreements)
    notes = first.notes + (() if derived.shutdown else derived.notes)
    end = _End(steps, tuple(found), notes, index)
    return _with_state(machine, culprit, end)


def _nested(
    machine: Machine,
    index: Optional[int],
    nest: recursion.Recursion,
    events: tuple[ExceptionEvent, ...],
) -> _End:
    """A handler that faults itself: what began it, what was repeated, and how it ended.

    The end overwrote more than it tells: of its findings none is kept.
    """
    first = fault.from_event(machine, index, nest.first)
    again = Step(index, nest.finding.vector, nest.finding.sentences()[0], rip=nest.finding.rip)
    last = fault.from_event(machine, index, events[0]).step
    steps = (first.step, again, last, *delivery.observed_steps(machine, events[1:]))
    status = compare.idt_status(index, nest.first.registers)
    found = (*first.findings, nest.finding, *((status,) if status is not None else ()))
    return _End(_ends_in_shutdown(steps), found, first.notes, index)


def _embedded(first: fault.First) -> tuple[Finding, ...]:
    """A first exception that already is a failed delivery has it among its findings."""
    return tuple(f for f in first.findings if isinstance(f, DeliveryFailed))


def _ends_in_shutdown(steps: tuple[Step, ...]) -> tuple[Step, ...]:
    last = steps[-1]
    if "shutdown" in last.headline:
        return steps
    return (*steps[:-1], replace(last, headline=f"{last.headline} → shutdown"))


def _with_state(machine: Machine, culprit: Optional[Cpu], end: _End) -> _End:
    """Add what the registers of the dead CPU say about its IDT and its stack."""
    registers = next((s.registers for s in end.steps if s.registers is not None), None)
    if registers is None and culprit is not None:
        registers = culprit.registers
    if registers is None:
        return end
    found: list[Finding] = []
    status = compare.idt_status(end.cpu, registers)
    if status is not None:
        found.append(status)
    if culprit is not None:
        stack = state.stack_state(machine, culprit, registers)
        if stack is not None:
            found.append(stack)
    return replace(end, findings=end.findings + tuple(found))


def _reported(machine: Machine, cpu: Optional[Cpu]) -> _End:
    """An exception that the kernel's own handler took and did not survive."""
    events = observed.normal(chain.last_chain(machine, cpu))
    if not events:
        return _End(cpu=cpu.index if cpu is not None else None)
    index = cpu.index if cpu is not None else events[0].cpu
    nest = recursion.find(machine, chain.events_of(machine, cpu), events[0])
    if nest is not None and nest.finding.times >= _STORM:
        first = fault.from_event(machine, index, nest.first)
        again = Step(index, nest.finding.vector, nest.finding.sentences()[0], rip=nest.finding.rip)
        found = (*first.findings, nest.finding)
        return _End((first.step, again), found, first.notes, index)
    first = fault.from_event(machine, index, events[0])
    steps = (first.step, *delivery.observed_steps(machine, events[1:]))
    end = _End(steps, first.findings + observed.failures(events), first.notes, index)
    return _with_state(machine, machine.cpu(index), end)


def _comparisons(machine: Machine, culprit: Optional[Cpu], end: _End) -> tuple[Finding, ...]:
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
        stuck = [f.cpu for f in findings if isinstance(f, (HaltedForever, Spinning))]
        return stuck[0] if stuck else None
    return None
