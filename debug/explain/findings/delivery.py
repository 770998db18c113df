# SPDX-License-Identifier: BSD-2-Clause
"""Facts about why an exception could not be delivered."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Optional

from debug.explain.model import Finding
from debug.x86.refusals import Check


@dataclass(frozen=True)
class PicOnExceptions(Finding):
    """The PIC's lines have the vectors of exceptions, and the kernel takes its interrupts.

    `taken`: those of its vectors that came.
    """

    base: int
    lines: tuple[int, ...]  # not masked
    taken: tuple[int, ...]

    def sentences(self) -> tuple[str, ...]:
        irqs = ", ".join(map(str, self.lines))
        lines = [
            f"the PIC sends IRQ 0 as vector {self.base:#x}, as the BIOS left it, and"
            f" IRQ {irqs} {'is' if len(self.lines) == 1 else 'are'} not masked:"
            f" vectors {self.base:#x} to {self.base + 7:#x} are those of exceptions"
        ]
        for vector in self.taken:
            lines.append(f"IRQ {vector - self.base} was taken as vector {vector:#x}")
        return tuple(lines)


class IdtState(Enum):
    """What an IDT register says about who loaded it last."""

    NULL = "null"  # limit 0: loaded on purpose, or never
    RESET = "reset"  # base 0, limit ffff: as reset and INIT leave it
    IVT = "ivt"  # base 0, limit 3ff: the BIOS's real-mode vectors
    LOADED = "loaded"


@dataclass(frozen=True)
class IdtStatus(Finding):
    """The IDT register of a CPU that died or stopped."""

    state: IdtState
    base: int
    limit: int

    def sentences(self) -> tuple[str, ...]:
        words = {
            IdtState.NULL: "a null IDT: every exception is a triple fault",
            IdtState.RESET: "the IDT register is as reset left it: no lidt was executed",
            IdtState.IVT: "the IDT register still describes the BIOS's real-mode vectors",
            IdtState.LOADED: "an IDT was loaded",
        }
        if self.state is IdtState.NULL and self.base:
            return (
                f"IDT base {self.base:#x} limit {self.limit:#x}: a table was named, and no gate lies"
                " within its limit; LIDT takes the limit from the first two bytes of its operand",
            )
        return (f"IDT base {self.base:#x} limit {self.limit:#x}: {words[self.state]}",)


@dataclass(frozen=True)
class DeliveryFailed(Finding):
    """One exception or interrupt that could not be delivered.

    `check` is the first check that fails; None when none could be derived.
    """

    vector: int
    check: Optional[Check]
    sentence: str
    raises: Optional[int] = None  # the vector that the attempt itself raises
    idt_base: Optional[int] = None
    idt_limit: Optional[int] = None
    address: Optional[int] = None  # the address that could not be read or written
    interrupt: bool = False  # a hardware interrupt, not an exception
    stack: str = ""  # "RSP", "IST 1 of the TSS" …: where the frame was to go

    def sentences(self) -> tuple[str, ...]:
        return (self.sentence,)


@dataclass(frozen=True)
class IdtEmptied(Finding):
    """A LIDT of a null table stands right before the instruction that raised an exception."""

    lidt: int
    instruction: str

    def sentences(self) -> tuple[str, ...]:
        return (
            f"LIDT at {self.lidt:#x} has just loaded a null table, and `{self.instruction}` follows: so"
            " a machine is reset",
        )
