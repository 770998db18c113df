# SPDX-License-Identifier: BSD-2-Clause
"""Facts about handlers that a stack shows: the one that a CPU is in, or that it left wrongly."""

from __future__ import annotations

from dataclasses import dataclass

from debug.explain.model import Finding
from debug.x86.exceptions import vector


@dataclass(frozen=True)
class InHandler(Finding):
    """The frame of an exception or interrupt lies on the stack of a CPU with interrupts off."""

    rip: int  # of what was interrupted
    where: str
    instruction: str

    def sentences(self) -> tuple[str, ...]:
        what = f"`{self.instruction}` at " if self.instruction else ""
        return (f"it is in a handler, which was entered from {what}{self.where or hex(self.rip)}",)


@dataclass(frozen=True)
class FrameLeft(Finding):
    """What IRET would have popped is on top of the stack, but for RIP."""

    rsp: int
    cs: int
    rflags: int
    whole: bool  # RSP and SS stand behind it too, and fit

    def sentences(self) -> tuple[str, ...]:
        more = ", RSP, SS" if self.whole else ""
        return (
            f"CS {self.cs:#06x}, RFLAGS {self.rflags:#x}{more} of an interrupt's frame are on top of"
            f" the stack at {self.rsp:#x}, and its RIP is not: it was left by RET, with interrupts off",
        )


@dataclass(frozen=True)
class GateOfAnotherKind(Finding):
    """A gate of the IDT is a 16-bit one, or a task gate, where 32-bit code runs."""

    vector: int
    kind: str  # "16-bit interrupt gate", "task gate"
    raw: int

    def sentences(self) -> tuple[str, ...]:
        return (f"IDT[{self.vector}] is a {self.kind} ({self.raw:#018x})",)


@dataclass(frozen=True)
class InService(Finding):
    """A PIC's interrupt is in service although the CPU is in no handler and has interrupts on."""

    vector: int
    pending: bool  # the same line, or one of lower priority, is held back

    def sentences(self) -> tuple[str, ...]:
        line = (
            f"the PIC still has vector {self.vector:#x} in service, and CPU {self.cpu} is in no handler"
            " and has interrupts on: no EOI was sent"
        )
        held = "another interrupt is pending, and held back by it"
        return (line, held) if self.pending else (line,)


@dataclass(frozen=True)
class ShortIret(Finding):
    """IRET with 32-bit operands on a frame of 64-bit mode."""

    rip: int
    rsp: int

    def sentences(self) -> tuple[str, ...]:
        return (
            f"the IRET at {self.rip:#x} has no REX.W: it pops words of 32 bits, and a whole frame of"
            f" 64-bit words is at RSP {self.rsp:#x}",
        )


@dataclass(frozen=True)
class BiosCall(Finding):
    """INT n of the BIOS's services in protected mode, with the BIOS's vectors for an IDT."""

    number: int
    mode: str

    def sentences(self) -> tuple[str, ...]:
        return (
            f"INT {self.number:#x} was executed in {self.mode}: the BIOS can be called in real mode only",
        )


@dataclass(frozen=True)
class RetriedInRealMode(Finding):
    """The real-mode handler of an exception is an IRET, which goes back to what raised it."""

    vector: int
    rip: int
    where: str
    handler: int

    def sentences(self) -> tuple[str, ...]:
        name = vector(self.vector)
        return (
            f"{name} is raised at {self.where or hex(self.rip)} in real mode, and vector {self.vector}"
            f" leads to {self.handler:#x}, where nothing but an IRET is: it goes back to the same"
            " instruction, for ever",
        )


@dataclass(frozen=True)
class EndlessCalls(Finding):
    """One return address after the other, all the same: a function that calls itself."""

    call: int
    where: str
    text: str
    times: int
    distance: int  # bytes from one to the next

    def sentences(self) -> tuple[str, ...]:
        return (
            f"the stack holds the return address of `{self.text}` at {self.where or hex(self.call)}"
            f" {self.times} times or more, each {self.distance} bytes above the one before: none of"
            " these calls has returned",
        )


@dataclass(frozen=True)
class NoInterruptComes(Finding):
    """A loop that only an interrupt's handler can end, where every source of one is masked."""

    where: str
    test: str  # the instruction that reads what a handler would write
    masked: tuple[str, ...]
    meant: bool = True  # one was: no other CPU is up to be waited for, or its timer is unmasked

    def sentences(self) -> tuple[str, ...]:
        return (
            f"CPU {self.cpu} waits at {self.where} with interrupts on, until `{self.test}` reads"
            " something else",
            *self.masked,
            "no other CPU executes anything",
        )


@dataclass(frozen=True)
class ProgramLoops(Finding):
    """A loop at CPL 3 with interrupts on: the kernel below it gets its interrupts."""

    where: str
    taken: int  # interrupts that it was seen to take; 0: none was logged, and none is masked

    def sentences(self) -> tuple[str, ...]:
        line = f"CPU {self.cpu} runs a program (CPL 3) that stays in a loop at {self.where}"
        if self.taken:
            seen = "once" if self.taken == 1 else f"{self.taken} times"
            return (f"{line}: it was interrupted {seen} and went on, so that the kernel is alive",)
        return (f"{line}, with interrupts on: the kernel can take the CPU from it",)
