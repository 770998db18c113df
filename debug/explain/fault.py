# SPDX-License-Identifier: BSD-2-Clause
"""The first exception of the final chain: what the CPU did, and which rule refused it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Optional

from debug.evidence import Cpu, Ending, EventKind, ExceptionEvent, Registers
from debug.explain import chain, handlers
from debug.explain import page_fault as paging
from debug.explain import table_shape
from debug.explain.code import instruction_at, instruction_before
from debug.explain.context import Machine
from debug.explain.divide import divide_error
from debug.explain.findings import Disagreement, FatalException, PageFault, Role
from debug.explain.interrupted import frame_of
from debug.explain.model import EMULATOR_SAYS, Finding, Step
from debug.explain.opcode import invalid_opcode
from debug.explain.selector_fault import general_fault
from debug.x86.descriptors import Gate
from debug.x86.exceptions import DE, GP, NM, NP, PF, SS, TS, UD, PageFaultCode, describe_error_code
from debug.x86.exceptions import vector as vector_row
from debug.x86.instruction import Instruction
from debug.x86.instruction_checks import check_fetch, check_instruction
from debug.x86.modes import Mode, code_width, mode_of
from debug.x86.refusals import Refusal, Undecided
from debug.x86.tables import gate_entry


@dataclass(frozen=True)
class First:
    """The exception that began the end, explained."""

    step: Step
    findings: tuple[Finding, ...]
    notes: tuple[str, ...] = ()
    interrupt: bool = False  # an interrupt, not an exception
    software: bool = False  # of those, an INT n

    @property
    def vector(self) -> int:
        return self.step.vector


def predict(machine: Machine, registers: Registers) -> Optional[Refusal]:
    """What the rules raise for the instruction that a CPU stands on; None: nothing, or unknown."""
    memory = machine.linear(registers)
    verdict = check_fetch(memory)
    if verdict is None or isinstance(verdict, Undecided):
        instruction = instruction_at(machine, registers)
        if instruction is None:
            return None
        if verdict is None:
            verdict = check_fetch(memory, instruction.length)
        # Where the tables can't be read and the bytes are known, the emulator has fetched them.
        if verdict is None or isinstance(verdict, Undecided):
            verdict = check_instruction(memory, instruction)
    return verdict if isinstance(verdict, Refusal) else None


def from_event(machine: Machine, cpu: Optional[int], event: ExceptionEvent) -> First:
    """An observed exception or interrupt, explained."""
    registers = event.registers
    told = machine.cpu(cpu)
    within = _interrupted(machine, told, event)
    if within is not None:
        registers = within
    elif told is not None and not _went_on(machine, told, event):
        if registers.rip is not None or not _executed_since(machine, event):
            registers = _at_instruction(machine, event, _completed(registers, told.registers))
    if event.kind is not EventKind.EXCEPTION:
        return _interrupt(machine, cpu, registers, event)
    cr2 = event.cr2 if event.cr2 is not None else registers.get("cr2")
    verdict = predict(machine, registers)
    found = _explain(machine, cpu, registers, event.vector, event.error_code, cr2, verdict)
    notes = _disagreement(cpu, event, verdict)
    reason = (f'{EMULATOR_SAYS} "{event.reason}"',) if event.reason else ()
    step = replace(found.step, details=found.step.details + reason)
    return First(step, found.findings + notes)


def _at_instruction(machine: Machine, event: ExceptionEvent, registers: Registers) -> Registers:
    """Bochs logs the address behind an instruction whose access to data faults.

    Where no symbol tells the instruction before it, what is known of that moment is the address.
    """
    alone = not event.registers.control and not event.registers.segments
    if not alone or event.vector != PF or registers.rip is None:
        return registers
    if registers.rip != event.registers.rip or event.cr2 in (None, registers.rip):
        return registers
    if not machine.has_memory:
        return registers  # no instruction can be read
    start = instruction_before(machine, registers)
    return event.registers if start is None else replace(registers, rip=start)


def _went_on(machine: Machine, cpu: Cpu, event: ExceptionEvent) -> bool:
    """Whether a CPU that lives stands elsewhere than where this event without registers came."""
    if cpu.shutdown or event.registers.rip is not None or chain.died(machine):
        return False
    if machine.evidence.ending is not Ending.STOPPED:
        return False
    refusal = predict(machine, cpu.registers)
    return bool(cpu.halted) and (refusal is None or refusal.vector != event.vector)


def _interrupted(
    machine: Machine, cpu: Optional[Cpu], event: ExceptionEvent
) -> Optional[Registers]:
    """Of an event without registers, the last one of a CPU that stands still in its handler: those
    that the frame on the stack tells, with the error code, or an instruction that raises the same.
    """
    if cpu is None or event.registers.rip is not None or event.kind is not EventKind.EXCEPTION:
        return None
    own = [e for e in machine.last_events if e.cpu == cpu.index]
    now = cpu.registers
    frame = frame_of(machine, now) if own and own[-1] is event and not cpu.shutdown else None
    code, width = now.segments.get("cs"), code_width(now)
    if frame is None or code is None or frame.cs != code.selector or width not in (32, 64):
        return None
    size = width // 8
    below = machine.linear(now).read(frame.at - size, size)
    if vector_row(event.vector).error_code:
        if below is None or int.from_bytes(below, "little") != event.error_code:
            return None
    rsp = frame.at + 3 * size
    if width == 64:
        data = machine.linear(now).read(rsp, size)
        if data is None:
            return None
        rsp = int.from_bytes(data, "little")
    same = _is_bare(machine, now, event.vector)
    general = {**(now.general if same else {}), "rsp": rsp}
    control = {name: value for name, value in now.control.items() if name != "cr2"}
    then = replace(now, rip=frame.rip, rflags=frame.rflags, general=general, control=control)
    if not vector_row(event.vector).error_code:
        refusal = predict(machine, then)
        return then if refusal is not None and refusal.vector == event.vector else None
    return then


_BARE = 8  # bytes of a handler that does nothing but halt


def _is_bare(machine: Machine, registers: Registers, number: int) -> bool:
    """Whether the CPU stands right behind the entry of the handler, with the registers of then."""
    entry, at = gate_entry(machine.linear(registers), registers, number), machine.pc(registers)
    gate = entry.descriptor if entry is not None else None
    offset = gate.offset if isinstance(gate, Gate) else None
    return offset is not None and at is not None and 0 <= at - offset <= _BARE


def _executed_since(machine: Machine, event: ExceptionEvent) -> bool:
    """Whether the CPU took other exceptions at a later tick: its registers are not those of then."""
    if event.tick is None or event.cpu is None:
        return False
    later = (e.tick for e in machine.last_events if e.cpu == event.cpu and e.tick is not None)
    return any(tick > event.tick for tick in later)


def _completed(then: Registers, now: Registers) -> Registers:
    """The registers at an event, with what only the later read-out of the same CPU knows.

    A fault in real mode comes without registers at all.  A CPU that stands where it faulted has
    executed nothing since: its table registers, segments and control registers are those of then
    (CR2 excepted).
    """
    if then.rip is None:
        return now
    alone = not then.control and not then.segments and then.rip != now.rip
    if alone and mode_of(now) is Mode.LONG64:
        # Only the address is known: it is a kernel's, which keeps its mode and its tables.
        now = replace(now, rip=then.rip, rflags=None, general={})
    if not chain.same_place(then, now):
        return then
    control = {name: value for name, value in now.control.items() if name != "cr2"}
    return replace(
        then,
        rflags=then.rflags if then.rflags is not None else now.rflags,
        general={**now.general, **then.general},
        control={**control, **then.control},
        segments={**then.segments, **now.segments},  # a log may leave bits out, such as L
        gdtr=then.gdtr or now.gdtr,
        idtr=then.idtr or now.idtr,
        cpl=then.cpl if then.cpl is not None else now.cpl,
    )


def from_registers(machine: Machine, cpu: int, registers: Registers) -> Optional[First]:
    """The exception that the rules raise where a CPU stands, when none was observed."""
    verdict = predict(machine, registers)
    if verdict is None:
        return None
    cr2 = verdict.cr2
    found = _explain(
        machine, cpu, registers, verdict.vector, verdict.error_code, cr2, verdict, derived=True
    )
    return First(found.step, found.findings, found.notes)


def _explain(
    machine: Machine,
    cpu: Optional[int],
    registers: Registers,
    vector: int,
    error_code: Optional[int],
    cr2: Optional[int],
    verdict: Optional[Refusal],
    derived: bool = False,
) -> First:
    instruction = instruction_at(machine, registers)
    agreed = verdict if verdict is not None and verdict.vector == vector else None
    rip = machine.pc(registers)
    fatal = FatalException(cpu, vector, error_code, rip, mode_of(registers).value)
    findings: tuple[Finding, ...] = ()
    words = _generic(vector, error_code)
    details: tuple[str, ...] = ()
    if vector == PF and cr2 is not None:
        fault = paging.page_fault(machine, cpu, registers, cr2, error_code, instruction, derived)
        findings = (fault, *table_shape.findings(machine, cpu, registers, fault))
        words, details = paging.headline(fault), paging.details(fault)
    elif vector in (GP, NP, SS, TS):
        findings = general_fault(machine, cpu, registers, vector, error_code, instruction, agreed)
        if findings:
            first, *rest = findings[0].sentences()
            words, details = f"{words.split(':')[0]}: {first}", tuple(rest)
        elif agreed is not None:
            words = f"{words.split(':')[0]}: {agreed.sentence}"
    elif vector in (UD, NM):
        invalid = invalid_opcode(machine, cpu, registers, vector, instruction, agreed)
        findings, words = (invalid,), f"{words}: {invalid.sentence}"
    elif vector == DE:
        divided = divide_error(machine, cpu, registers, instruction)
        if divided is not None:
            findings, words = (divided,), f"{words}: {divided.sentence}"
    findings += paging.long_mode_missing(machine, cpu, registers)
    findings += handlers.findings(machine, cpu, registers, vector, cr2, instruction)
    step = Step(
        cpu,
        vector,
        words,
        error_code,
        rip,
        machine.where(rip),
        _text(machine, instruction, findings),
        details,
        observed=not derived,
        registers=registers,
    )
    return First(step, (fatal, *findings))


def _generic(vector: int, error_code: Optional[int]) -> str:
    row = vector_row(vector)
    code = f"({error_code:#x})" if error_code is not None and row.error_code else ""
    said = describe_error_code(vector, error_code)
    return f"{row.mnemonic}{code}" + (f": {said}" if said else f" {row.name}")


def _text(
    machine: Machine, instruction: Optional[Instruction], findings: tuple[Finding, ...]
) -> str:
    """The instruction, unless it is the fetch itself that failed."""
    fetch = any(isinstance(f, PageFault) and f.role is Role.FETCH for f in findings)
    return instruction.text if instruction is not None and not fetch else ""


def _interrupt(
    machine: Machine, cpu: Optional[int], registers: Registers, event: ExceptionEvent
) -> First:
    software = event.kind is EventKind.SOFTWARE_INTERRUPT
    kind = "software interrupt" if software else "interrupt"
    rip = machine.pc(registers)
    step = Step(
        cpu,
        event.vector,
        f"{kind} {event.vector:#04x} arrived",
        event.error_code,
        rip,
        machine.where(rip),
        registers=registers,
    )
    fatal = FatalException(cpu, event.vector, None, rip, mode_of(registers).value)
    return First(step, (fatal,), interrupt=True, software=software)


_RESERVED = int(PageFaultCode.RSVD)


def _disagreement(
    cpu: Optional[int], event: ExceptionEvent, verdict: Optional[Refusal]
) -> tuple[Finding, ...]:
    """Where hardware raises something else for the same instruction.

    A page fault's P bit is not compared when RSVD is set: one emulator leaves it out.
    """
    if verdict is None or event.vector == 1:
        return ()
    mine, its = vector_row(verdict.vector), vector_row(event.vector)
    if verdict.vector != event.vector:
        sentence = (
            f"the emulator raised {its.mnemonic}; by the rules it is {verdict.raises}:"
            f" {verdict.sentence}"
        )
        return (Disagreement(cpu, sentence),)
    code = event.error_code
    if code is not None and verdict.error_code is not None and code != verdict.error_code:
        same = event.vector == PF and code & _RESERVED and (code ^ verdict.error_code) == 1
        if same:
            sentence = f"the emulator's error code {code:#x} lacks P; hardware gives"
            return (Disagreement(cpu, f"{sentence} {verdict.error_code:#x}"),)
        sentence = (
            f"the emulator's error code is {code:#x}; by the rules {mine.mnemonic} has"
            f" {verdict.error_code:#x}: {verdict.sentence}"
        )
        return (Disagreement(cpu, sentence),)
    return ()
