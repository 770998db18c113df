# SPDX-License-Identifier: BSD-2-Clause
"""Which CPU ended the machine, and which of its exceptions belong to the end."""

from __future__ import annotations

from dataclasses import replace
from typing import Optional

from debug.evidence import Cpu, Ending, EventKind, ExceptionEvent, Registers
from debug.explain.code import in_wait_loop
from debug.explain.context import Machine
from debug.explain.interrupted import in_handler
from debug.explain.waiting import loop_body
from debug.x86.exceptions import DF, GP, NM, NMI, NP, PF, SS, TS
from debug.x86.instruction import Kind
from debug.x86.registers import Rflags

_MAX_CHAIN = 6
_MENDED = (NM, PF)  # what handlers mend, and go on; of others one may have left its frame behind


def died(machine: Machine) -> bool:
    """Whether a CPU shut down."""
    evidence = machine.evidence
    return (
        evidence.ending is Ending.TRIPLE_FAULT
        or any(cpu.shutdown for cpu in machine.cpus)
        or any(event.kind is EventKind.TRIPLE_FAULT for event in machine.last_events[-1:])
    )


def culprit(machine: Machine) -> Optional[Cpu]:
    """The CPU that shut down: as the source says, else by its registers; never assumed."""
    told = [cpu for cpu in machine.cpus if cpu.shutdown]
    if told:
        return told[0]
    for event in reversed(machine.last_events):
        if event.kind in (EventKind.TRIPLE_FAULT, EventKind.EXCEPTION):
            found = machine.cpu(event.cpu) if event.cpu is not None else None
            if found is not None:
                return found
            alike = [cpu for cpu in machine.cpus if same_place(cpu.registers, event.registers)]
            if len(alike) == 1:
                return alike[0]
            if event.kind is EventKind.EXCEPTION:
                break
    return machine.cpus[0] if len(machine.cpus) == 1 else None


def same_place(one: Registers, other: Registers) -> bool:
    """Whether two sets of registers are those of one CPU that went nowhere in between.

    An exception that can't be delivered changes CR2 and nothing else.
    """
    if one.rip is None or one.rip != other.rip:
        return False
    for name in ("rsp", "cr3"):
        mine, its = one.get(name), other.get(name)
        if mine is not None and its is not None and mine != its:
            return False
    mine_cs, its_cs = one.segments.get("cs"), other.segments.get("cs")
    return mine_cs is None or its_cs is None or mine_cs.selector == its_cs.selector


def events_of(machine: Machine, cpu: Optional[Cpu]) -> list[ExceptionEvent]:
    """The exceptions and interrupts of one CPU, and those that nobody is named for."""
    if cpu is None:
        return list(machine.last_events)
    return [event for event in machine.last_events if event.cpu in (None, cpu.index)]


def final_chain(events: list[ExceptionEvent]) -> tuple[ExceptionEvent, ...]:
    """The last exceptions that belong together: each raised while the one before it was delivered.

    Without the emulator's word for it (`while_delivering`), two belong together when nothing but
    CR2 changed between them.  A trailing triple-fault mark is left out.
    """
    rest = [event for event in events if event.kind is not EventKind.TRIPLE_FAULT]
    chain: list[ExceptionEvent] = []
    while rest and len(chain) < _MAX_CHAIN:
        event = rest.pop()
        if chain and not _leads_to(event, chain[0]):
            break
        chain.insert(0, event)
        if event.while_delivering == -1:
            break
    return tuple(chain)


def _leads_to(first: ExceptionEvent, second: ExceptionEvent) -> bool:
    if second.while_delivering == -1 or first.vector == DF and second.vector == DF:
        return False
    if first.kind is EventKind.EXCEPTION and first.vector == NMI:
        return False
    if second.kind is not EventKind.EXCEPTION:
        return False  # an instruction that executes, or an interrupt that could be delivered
    if first.kind is EventKind.HARDWARE_INTERRUPT and not _names(second, first.vector):
        return _refuses(first, second)
    known = first.registers.rip is not None and second.registers.rip is not None
    if known and not same_place(first.registers, second.registers):
        return False
    if second.while_delivering is not None:
        return second.while_delivering == first.vector or second.vector == DF
    if not known:
        return first.cpu == second.cpu and second.vector == DF
    same = first.vector == second.vector and first.cr2 == second.cr2
    # The very same fault again was delivered, and retried.
    return not (same and first.error_code == second.error_code)


def _refuses(first: ExceptionEvent, second: ExceptionEvent) -> bool:
    """Whether an exception names a selector that only the gate of `first` can have brought.

    Nothing was executed in between, and no register holds the selector to load it from.
    """
    if second.vector not in (GP, NP) or second.while_delivering not in (-1, None):
        return False
    selector, then = (second.error_code or 0) & 0xFFFC, first.registers
    if not selector or second.error_code is None or second.error_code & 2:
        return False
    if (
        then.rip is None
        or not then.general
        or replace(then, control={}) != replace(second.registers, control={})
    ):
        return False
    return all(value & 0xFFFF not in (selector, selector | 3) for value in then.general.values())


def _names(event: ExceptionEvent, vector: int) -> bool:
    """Whether an exception can come from the failed delivery of interrupt `vector`.

    Where the error code names a gate it must be that one's.
    """
    if event.vector not in (GP, NP):
        return event.vector in (DF, TS, SS, PF)
    code = event.error_code or 0
    return bool(code & 2) and code & ~7 in (vector * 8, vector * 16)


def last_chain(machine: Machine, cpu: Optional[Cpu]) -> tuple[ExceptionEvent, ...]:
    """The last exceptions (no interrupt, no NMI) of a CPU that belong together."""
    events = events_of(machine, cpu)
    while events and not _is_fault(events[-1]):
        events.pop()
    return final_chain(events)


def halted_after_exception(machine: Machine) -> Optional[Cpu]:
    """A CPU that halts for good, or jumps to itself, since its last exception.

    Its handler was reached and gave up: what was raised is the reason.  One of a program must still
    be on the stack: a kernel ends such a program, and goes on.
    """
    for cpu in machine.cpus:
        masked = not (cpu.registers.rflags or 0) & Rflags.IF
        own = [event for event in machine.last_events if event.cpu == cpu.index]
        if masked and own and _is_fault(own[-1]):
            within = _in_another_task(cpu.registers, own[-1].registers) or in_handler(
                machine, cpu.registers, own[-1].registers
            )
            if within is False and own[-1].vector in _MENDED:
                continue  # it was handled: why the CPU halts is another matter
            if within is not True and own[-1].registers.cpl not in (0, None):
                continue
            if (
                cpu.halted
                or in_wait_loop(machine, cpu.registers)[1]
                or within
                and _spins(machine, cpu)
            ):
                return cpu
    return None


def _spins(machine: Machine, cpu: Cpu) -> bool:
    """Whether a CPU stays in a loop that reads nothing: `for (;;)` with something in it."""
    body = loop_body(machine, cpu.registers)
    calm = (Kind.PAUSE, Kind.HALT, Kind.NEAR_JUMP)
    return bool(body) and all(one.kind in calm or one.mnemonic in ("cli", "nop") for one in body)


def _in_another_task(now: Registers, then: Registers) -> bool:
    """Whether a task gate led to where a CPU is: it pushes no frame, and loads TR."""
    task, former = now.segments.get("tr"), then.segments.get("tr")
    if task is None or former is None:
        return False
    return former.selector != task.selector and all(t.selector & 0xFFFC for t in (former, task))


def _is_fault(event: ExceptionEvent) -> bool:
    return event.kind is EventKind.EXCEPTION and event.vector < 32 and event.vector != NMI
