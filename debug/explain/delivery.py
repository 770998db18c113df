# SPDX-License-Identifier: BSD-2-Clause
"""Why an exception could not be delivered, and so on to the shutdown.

The chain is derived from the architecture, exception by exception
[SDM 3A "Interrupt 8—Double Fault Exception"], and then held against what was observed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

from debug.evidence import ExceptionEvent, Registers
from debug.explain.context import Machine
from debug.explain.findings import DeliveryFailed, Disagreement
from debug.explain.model import Finding, Step
from debug.x86.delivery import Delivery, deliver
from debug.x86.exceptions import DF, PF, Combination, combine, describe_error_code, vector

_MAX_STEPS = 6  # benign, contributory, #DF, shutdown: no chain is longer


@dataclass(frozen=True)
class Propagation:
    """What follows from one exception or interrupt."""

    steps: tuple[Step, ...] = ()
    findings: tuple[Finding, ...] = ()
    notes: tuple[str, ...] = ()
    shutdown: bool = False  # the rules lead to shutdown
    handler: Optional[int] = None  # the rules enter this handler (linear address)
    raised: tuple[int, ...] = ()  # every vector that the rules raise on the way


def propagate(
    machine: Machine,
    cpu: Optional[int],
    registers: Registers,
    first: int,
    interrupt: bool = False,
    software: bool = False,
) -> Propagation:
    """Deliver vector `first` with `registers`, and what that raises, to the end.

    `interrupt`: it is no exception.  `software`: it is an INT n.
    """
    memory = machine.linear(registers)
    steps: list[Step] = []
    findings: list[Finding] = []
    raised = [first]
    number, exceptions = first, not interrupt
    for _ in range(_MAX_STEPS):
        if not 0 <= number <= 255:
            break
        attempt = deliver(memory, number, software=software and not exceptions)
        if attempt.entered:
            return Propagation(
                tuple(steps), tuple(findings), (), False, attempt.handler, tuple(raised)
            )
        if attempt.refusal is None:
            note = f"whether {vector(number)} can be delivered is not known: {attempt.undecided}"
            return Propagation(tuple(steps), tuple(findings), (note,), raised=tuple(raised))
        refusal = attempt.refusal
        raised.append(refusal.vector)
        outcome = combine(number, refusal.vector, exceptions)
        after = {
            Combination.SHUTDOWN: "shutdown",
            Combination.DOUBLE_FAULT: "#DF",
            Combination.SERIAL: refusal.raises,
        }[outcome]
        findings.append(_finding(cpu, attempt, registers, not exceptions))
        steps.append(_step(machine, cpu, attempt, registers, f" → {after}"))
        if outcome is Combination.SHUTDOWN:
            return Propagation(tuple(steps), tuple(findings), (), True, None, tuple(raised))
        number = DF if outcome is Combination.DOUBLE_FAULT else refusal.vector
        exceptions = True
        raised.append(number)
    return Propagation(tuple(steps), tuple(findings), raised=tuple(raised))


def _finding(
    cpu: Optional[int], attempt: Delivery, registers: Registers, interrupt: bool
) -> DeliveryFailed:
    refusal, idtr = attempt.refusal, registers.idtr
    assert refusal is not None
    return DeliveryFailed(
        cpu,
        attempt.vector,
        refusal.check,
        f"{vector(attempt.vector)} could not be delivered: {refusal.sentence}",
        refusal.vector,
        idtr.base if idtr is not None else None,
        idtr.limit if idtr is not None else None,
        refusal.cr2,
        interrupt,
        attempt.stack.origin if attempt.stack is not None else "",
    )


def _step(
    machine: Machine, cpu: Optional[int], attempt: Delivery, registers: Registers, after: str
) -> Step:
    refusal = attempt.refusal
    assert refusal is not None
    details = []
    if refusal.walk is not None and refusal.walk.fault is not None:
        cr3 = registers.get("cr3")
        if cr3 is not None:
            details.append(f"CR3 {cr3:#x} → {refusal.walk.fault.sentence}")
    return Step(
        cpu,
        attempt.vector,
        f"{vector(attempt.vector)} could not be delivered: {refusal.sentence}{after}",
        None,
        machine.pc(registers),
        details=tuple(details),
        observed=False,
        delivery=True,
        registers=registers,
    )


def observed_steps(machine: Machine, events: tuple[ExceptionEvent, ...]) -> tuple[Step, ...]:
    """What followed in the emulator's own words, where the rules could not be followed."""
    steps = []
    for event in events:
        code = describe_error_code(event.vector, event.error_code)
        words = f": {code}" if code else ""
        if event.vector == PF and event.cr2 is not None:
            words = f" at {event.cr2:#x}{words}"
        reason = f" ({event.reason})" if event.reason else ""
        steps.append(
            Step(
                event.cpu,
                event.vector,
                f"{vector(event.vector)} followed{words}{reason}",
                event.error_code,
                machine.pc(event.registers),
                delivery=True,
                registers=event.registers,
            )
        )
    return tuple(steps)


def compare(
    cpu: Optional[int], derived: Propagation, events: tuple[ExceptionEvent, ...], died: bool
) -> tuple[Disagreement, ...]:
    """Where the emulator's report and the rules differ.  `events` are those after the first."""
    if died and derived.handler is not None:
        sentence = (
            f"by the rules and the memory that was left, the handler at {derived.handler:#x} could"
            " be entered; memory may have changed since, or the handler faulted again"
        )
        return (Disagreement(cpu, sentence),)
    for event in events:
        if derived.shutdown and event.vector not in derived.raised:
            expected = ", ".join(str(vector(v)) for v in derived.raised[1:4])
            sentence = f"the emulator reports {vector(event.vector)} next; by the rules {expected}"
            return (Disagreement(cpu, sentence),)
    return ()
