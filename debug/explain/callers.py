# SPDX-License-Identifier: BSD-2-Clause
"""Where the function that a CPU executes returns to, read from its stack."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Optional

from debug.evidence import Registers
from debug.explain.code import code_bytes
from debug.explain.context import Machine
from debug.x86.decode import decode_many
from debug.x86.instruction import ImmediateOperand, Instruction, Kind, RegisterOperand
from debug.x86.modes import code_width

_AHEAD = 24  # instructions: a longer function does more than to look at something
_BYTES = 96
_STACK = ("rsp", "esp")
_FRAME = ("rbp", "ebp")


@dataclass
class _Pointers:
    """RSP and RBP on the way to the return; RBP None where it is not known."""

    rsp: int
    rbp: Optional[int]
    word: int

    def after(self, one: Instruction) -> bool:
        """Follow one instruction; False if RSP is not known after it, or it may lead elsewhere."""
        first = one.operands[0] if one.operands else None
        to = first.name if isinstance(first, RegisterOperand) and first.written else ""
        if one.mnemonic in ("push", "pop"):
            self.rsp += self.word if one.mnemonic == "pop" else -self.word
            self.rbp = None if to in _FRAME else self.rbp
            return to not in _STACK
        if one.mnemonic == "leave":
            known = self.rbp is not None
            self.rsp, self.rbp = (self.rbp or 0) + self.word, None
            return known
        if one.kind not in (Kind.OTHER, Kind.PORT, Kind.PAUSE):
            return False
        source = one.operands[-1] if one.operands else None
        if to in _FRAME:
            copied = isinstance(source, RegisterOperand) and source.name in _STACK
            self.rbp = self.rsp if copied and one.mnemonic == "mov" else None
            return True
        if to not in _STACK:
            return True
        if one.mnemonic not in ("add", "sub") or not isinstance(source, ImmediateOperand):
            return False
        self.rsp += source.value if one.mnemonic == "add" else -source.value
        return source.value < 1 << 15


def caller_of(machine: Machine, registers: Registers) -> Optional[Registers]:
    """The registers right after the return of a short function that a CPU stands in.

    None where its way to the return is not straight, or its stack can't be read.  Of the general
    registers only RSP is right.
    """
    width, rip, rsp = code_width(registers), registers.rip, registers.get("rsp")
    if width not in (32, 64) or rip is None or rsp is None:
        return None
    at = _Pointers(rsp, registers.get("rbp"), width // 8)
    for one in decode_many(code_bytes(machine, registers, _BYTES), rip, width, _AHEAD):
        if one.kind is Kind.NEAR_RETURN:
            target = machine.linear(registers).read(at.rsp, at.word)
            if target is None or one.operands:
                return None
            general = {**registers.general, "rsp": at.rsp + at.word}
            return replace(registers, rip=int.from_bytes(target, "little"), general=general)
        if not at.after(one):
            return None
    return None
