# SPDX-License-Identifier: BSD-2-Clause
"""Facts about the exception that began the end: what the CPU did and which rule it broke."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Optional

from debug.explain.model import Finding
from debug.x86.exceptions import vector
from debug.x86.page_entries import Reason
from debug.x86.refusals import Check


class Role(Enum):
    """What a faulting address was to the CPU."""

    FETCH = "instruction fetch"
    STACK = "stack"
    DATA = "data"
    GDT = "GDT"
    IDT = "IDT"
    TSS = "TSS"


@dataclass(frozen=True)
class FatalException(Finding):
    """The first exception of the final chain, whatever its vector."""

    vector: int
    error_code: Optional[int]
    rip: Optional[int]  # linear
    mode: str
    handled_before: int = 0  # exceptions of this CPU that were delivered earlier

    def sentences(self) -> tuple[str, ...]:
        where = f" at {self.rip:#x}" if self.rip is not None else ""
        return (f"the first exception was {vector(self.vector)}{where} in {self.mode}",)


@dataclass(frozen=True)
class PageFault(Finding):
    """A page fault, with the walk that led to it [SDM 3A "Page-Fault Exceptions"].

    `reason` is None where the tables can't be read or where the walk finds nothing wrong
    (`walk_succeeds`): then they changed since, or the TLB held an older translation.
    """

    address: int
    role: Role
    write: bool
    user: bool
    reason: Optional[Reason]
    level: str  # "PML4[511]", "" when unknown
    depth: int  # 4 = PML4 … 1 = PT; 0 when unknown
    entry: Optional[int]
    sentence: str  # the walk's verdict
    cr3: Optional[int]
    rip: Optional[int]
    rsp: Optional[int]
    instruction: str
    register: str = ""  # the register that held the address, if it is one
    walk_succeeds: bool = False
    paging: bool = True  # CR0.PG
    after_paging: bool = False  # the instruction before it was the MOV to CR0
    derived: bool = False  # no exception was seen: the registers and tables say so

    @property
    def access(self) -> str:
        if self.role is Role.FETCH:
            return "fetch from"
        return "write to" if self.write else "read of"

    def sentences(self) -> tuple[str, ...]:
        lines = [f"{self.access} {self.address:#x} ({self.role.value}): {self.sentence}"]
        if self.register:
            lines.append(f"the address came from {self.register.upper()}")
        return tuple(lines)


class SelectorUse(Enum):
    """What the CPU was doing with a selector."""

    FAR_JUMP = "far jump"
    FAR_RETURN = "far return"
    IRET = "iret"
    LOAD_SS = "load of SS"
    LOAD_DATA = "load of a data segment register"
    LTR = "ltr"
    LLDT = "lldt"
    UNKNOWN = "use of a selector"


@dataclass(frozen=True)
class SelectorFault(Finding):
    """A selector that the CPU refused [SDM 3A "Segment Descriptors"].

    `check` is the first check that fails; None when none could be derived.
    """

    use: SelectorUse
    selector: int
    vector: int
    check: Optional[Check]
    sentence: str
    table_base: Optional[int]
    table_limit: Optional[int]
    descriptor: Optional[int] = None  # its first 8 bytes
    rip: Optional[int] = None
    base_suspect: str = ""  # why the GDT's base itself is suspect, "" if it is not
    good_beyond: bool = False  # a valid descriptor stands there, beyond the limit
    shifted: bool = False  # the table begins 8 bytes before its base, or has no null entry
    fresh: bool = False  # LGDT stands right before
    popped: bool = False  # it came from the stack

    def sentences(self) -> tuple[str, ...]:
        lines = [f"{self.use.value} with selector {self.selector:#06x}: {self.sentence}"]
        if self.table_base is not None:
            lines.append(f"the table is at {self.table_base:#x}, limit {self.table_limit or 0:#x}")
        if self.base_suspect:
            lines.append(self.base_suspect)
        return tuple(lines)


class OpcodeProblem(Enum):
    """Why an instruction raised #UD [SDM 2 "UD—Undefined Instruction" and each instruction]."""

    SSE_DISABLED = "sse-disabled"  # CR4.OSFXSR=0
    FPU_EMULATED = "fpu-emulated"  # CR0.EM=1
    FPU_LOCKED = "fpu-locked"  # #NM: CR0.TS=1
    AVX_DISABLED = "avx-disabled"  # CR4.OSXSAVE=0 or XCR0
    AVX_NOT_SHOWN = "avx-not-shown"  # XCR0, or the CPU: nobody shows which
    XSETBV_DISABLED = "xsetbv-disabled"
    UD2 = "ud2"
    MOV_CS = "mov-cs"
    ONLY_LEGACY = "only-legacy"  # not an instruction in 64-bit mode
    NOT_CODE = "not-code"
    EVERYWHERE = "everywhere"  # every CPU has it: what was refused is not what is there now
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class InvalidOpcode(Finding):
    """#UD: which feature is off, or that the bytes are no code."""

    problem: OpcodeProblem
    rip: Optional[int]
    instruction: str
    sentence: str

    def sentences(self) -> tuple[str, ...]:
        return (self.sentence,)


@dataclass(frozen=True)
class DivideError(Finding):
    """#DE: what was divided by what."""

    sentence: str
    by_zero: bool

    def sentences(self) -> tuple[str, ...]:
        return (self.sentence,)


@dataclass(frozen=True)
class NonCanonical(Finding):
    """A non-canonical address was used [SDM 1 "Canonical Addressing"]."""

    address: int
    role: Role
    register: str = ""

    def sentences(self) -> tuple[str, ...]:
        source = f" from {self.register.upper()}" if self.register else ""
        return (f"{self.role.value} address {self.address:#x}{source} is not canonical",)


@dataclass(frozen=True)
class Misaligned(Finding):
    """An aligned SSE access to an address that is no multiple of 16."""

    address: int
    instruction: str
    stack: bool  # addressed through RSP or RBP

    def sentences(self) -> tuple[str, ...]:
        return (
            f"{self.instruction} needs a 16-byte aligned operand; its address is"
            f" {self.address:#x}",
        )
