# SPDX-License-Identifier: BSD-2-Clause
"""The moment at which a CPU's end began, as far as a log without memory shows it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Iterator, Optional

from debug.evidence import GENERAL, Cpu, EventKind, ExceptionEvent, Registers
from debug.explain import chain, uefi_report
from debug.explain.context import Machine
from debug.explain.observed import refused_gate
from debug.x86.exceptions import INNOCENT, PF
from debug.x86.modes import Mode, mode_of, privilege, stack_width
from debug.x86.registers import Cr0

_BEFORE = 64  # earlier events that are looked at
PAGE = 4096


@dataclass(frozen=True)
class Moment:
    """One CPU when the first exception of its last chain was raised.

    `delivering`: the interrupt, INT n or trap at the same place whose delivery raised `vector`.
    `first`: the exception was recorded; else only the one that nothing could resolve is known, and
    `address` is that of the last access.
    """

    cpu: Optional[int]
    registers: Registers
    vector: Optional[int] = None
    error_code: Optional[int] = None
    address: Optional[int] = None  # CR2, of a page fault
    delivering: Optional[int] = None
    first: bool = True
    died: bool = False
    before: tuple[ExceptionEvent, ...] = ()  # earlier events of this CPU, the newest last
    words: tuple[str, ...] = ()  # what the emulator said, in order
    refused: Optional[int] = None  # the gate that the error code of what followed refuses

    def get(self, name: str) -> Optional[int]:
        """A register of that moment."""
        return self.registers.get(name)

    @property
    def cpl(self) -> Optional[int]:
        return privilege(self.registers)

    @property
    def mode(self) -> Mode:
        return mode_of(self.registers)

    @property
    def paging(self) -> bool:
        return bool((self.get("cr0") or 0) & Cr0.PG)

    @property
    def page_fault(self) -> bool:
        return self.vector == PF and self.address is not None

    def error(self, bit: int) -> Optional[bool]:
        """A bit of the error code; None where it is not known."""
        return None if self.error_code is None else bool(self.error_code & bit)

    @property
    def fetch(self) -> bool:
        """The faulting address is the instruction pointer's."""
        code = self.registers.segments.get("cs")
        rip = self.get("rip")
        if rip is None or not self.page_fault:
            return False
        base = code.base if code is not None and self.mode is not Mode.LONG64 else 0
        return self.address == (base + rip) & self.mask

    @property
    def mask(self) -> int:
        """The width of a linear address as a mask."""
        return (1 << 64) - 1 if self.mode is Mode.LONG64 else (1 << 32) - 1

    @property
    def slot(self) -> int:
        """Bytes of one push."""
        return (stack_width(self.registers) or 32) // 8

    def general(self) -> Iterator[tuple[str, int]]:
        """The general registers that are known, RSP apart."""
        for name in GENERAL:
            value = self.registers.general.get(name)
            if value is not None and name != "rsp":
                yield name, value

    def shown(self, name: str) -> str:
        """A register's name as the CPU's mode calls it: EAX, RAX."""
        wide = self.mode is Mode.LONG64 or name[1:].isdigit()
        return name.upper() if wide else "E" + name[1:].upper()


def moment(machine: Machine, culprit: Optional[Cpu]) -> Optional[Moment]:
    """The moment of the CPU that died, or of the last exception; None where nothing is known."""
    events = chain.events_of(machine, culprit)
    links = chain.final_chain(events)
    died = _ended(machine)
    if links:
        rest = events[: next(n for n, event in enumerate(events) if event is links[0])]
        return _recorded(machine, culprit, links, tuple(rest[-_BEFORE:]), _words(events))
    last = events[-1] if events else None
    cpu = culprit if culprit is not None else _only(machine)
    if last is not None:
        cpu = cpu if cpu is not None else machine.cpu(last.cpu)
        known = last.registers if last.registers.rip is not None else None
        registers = known or (cpu.registers if cpu is not None else Registers())
        index = cpu.index if cpu is not None else last.cpu
        address = registers.get("cr2") if last.vector == PF else None
        words = (last.reason,) if last.reason else ()
        return Moment(
            index, registers, last.vector, last.error_code, address, None, False, died, (), words
        )
    if cpu is None or cpu.registers.rip is None:
        return None
    return Moment(cpu.index, cpu.registers, first=False, died=died)


def _ended(machine: Machine) -> bool:
    """Whether a CPU did not survive what it raised: it shut down, or the firmware stopped it."""
    return chain.died(machine) or uefi_report.printed(machine.evidence.console) is not None


def _only(machine: Machine) -> Optional[Cpu]:
    """The one CPU whose registers a log shows."""
    known = [cpu for cpu in machine.cpus if cpu.registers.rip is not None]
    dumped = [cpu for cpu in known if cpu.registers.segments]
    return dumped[0] if len(dumped) == 1 and not dumped[0].halted else None


def _recorded(
    machine: Machine,
    culprit: Optional[Cpu],
    links: tuple[ExceptionEvent, ...],
    before: tuple[ExceptionEvent, ...],
    words: tuple[str, ...],
) -> Moment:
    first, delivering = links[0], None
    harmless = first.kind is not EventKind.EXCEPTION or first.vector in INNOCENT
    if harmless and len(links) > 1:
        delivering, first = first.vector, links[1]
    cpu = culprit if culprit is not None else machine.cpu(first.cpu)
    registers = first.registers
    if registers.rip is None and cpu is not None:
        registers = cpu.registers
    cr2 = first.cr2
    if cr2 is None and first.vector == PF:
        cr2 = registers.get("cr2")
    return Moment(
        cpu.index if cpu is not None else first.cpu,
        registers,
        first.vector,
        first.error_code,
        cr2 if first.vector == PF else None,
        delivering,
        first.kind is EventKind.EXCEPTION,
        _ended(machine),
        before,
        words,
        _refused(first, links[links.index(first) + 1 :]),
    )


def _refused(first: ExceptionEvent, rest: tuple[ExceptionEvent, ...]) -> Optional[int]:
    code = rest[0].error_code if rest else None
    return None if code is None else refused_gate(first, rest[0])


def _words(events: list[ExceptionEvent]) -> tuple[str, ...]:
    """What the emulator said at the last tick, in order."""
    last = events[-1]
    if last.tick is None:
        return ()
    at_end = [event for event in events[-_BEFORE:] if event.tick == last.tick]
    return tuple(event.reason for event in at_end if event.reason)
