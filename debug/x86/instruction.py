# SPDX-License-Identifier: BSD-2-Clause
"""What an instruction is, as data: operands, prefixes and what kind of thing it does."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Optional, Union


class Kind(Enum):
    """The kinds of instruction that a diagnosis asks for; everything else is OTHER."""

    OTHER = "other"
    WRITE_CONTROL = "write to a control register"  # mov crN, reg; lmsw; clts
    READ_CONTROL = "read of a control register"
    DEBUG_REGISTER = "debug register access"
    WRMSR = "wrmsr"
    RDMSR = "rdmsr"
    XSETBV = "xsetbv"
    LGDT = "lgdt"
    LIDT = "lidt"
    LLDT = "lldt"
    LTR = "ltr"
    LOAD_SEGMENT = "segment load"  # mov sreg, x; pop sreg; lds …
    FAR_JUMP = "far jump"
    FAR_CALL = "far call"
    FAR_RETURN = "far return"
    IRET = "interrupt return"
    SYSCALL = "system call or return"
    NEAR_JUMP = "jump"
    CONDITIONAL_JUMP = "conditional jump"
    NEAR_CALL = "call"
    NEAR_RETURN = "return"
    SOFTWARE_INTERRUPT = "software interrupt"
    HALT = "halt"
    INVALID = "ud2"
    PORT = "port access"
    INTERRUPT_FLAG = "cli or sti"
    SWAPGS = "swapgs"
    INVLPG = "TLB flush"
    CACHE = "cache flush"
    PAUSE = "pause"


@dataclass(frozen=True)
class RegisterOperand:
    name: str
    size: int  # bytes
    read: bool
    written: bool


@dataclass(frozen=True)
class ImmediateOperand:
    value: int  # two's complement in `size` bytes
    size: int


@dataclass(frozen=True)
class MemoryOperand:
    """`segment`:[`base` + `index` * `scale` + `displacement`], `size` bytes."""

    segment: str  # the one that counts, default rules applied
    base: str  # "" if none
    index: str
    scale: int
    displacement: int  # signed
    size: int
    read: bool
    written: bool
    address_bits: int  # 16, 32 or 64
    address_only: bool = False  # LEA, NOP, INVLPG: nothing is read or written

    @property
    def named(self) -> bool:
        """Whether the instruction itself names the address: no register but RIP is in it."""
        return self.base in ("", "rip", "eip") and not self.index


Operand = Union[RegisterOperand, ImmediateOperand, MemoryOperand]


@dataclass(frozen=True)
class Instruction:
    """One decoded instruction."""

    address: int  # of its first byte: the instruction pointer, without CS's base
    width: int  # of the code: 16, 32, 64
    data: bytes
    mnemonic: str
    text: str  # Intel syntax
    kind: Kind
    operands: tuple[Operand, ...]
    operand_size: int  # bytes, from the mode and prefixes
    privileged: bool  # CPL 0 only
    sse: bool  # uses XMM registers with a legacy encoding
    x87: bool  # x87 or MMX
    vex: bool
    evex: bool
    alignment: int  # bytes that its memory operand must be aligned to; 1: any

    @property
    def length(self) -> int:
        return len(self.data)

    @property
    def next(self) -> int:
        """The address of the instruction after it."""
        return self.address + self.length & (1 << max(self.width, 32)) - 1

    @property
    def target(self) -> Optional[int]:
        """The offset that a near jump or call with an immediate goes to."""
        near = (Kind.NEAR_JUMP, Kind.NEAR_CALL, Kind.CONDITIONAL_JUMP)
        if self.kind in near and self.operands:
            first = self.operands[0]
            return first.value if isinstance(first, ImmediateOperand) else None
        return None

    @property
    def jumps_to_itself(self) -> bool:
        return self.kind is Kind.NEAR_JUMP and self.target == self.address

    @property
    def far_immediate(self) -> Optional[tuple[int, int]]:
        """(selector, offset) of a far jump or call with an immediate pointer."""
        if self.kind not in (Kind.FAR_JUMP, Kind.FAR_CALL) or len(self.operands) != 2:
            return None
        selector, offset = self.operands
        if isinstance(selector, ImmediateOperand) and isinstance(offset, ImmediateOperand):
            return selector.value & 0xFFFF, offset.value
        return None

    @property
    def memory(self) -> Optional[MemoryOperand]:
        """The first operand in memory."""
        for operand in self.operands:
            if isinstance(operand, MemoryOperand):
                return operand
        return None

    def register(self, written: bool) -> Optional[RegisterOperand]:
        """The first register operand that is written, or is only read."""
        for operand in self.operands:
            if isinstance(operand, RegisterOperand) and operand.written == written:
                return operand
        return None
