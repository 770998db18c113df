# SPDX-License-Identifier: BSD-2-Clause
"""What the vector and the control registers prove about an instruction that can't be read."""

from __future__ import annotations

from typing import Iterator, Optional

from debug.explain.clues.moment import Moment
from debug.explain.findings.evident import Clue, Evident, Proof
from debug.x86.canonical import is_canonical
from debug.x86.exceptions import BR, DE, GP, UD
from debug.x86.instruction import Instruction, Kind, MemoryOperand, RegisterOperand
from debug.x86.modes import Mode
from debug.x86.registers import Cr4, Rflags

_SHOWN = 4  # registers that are named
_NEVER = (Kind.NEAR_JUMP, Kind.NEAR_CALL, Kind.CONDITIONAL_JUMP, Kind.HALT, Kind.PAUSE)


def findings(moment: Moment, instruction: Optional[Instruction]) -> Iterator[Evident]:
    """The facts about the instruction, most telling first; None where it can't be read."""
    if instruction is not None and _interrupted(moment, instruction):
        lines = (
            f"{instruction.text} raises no exception by itself, no page fault has come yet (CR2 is 0),"
            " and interrupts are on: what could not be delivered was an interrupt",
        )
        yield Evident(moment.cpu, Clue.GATE_MISSING, Proof.FITS, lines)
    if instruction is None and (odd := _not_canonical(moment)) is not None:
        yield odd
    if not moment.first or not moment.died or moment.mode is Mode.REAL:
        return
    if moment.vector == DE:
        line = (
            "#DE is raised by DIV, IDIV and AAM alone: by 0, or with a quotient that does not fit"
        )
        yield Evident(moment.cpu, Clue.DIVIDE, Proof.FITS, (line,))
    if moment.vector == BR:
        line = (
            "#BR is raised by BOUND alone (opcode 62, the letter b), which no compiler makes: what"
            " runs there is text or data"
        )
        yield Evident(moment.cpu, Clue.NOT_CODE, Proof.FITS, (line,))
    cr4 = moment.get("cr4")
    if moment.mode is not Mode.LONG64 or cr4 is None:
        return  # compilers use SSE in 64-bit code alone unless they are told to
    if moment.vector == UD and not cr4 & Cr4.OSFXSR:
        line = f"CR4 is {cr4:#x}, OSFXSR=0: each SSE instruction raises #UD, of a compiler's too"
        yield Evident(moment.cpu, Clue.SSE_OFF, Proof.HINT, (line,))


def _not_canonical(moment: Moment) -> Optional[Evident]:
    """#GP(0), and registers hold what can be no address."""
    if moment.vector != GP or moment.error_code != 0 or not moment.first:
        return None
    if moment.mode is not Mode.LONG64:
        return None
    bits = 57 if (moment.get("cr4") or 0) & Cr4.LA57 else 48
    odd = [name for name, value in moment.general() if not is_canonical(value, bits)]
    if not odd:
        return None
    shown = ", ".join(f"{moment.shown(name)} {moment.get(name):#x}" for name in odd[:_SHOWN])
    line = f"a pointer that is not canonical raises #GP(0), and such a value is in {shown}"
    return Evident(moment.cpu, Clue.NOT_CANONICAL, Proof.HINT, (line,))


def _interrupted(moment: Moment, instruction: Instruction) -> bool:
    """A CPU that died at an instruction which can't fault, with interrupts on."""
    if moment.first or not moment.died or moment.get("cr2") != 0:
        return False
    if instruction.kind not in _NEVER or not (moment.get("rflags") or 0) & Rflags.IF:
        return False
    if moment.mode is Mode.LONG64:
        held = [o.name for o in instruction.operands if isinstance(o, RegisterOperand)]
        values = [moment.get("rsp"), *(moment.get(name) for name in held)]
        if not all(value is not None and is_canonical(value) for value in values):
            return False
    return moment.cpl == 0 and not any(isinstance(o, MemoryOperand) for o in instruction.operands)
