# SPDX-License-Identifier: BSD-2-Clause
"""The exception vectors, how two of them combine, and what their error codes say.

[SDM 3A "Protected-Mode Exceptions and Interrupts", "Interrupt 8—Double Fault Exception",
"Error Code", "Interrupt 14—Page-Fault Exception"]
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, IntFlag
from typing import Optional


class Class(Enum):
    """What the saved instruction pointer means."""

    FAULT = "fault"  # RIP is the instruction that faulted
    TRAP = "trap"  # RIP is the instruction after it
    ABORT = "abort"  # RIP is not reliable
    INTERRUPT = "interrupt"
    FAULT_OR_TRAP = "fault or trap"  # #DB, by its DR6 condition


class Severity(Enum):
    """The classes of the double-fault table."""

    BENIGN = "benign"
    CONTRIBUTORY = "contributory"
    PAGE_FAULT = "page fault"
    DOUBLE_FAULT = "double fault"


class Combination(Enum):
    """What a second event during the delivery of a first one leads to."""

    SERIAL = "handled one after the other"
    DOUBLE_FAULT = "double fault"
    SHUTDOWN = "shutdown"


@dataclass(frozen=True)
class Vector:
    """One vector of the IDT."""

    number: int
    mnemonic: str  # "#PF"; "interrupt 0x20" from 32 on
    name: str
    kind: Class
    severity: Severity
    error_code: bool

    def __str__(self) -> str:
        return self.mnemonic


def _table() -> tuple[Vector, ...]:
    fault, trap, abort = Class.FAULT, Class.TRAP, Class.ABORT
    benign, contributory = Severity.BENIGN, Severity.CONTRIBUTORY
    rows: dict[int, tuple[str, str, Class, Severity, bool]] = {
        0: ("#DE", "divide error", fault, contributory, False),
        1: ("#DB", "debug exception", Class.FAULT_OR_TRAP, benign, False),
        2: ("NMI", "non-maskable interrupt", Class.INTERRUPT, benign, False),
        3: ("#BP", "breakpoint", trap, benign, False),
        4: ("#OF", "overflow", trap, benign, False),
        5: ("#BR", "BOUND range exceeded", fault, benign, False),
        6: ("#UD", "invalid opcode", fault, benign, False),
        7: ("#NM", "device not available", fault, benign, False),
        8: ("#DF", "double fault", abort, Severity.DOUBLE_FAULT, True),
        9: ("vector 9", "coprocessor segment overrun", abort, benign, False),
        10: ("#TS", "invalid TSS", fault, contributory, True),
        11: ("#NP", "segment not present", fault, contributory, True),
        12: ("#SS", "stack-segment fault", fault, contributory, True),
        13: ("#GP", "general protection", fault, contributory, True),
        14: ("#PF", "page fault", fault, Severity.PAGE_FAULT, True),
        16: ("#MF", "x87 floating-point error", fault, benign, False),
        17: ("#AC", "alignment check", fault, benign, True),
        18: ("#MC", "machine check", abort, benign, False),
        19: ("#XM", "SIMD floating-point exception", fault, benign, False),
        20: ("#VE", "virtualization exception", fault, Severity.PAGE_FAULT, False),
        21: ("#CP", "control protection exception", fault, contributory, True),
    }
    table = []
    for number in range(256):
        if number in rows:
            table.append(Vector(number, *rows[number]))
        elif number < 32:
            row = (f"vector {number}", "reserved vector", fault, benign, False)
            table.append(Vector(number, *row))
        else:
            name = "of a device, an IPI or an instruction"
            text = (f"interrupt {number:#04x}", name, Class.INTERRUPT, benign, False)
            table.append(Vector(number, *text))
    return tuple(table)


VECTORS = _table()

DE, DB, NMI, BP, OF, BR, UD, NM, DF = 0, 1, 2, 3, 4, 5, 6, 7, 8
TS, NP, SS, GP, PF, AC = 10, 11, 12, 13, 14, 17
INNOCENT = (DB, NMI, BP, OF)  # raised on purpose, or from outside


def vector(number: int) -> Vector:
    """The row of a vector; numbers outside 0 to 255 get one that says so."""
    if 0 <= number < len(VECTORS):
        return VECTORS[number]
    name = f"vector {number}"
    return Vector(number, name, "not a vector", Class.INTERRUPT, Severity.BENIGN, False)


def combine(first: int, second: int, exceptions: bool = True) -> Combination:
    """What `second`, raised while `first` was being delivered, leads to.

    Vectors 0 to 255.  `exceptions=False`: the first is an external or software interrupt, which is
    benign whatever its vector.  [SDM 3A "Conditions for Generating a Double Fault"]
    """
    before = vector(first).severity if exceptions else Severity.BENIGN
    after = vector(second).severity
    severe = after in (Severity.CONTRIBUTORY, Severity.PAGE_FAULT)
    if before is Severity.DOUBLE_FAULT and severe:
        return Combination.SHUTDOWN
    if before is Severity.PAGE_FAULT and severe:
        return Combination.DOUBLE_FAULT
    if before is Severity.CONTRIBUTORY and after is Severity.CONTRIBUTORY:
        return Combination.DOUBLE_FAULT
    return Combination.SERIAL


class PageFaultCode(IntFlag):
    """The error code of #PF."""

    P = 1 << 0
    W = 1 << 1
    U = 1 << 2
    RSVD = 1 << 3
    I = 1 << 4  # noqa: E741 - the manual's name is I/D
    PK = 1 << 5
    SS = 1 << 6
    HLAT = 1 << 7
    SGX = 1 << 15


def describe_page_fault(code: int) -> str:
    """A #PF error code in words: who did what, and whether the page was present."""
    bits = PageFaultCode(code)
    if bits & PageFaultCode.I:
        access = "instruction fetch"
    else:
        access = "write" if bits & PageFaultCode.W else "read"
    who = "user" if bits & PageFaultCode.U else "supervisor"
    if bits & PageFaultCode.RSVD:
        why = "a reserved bit is set in a paging entry"
    elif bits & PageFaultCode.PK:
        why = "the protection key forbids it"
    elif bits & PageFaultCode.SS:
        why = "shadow-stack rules forbid it"
    elif bits & PageFaultCode.SGX:
        why = "SGX access control forbids it"
    elif bits & PageFaultCode.P:
        why = "the page is present but does not allow it"
    else:
        why = "the page is not present"
    return f"{who} {access}: {why}"


@dataclass(frozen=True)
class SelectorCode:
    """The error code of #TS, #NP, #SS and #GP when it names a descriptor."""

    raw: int

    @property
    def external(self) -> bool:
        """EXT: raised while an event that the program did not ask for was being delivered."""
        return bool(self.raw & 1)

    @property
    def idt(self) -> bool:
        return bool(self.raw & 2)

    @property
    def ldt(self) -> bool:
        """TI, which only counts when the code names no gate."""
        return bool(self.raw & 4) and not self.idt

    @property
    def index(self) -> int:
        return self.raw >> 3 & 0x1FFF

    @property
    def selector(self) -> Optional[int]:
        """The selector with RPL 0; None when the code names a gate of the IDT."""
        return None if self.idt else self.raw & 0xFFFC

    def describe(self) -> str:
        """The code in words."""
        suffix = ", while another event was being delivered" if self.external else ""
        if self.idt:
            text = f"gate {self.index} of the IDT ({vector(self.index)})"
        elif self.raw & 0xFFFC == 0:
            text = "no descriptor is named"
        else:
            table = "LDT" if self.ldt else "GDT"
            text = f"{table} entry {self.index} (selector {self.raw & 0xFFFC:#06x})"
        return text + suffix


def describe_error_code(number: int, code: Optional[int]) -> str:
    """The error code of vector `number` in words; empty if the vector has none."""
    if code is None or not vector(number).error_code:
        return ""
    if number == PF:
        return describe_page_fault(code)
    if number in (TS, NP, SS, GP):
        return SelectorCode(code).describe()
    return "" if code == 0 else f"error code {code:#x}"


def gate_code(number: int, external: bool) -> int:
    """The error code that names IDT gate `number`."""
    return number << 3 | 2 | int(external)


def selector_code(selector: int, external: bool = False) -> int:
    """The error code that names `selector`."""
    return selector & 0xFFFC | int(external)
