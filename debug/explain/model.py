# SPDX-License-Identifier: BSD-2-Clause
"""What an explanation says: the types between debug/explain and debug/failures.

An `Explanation` is derived from evidence alone; it names no cause.  Its findings are typed facts
(`debug.explain.findings`), each with its own sentences; the failure table tests them.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Optional, Type, TypeVar

from debug.evidence import Registers

EMULATOR_SAYS = "the emulator says"  # begins each line that quotes a refusal


class Status(Enum):
    """What became of the machine; the values are those of the JSON report."""

    HEALTHY = "healthy"
    TRIPLE_FAULT = "triple-fault"
    MISSING_CPU = "missing-cpu"
    HANG = "hang"
    PANIC = "panic"
    RESET = "reset"
    UNKNOWN = "unknown"
    BAD_INPUT = "bad-input"


class CpuState(Enum):
    """What one CPU was doing when the observation ended."""

    RUNNING = "running"
    IDLE = "idle"  # HLT with IF=1: an interrupt wakes it
    HALTED = "halted"  # HLT with IF=0: only NMI, SMI, INIT or reset wake it
    PARKED = "parked"  # halted on purpose, as a stage says
    FIRMWARE = "in-firmware"  # where the firmware left it
    WAITING_FOR_SIPI = "waiting-for-sipi"
    SPINNING = "spinning"
    SHUT_DOWN = "shut-down"  # it triple-faulted
    RESET = "at-reset-vector"
    UNKNOWN = "unknown"


UNBEGUN = (CpuState.FIRMWARE, CpuState.WAITING_FOR_SIPI)  # nobody has started it
ABSENT = (*UNBEGUN, CpuState.RESET, CpuState.PARKED)  # nobody can wait for it, but to be started
SILENT = (*UNBEGUN, CpuState.RESET, CpuState.HALTED)  # it executes nothing that another one sees


@dataclass(frozen=True)
class Finding:
    """One derived fact about one CPU (None: about the machine)."""

    cpu: Optional[int]

    def sentences(self) -> tuple[str, ...]:
        """The fact in words, most important first; plain ASCII, one sentence each."""
        return ()


@dataclass(frozen=True)
class Step:
    """One exception of the chain that ended a CPU.

    `headline` says what was raised, or why it could not be delivered; `details` are further
    lines (page walk, descriptor, gate).  `observed` is False for a step that only follows from
    the architecture.
    """

    cpu: Optional[int]
    vector: int
    headline: str
    error_code: Optional[int] = None
    rip: Optional[int] = None  # linear address of the instruction
    where: str = ""  # symbol and line, "" when unknown
    instruction: str = ""
    details: tuple[str, ...] = ()
    observed: bool = True
    delivery: bool = False  # the step is a failed delivery of `vector`, not its cause
    registers: Optional[Registers] = None


@dataclass(frozen=True)
class Milestone:
    """A step of the boot that a CPU without lamps is seen to have taken.

    `code` is the stage that a traced kernel lights there; `words` where the stage's own say more
    than is known.
    """

    code: int
    how: str  # what shows it
    words: str = ""


@dataclass(frozen=True)
class CpuView:
    """One CPU in words."""

    index: int
    apic_id: Optional[int]
    mode: str
    state: CpuState
    doing: str  # one clause: "halted at idle+0x3 with interrupts off"
    rip: Optional[int] = None  # linear
    where: str = ""
    stages: tuple[int, ...] = ()  # codes, in order
    arrived: Optional[bool] = None  # it came up; None: can't be told
    reached: tuple[Milestone, ...] = ()  # of a CPU without stages, in order

    @property
    def last_stage(self) -> Optional[int]:
        return self.stages[-1] if self.stages else None


@dataclass(frozen=True)
class FarJump:
    """`ljmp selector:target` at physical address `at`."""

    at: int
    selector: int
    target: int


@dataclass(frozen=True)
class Trampoline:
    """A page that APs start in; `gdt` is (base, limit) of the GDT that its code loads."""

    page: int
    how: str
    gdt: Optional[tuple[int, int]] = None
    switches: bool = False  # its code loads a GDT or sets CR0.PE
    far_jumps: tuple[FarJump, ...] = ()

    def sentences(self) -> tuple[str, ...]:
        """Where it is, how that is known, and what its code loads and jumps to."""
        lines = [f"the trampoline's page is {self.page:#x}: {self.how}"]
        if not self.switches:
            lines.append("no 16-bit code that leaves real mode begins there")
        if self.gdt is not None:
            lines.append(f"its code loads the GDT at {self.gdt[0]:#x}, limit {self.gdt[1]:#x}")
        for jump in self.far_jumps:
            lines.append(f"far jump at {jump.at:#x} to {jump.selector:#04x}:{jump.target:#x}")
        return tuple(lines)


F = TypeVar("F", bound=Finding)


@dataclass(frozen=True)
class Explanation:
    """What happened, derived from the evidence."""

    status: Status
    headline: str
    culprit: Optional[int] = None  # CPU index
    cpus: tuple[CpuView, ...] = ()
    chain: tuple[Step, ...] = ()
    findings: tuple[Finding, ...] = ()
    notes: tuple[str, ...] = ()  # laxness, disagreements, what could not be known
    trampoline: Optional[Trampoline] = None  # where a kernel without lamps starts its APs

    def all(self, kind: Type[F], cpu: Optional[int] = None) -> tuple[F, ...]:
        """Findings of one class, in order; only those of one CPU if `cpu` is given."""
        return tuple(
            f for f in self.findings if isinstance(f, kind) and (cpu is None or f.cpu == cpu)
        )

    def first(self, kind: Type[F], cpu: Optional[int] = None) -> Optional[F]:
        """The first finding of one class, or None."""
        found = self.all(kind, cpu)
        return found[0] if found else None

    def view(self, cpu: Optional[int]) -> Optional[CpuView]:
        """The view of the CPU with this index."""
        return next((v for v in self.cpus if v.index == cpu), None)
