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
    delivery,
    doomed,
    fault,
    laxness,
    locks,
    observed,
    panic,
    recursion,
)
from debug.explain import stages as stage
from debug.explain import state, trampoline_page, trampoline_search, waiting
from debug.explain.context import Machine
from debug.explain.findings import (
    BspInFirmware,
    ConsoleSays,
    DeliveryFailed,
    Disagreement,
    ExceptionReported,
    HaltedForever,
    InitMissing,
    InterruptStorm,
    KernelAbsent,
    KernelGaveUp,
    Laxness,
    PanicMessage,
    SipiMissing,
    SipiReceived,
    Spinning,
)
from debug.explain.headline import headline
from debug.explain.model import CpuState, CpuView, Explanation, Finding, Status, Step
from debug.x86.exceptions import DF, GP, NMI, NP, SS, TS

_WORDS = 6  # lines of an emulator that ended by itself


def explain(evidence: Evidence) -> Explanation:
    """What happened to this machine."""
    machine = Machine(evidence)
    died = chain.died(machine)
    culprit = chain.culprit(machine) if died else doomed.doomed(machine)
    predicted, died = not died and culprit is not None, died or culprit is not None
    views, findings = _cpus(machine, culprit, died)
    findings += arrival.machine_findings(machine) + panic.said(machine) + locks.said(machine)
    findings += trampoline_page.lax_descriptors(machine) + trampoline_page.altered(machine)
    findings += conduct.findings(machine, views) + waiting.findings(machine, views)
    status = _status(machine, views, findings, died)
    end = _end(machine, culprit, status, findings)
    findings = end.findings + findings + _comparisons(machine, culprit, end)
    if status is not Status.HEALTHY:
        findings += clues.findings(machine, culprit)
    index = culprit.index if culprit is not None else end.cpu
    if index is None:
        index = _suspect(status, views, findings)
    notes = [f.sentence for f in findings if isinstance(f, (Laxness, Disagreement))]
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
        if view.state not in (CpuState.FIRMWARE, CpuState.WAITING_FOR_SIPI):
            found += laxness.impossible_state(machine, cpu.index, cpu.registers)
            if view.state is not CpuState.IDLE:
                found += laxness.mode_traps(machine, cpu.index, cpu.registers)
        if view.state in (CpuState.RUNNING, CpuState.SPINNING):
            found += compare.without_long_mode(machine, cpu)
    found += state.shared_stacks(machine, tuple(views)) + state.bsp_in_firmware(machine)
    return tuple(views), tuple(found)


def _status(
    machine: Machine, views: tuple[CpuView, ...], findings: tuple[Finding, ...], died: bool
) -> Status:
    ending = machine.evidence.ending
    if died:
        return Status.TRIPLE_FAULT
    if any(isinstance(f, (PanicMessage, ExceptionReported)) for f in findings):
        return Status.PANIC
    if ending is Ending.RESET:
        return Status.RESET
    if ending in (Ending.EMULATOR_DIED, Ending.RESTARTED):
        return Status.UNKNOWN
    if any(isinstance(f, (KernelAbsent, BspInFirmware)) for f in findings):
        return Status.UNKNOWN
    if ending is Ending.STOPPED and _bsp_storms(machine, findings):
        return Status.HANG
    if _missing(machine, views, findings):
        return Status.MISSING_CPU
    if panic.failed(machine):
        return Status.PANIC
    if ending in (Ending.EXITED, Ending.UNTIL) or _announced_halt(findings):
        return Status.HEALTHY if arrival.accounted_for(machine) else Status.UNKNOWN
    return _at_rest(machine, views, findings)


_STORM = 16  # the same fault so often, deeper each time, was never handled


def _bsp_storms(machine: Machine, findings: tuple[Finding, ...]) -> bool:
    """The BSP takes one exception over and over, and has sent no AP a SIPI."""
    storm = next((f for f in findings if isinstance(f, InterruptStorm)), None)
    if storm is None or storm.cpu != machine.bsp_index:
        return False
    return not any(isinstance(f, (KernelGaveUp, SipiReceived)) for f in findings)


def _announced_halt(findings: tuple[Finding, ...]) -> bool:
    """The guest says that it halts, and a CPU does."""
    told = any(isinstance(f, ConsoleSays) and f.topic == "halted" for f in findings)
    return told and any(isinstance(f, HaltedForever) for f in findings)


def _missing(machine: Machine, views: tuple[CpuView, ...], findings: tuple[Finding, ...]) -> bool:
    """Whether a CPU that was meant to come up did not."""
    if any(isinstance(f, KernelGaveUp) for f in findings):
        return True
    if _bsp_is_stuck(machine, views):
        return False
    if arrival.left_behind(machine):
        return True
    expected = machine.evidence.expected_cpus
    arrived = sum(1 for view in views if view.arrived)
    undecided = sum(1 for view in views if view.arrived is None)
    if expected is not None and views and arrived + undecided < expected:
        return True
    woken = {f.cpu for f in findings if isinstance(f, SipiReceived)}
    skipped = {f.cpu for f in findings if isinstance(f, SipiMissing)}
    if not woken:  # none was started: only those that took an INIT were meant to be
        skipped -= {f.cpu for f in findings if isinstance(f, InitMissing)}
    return any(view.arrived is False and view.index in woken | skipped for view in views)


def _bsp_is_stuck(machine: Machine, views: tuple[CpuView, ...]) -> bool:
    """The BSP stands still before it has begun to start the others: they are not missing."""
    bsp = machine.bsp
    if bsp is None or not machine.stages_of(bsp):
        return False
    if any(machine.reached(bsp, code) for code in (stage.BSP_INIT_SENT, stage.BSP_ALL_ONLINE)):
        return False
    stuck = (CpuState.SPINNING, CpuState.HALTED)
    return any(view.index == bsp.index and view.state in stuck for view in views)


def _at_rest(machine: Machine, views: tuple[CpuView, ...], findings: tuple[Finding, ...]) -> Status:
    """The observer stopped the machine, or only looked: healthy, hanging, or unknown."""
    if any(isinstance(f, (InterruptStorm, HaltedForever, Spinning)) for f in findings):
        watched = machine.evidence.ending is Ending.STOPPED
        return Status.HANG if watched else Status.UNKNOWN
    dormant = (CpuState.FIRMWARE, CpuState.WAITING_FOR_SIPI, CpuState.PARKED)
    awake = [view for view in views if view.state not in dormant]
    if not views and machine.evidence.ending is Ending.STOPPED:
        return Status.UNKNOWN  # it ran, and nobody could look at it
    if awake and all(view.state is CpuState.IDLE for view in awake):
        return Status.HEALTHY
    moving = [cpu.moved for cpu in machine.cpus if cpu.moved is not None]
    if awake and moving and all(moving):
        return Status.HEALTHY
    return Status.HEALTHY if _only_handled(machine) else Status.UNKNOWN


_SEVERE = (DF, TS, NP, SS, GP)  # a record that ends near one of these may not go on


def _only_handled(machine: Machine) -> bool:
    """A record of interrupts and exceptions that goes on after each: they were handled."""
    last = machine.last_events[-4:]
    fatal = [event for event in last if event.kind is EventKind.EXCEPTION and event.vector != NMI]
    return bool(last) and last[-1] not in fatal and not any(e.vector in _SEVERE for e in fatal)


def _end(
    machine: Machine,
    culprit: Optional[Cpu],
    status: Status,
    findings: tuple[Finding, ...],
) -> _End:
    if status is Status.TRIPLE_FAULT:
        return _shutdown(machine, culprit)
    if status in (Status.PANIC, Status.HANG):
        reported = next((f for f in findings if isinstance(f, ExceptionReported)), None)
        storm = next((f for f in findings if isinstance(f, InterruptStorm)), None)
        if status is Status.HANG and storm is None:
            return _End()
        return _reported(machine, machine.cpu(reported.cpu) if reported is not None else None)
    if status is Status.UNKNOWN:
        return _last_chain(machine)
    if status is Status.MISSING_CPU:
        return _missing_chain(machine)
    return _End()


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
    found = (*first.findings, *derived.findings, *_embedded(first), *disagreements)
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
