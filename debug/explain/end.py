# SPDX-License-Identifier: BSD-2-Clause
"""How a machine ended: the chain of its last exceptions, each with the rule that raised it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Optional

from debug.evidence import Cpu, EventKind, ExceptionEvent, Registers
from debug.explain import chain, compare, delivery, fault, observed, real_mode, recursion
from debug.explain import stages as stage
from debug.explain import state
from debug.explain.context import Machine
from debug.explain.findings import (
    BspInFirmware,
    DeliveryFailed,
    ExceptionReported,
    InterruptStorm,
    OnlyFirmware,
)
from debug.explain.findings.handlers import RetriedInRealMode
from debug.explain.model import Finding, Status, Step
from debug.x86.exceptions import NMI

_STORM = 16  # the same fault so often, deeper each time, was never handled


@dataclass(frozen=True)
class End:
    """The chain of exceptions at the end, explained."""

    steps: tuple[Step, ...] = ()
    findings: tuple[Finding, ...] = ()
    notes: tuple[str, ...] = ()
    cpu: Optional[int] = None


def end_of(
    machine: Machine,
    culprit: Optional[Cpu],
    status: Status,
    findings: tuple[Finding, ...],
) -> End:
    """The end of a machine with this status; `culprit` is the CPU that shut down."""
    if status is Status.TRIPLE_FAULT:
        return _shutdown(machine, culprit)
    retried = next((f for f in findings if isinstance(f, RetriedInRealMode)), None)
    if status is Status.HANG and retried is not None:
        return _retried(machine, machine.cpu(retried.cpu))
    if status in (Status.PANIC, Status.HANG):
        reported = next((f for f in findings if isinstance(f, ExceptionReported)), None)
        storm = next((f for f in findings if isinstance(f, InterruptStorm)), None)
        if status is Status.HANG and storm is None:
            halted = chain.halted_after_exception(machine)
            return _reported(machine, halted) if halted is not None else _stalled(machine)
        if reported is None and storm is None and _panicked_by_itself(machine):
            return End()  # what was logged last was handled
        return _reported(machine, machine.cpu(reported.cpu) if reported is not None else None)
    if status is Status.UNKNOWN:
        return End() if _firmware_alone(machine, findings) else _last_chain(machine)
    if status is Status.MISSING_CPU:
        return _missing_chain(machine)
    return End()


def _firmware_alone(machine: Machine, findings: tuple[Finding, ...]) -> bool:
    """The record's last event is the firmware's own: it tells nothing of a kernel."""
    if any(isinstance(f, OnlyFirmware) for f in findings):
        return True
    raised = any(event.kind is EventKind.EXCEPTION for event in machine.last_events[-1:])
    return not raised and any(isinstance(f, BspInFirmware) for f in findings)


def _stalled(machine: Machine) -> End:
    """A CPU does not leave an instruction that hardware refuses: the emulator does neither.

    QEMU 7.2 stays so at a MOV to CR4 with a reserved bit.
    """
    for cpu in machine.cpus:
        if cpu.moved is not False or cpu.halted or cpu.registers.cpl not in (0, None):
            continue
        first = fault.from_registers(machine, cpu.index, cpu.registers)
        if first is not None:
            note = "the emulator neither executes that instruction nor raises the exception"
            return End((first.step,), first.findings, (*first.notes, note), cpu.index)
    return End()


def _retried(machine: Machine, cpu: Optional[Cpu]) -> End:
    """The exception that real mode's handler returns to, as the rules raise it."""
    retry = real_mode.retried(machine, cpu) if cpu is not None else None
    if cpu is None or retry is None:
        return End()
    first = fault.from_registers(machine, cpu.index, retry.then)
    if first is None:
        return End()
    return End((first.step,), first.findings, first.notes, cpu.index)


def _panicked_by_itself(machine: Machine) -> bool:
    """Whether the kernel lit the stage of a panic; one after an exception has a stage before it."""
    return any(event.code == stage.PANIC for event in machine.evidence.stages)


def _missing_chain(machine: Machine) -> End:
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
        return _with_state(machine, cpu, End((first.step,), first.findings, notes, cpu.index))
    return End()


def _last_chain(machine: Machine) -> End:
    """The record ends with an exception, and nothing says whether it was survived."""
    events = chain.final_chain(list(machine.last_events))
    if not events:
        return End()
    first = fault.from_event(machine, events[0].cpu, events[0])
    steps = (first.step, *delivery.observed_steps(machine, events[1:]))
    notes = (*first.notes, "the record ends here: whether the exception was handled is not known")
    return _with_state(machine, None, End(steps, first.findings, notes, events[0].cpu))


def _shutdown(machine: Machine, culprit: Optional[Cpu]) -> End:
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
            return _with_state(machine, culprit, End((), (), (note,), index))
        first, rest = predicted, ()
    else:
        return End(notes=("no exception was recorded",))
    registers = first.step.registers
    assert registers is not None  # every first step has them
    derived = _delivered(machine, index, registers, first)
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
    end = End(steps, tuple(found), notes, index)
    return _with_state(machine, culprit, end)


def _delivered(
    machine: Machine, index: Optional[int], registers: Registers, first: fault.First
) -> delivery.Propagation:
    """What the delivery of the first exception or interrupt raises, by the rules."""
    return delivery.propagate(
        machine, index, registers, first.vector, first.interrupt, first.software
    )


def _nested(
    machine: Machine,
    index: Optional[int],
    nest: recursion.Recursion,
    events: tuple[ExceptionEvent, ...],
) -> End:
    """A handler that faults itself: what began it, what was repeated, and how it ended.

    The end overwrote more than it tells: of its findings none is kept.
    """
    first = fault.from_event(machine, index, nest.first)
    again = Step(index, nest.finding.vector, nest.finding.sentences()[0], rip=nest.finding.rip)
    last = fault.from_event(machine, index, events[0]).step
    steps = (first.step, again, last, *delivery.observed_steps(machine, events[1:]))
    status = compare.idt_status(index, nest.first.registers)
    found = (*first.findings, nest.finding, *((status,) if status is not None else ()))
    return End(_ends_in_shutdown(steps), found, first.notes, index)


def _embedded(first: fault.First) -> tuple[Finding, ...]:
    """A first exception that already is a failed delivery has it among its findings."""
    return tuple(f for f in first.findings if isinstance(f, DeliveryFailed))


def _ends_in_shutdown(steps: tuple[Step, ...]) -> tuple[Step, ...]:
    last = steps[-1]
    if "shutdown" in last.headline:
        return steps
    return (*steps[:-1], replace(last, headline=f"{last.headline} → shutdown"))


def _with_state(machine: Machine, culprit: Optional[Cpu], end: End) -> End:
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


def _reported(machine: Machine, cpu: Optional[Cpu]) -> End:
    """An exception that the kernel's own handler took and did not survive."""
    events = observed.normal(chain.last_chain(machine, cpu))
    if not events:
        return End(cpu=cpu.index if cpu is not None else None)
    index = cpu.index if cpu is not None else events[0].cpu
    nest = recursion.find(machine, chain.events_of(machine, cpu), events[0])
    if nest is not None and nest.finding.times >= _STORM:
        first = fault.from_event(machine, index, nest.first)
        again = Step(index, nest.finding.vector, nest.finding.sentences()[0], rip=nest.finding.rip)
        found = (*first.findings, nest.finding)
        return End((first.step, again), found, first.notes, index)
    first = fault.from_event(machine, index, events[0])
    steps = (first.step, *delivery.observed_steps(machine, events[1:]))
    failed: tuple[Finding, ...] = observed.failures(events)
    then = first.step.registers
    if first.software and failed and then is not None:
        derived = _delivered(machine, index, then, first)
        if derived.raised[1:2] == (events[1].vector,):
            failed, steps = derived.findings[:1], (first.step, *derived.steps[:1])
    end = End(steps, first.findings + failed, first.notes, index)
    return _with_state(machine, machine.cpu(index), end)
