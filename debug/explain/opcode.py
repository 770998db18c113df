# SPDX-License-Identifier: BSD-2-Clause
"""#UD and #NM explained: which feature is off, or that the bytes are no code."""

from __future__ import annotations

from typing import Optional

from debug.evidence import Registers
from debug.explain.code import code_bytes
from debug.explain.context import Machine
from debug.explain.findings import InvalidOpcode, OpcodeProblem
from debug.x86.decode import MAX_LENGTH
from debug.x86.exceptions import NM
from debug.x86.instruction import Instruction, Kind
from debug.x86.instruction_checks import uses_vectors
from debug.x86.modes import Mode, code_width, mode_of
from debug.x86.patterns import describe_bytes
from debug.x86.refusals import Refusal
from debug.x86.registers import Cr0, Cr4

# Instructions that no CPU refuses, whatever their operands; with LOCK they may be.
_EVERYWHERE = frozenset(
    "adc add and cld cmp dec hlt inc leave mov neg nop not or pop push ret sbb sub test xor".split()
)
_VEX = b"\xc4\xc5\x62"  # what a VEX or EVEX encoding begins with in 64-bit mode
_NOT_SHOWN = "XCR0, which is not shown, has no AVX, or this CPU lacks the instruction"
_PLAIN = (Kind.OTHER, Kind.NEAR_RETURN, Kind.HALT)

# One-byte opcodes that exist outside 64-bit mode only [SDM 2 "One-Byte Opcode Map"].
_LEGACY_ONLY = frozenset(
    b"\x06\x07\x0e\x16\x17\x1e\x1f\x27\x2f\x37\x3f\x60\x61\x62\x82\x9a\xce\xd4\xd5\xea"
)


def invalid_opcode(
    machine: Machine,
    cpu: Optional[int],
    registers: Registers,
    vector: int,
    instruction: Optional[Instruction],
    verdict: Optional[Refusal],
) -> InvalidOpcode:
    """Why the instruction at RIP is refused."""
    rip, data = machine.pc(registers), code_bytes(machine, registers)
    text = instruction.text if instruction is not None else data[:8].hex(" ")
    problem, sentence = _problem(registers, vector, instruction, data, verdict)
    if problem is OpcodeProblem.NOT_CODE and _may_be_cut(machine, data):
        problem, sentence = OpcodeProblem.UNKNOWN, "the instruction could not be read to its end"
    return InvalidOpcode(cpu, problem, rip, text, sentence)


def _may_be_cut(machine: Machine, data: bytes) -> bool:
    """Whether an emulator showed the bytes up to where it gave up, and there may be more."""
    return not machine.has_memory and len(data) < MAX_LENGTH


def _problem(
    registers: Registers,
    vector: int,
    instruction: Optional[Instruction],
    data: bytes,
    verdict: Optional[Refusal],
) -> tuple[OpcodeProblem, str]:
    cr0, cr4 = registers.get("cr0") or 0, registers.get("cr4") or 0
    said = verdict.sentence if verdict is not None else ""
    if vector == NM:
        if cr0 & Cr0.EM:
            return OpcodeProblem.FPU_EMULATED, said or "an x87 instruction with CR0.EM=1"
        return OpcodeProblem.FPU_LOCKED, said or "an FPU or SSE instruction with CR0.TS=1"
    if instruction is not None:
        vex = (instruction.vex or instruction.evex) and uses_vectors(instruction)
        if instruction.kind is Kind.INVALID:
            return OpcodeProblem.UD2, "ud2: code that the compiler or author marked unreachable"
        if instruction.sse and cr0 & Cr0.EM:
            return OpcodeProblem.FPU_EMULATED, said or "an SSE instruction with CR0.EM=1"
        if instruction.sse and not cr4 & Cr4.OSFXSR:
            return OpcodeProblem.SSE_DISABLED, said or "an SSE instruction with CR4.OSFXSR=0"
        if instruction.kind is Kind.XSETBV:
            return OpcodeProblem.XSETBV_DISABLED, said or "xsetbv with CR4.OSXSAVE=0"
        if vex and mode_of(registers) is not Mode.REAL:
            if said:
                return OpcodeProblem.AVX_DISABLED, said
            return OpcodeProblem.AVX_NOT_SHOWN, f"{instruction.mnemonic}: {_NOT_SHOWN}"
        if instruction.kind is Kind.LOAD_SEGMENT and instruction.text.startswith("mov cs"):
            return OpcodeProblem.MOV_CS, "mov to CS does not exist; a far jump loads CS"
    filler = describe_bytes(data)
    if filler:
        return OpcodeProblem.NOT_CODE, f"the bytes at RIP are no code but {filler}"
    if code_width(registers) == 64 and data[:1] and data[0] in _LEGACY_ONLY:
        sentence = (
            f"opcode {data[0]:02x} exists outside 64-bit mode only: 32-bit code in 64-bit mode?"
        )
        return OpcodeProblem.ONLY_LEGACY, sentence
    if code_width(registers) == 64 and data[:1] and data[0] in _VEX and instruction is None:
        sentence = f"the bytes {data[:8].hex(' ')} begin an instruction of AVX or BMI (VEX, EVEX)"
        return OpcodeProblem.UNKNOWN, f"{sentence}, which this CPU does not have"
    if data and instruction is None:
        shown = data[:8].hex(" ")
        return OpcodeProblem.NOT_CODE, f"the bytes {shown} are no instruction in this mode"
    if instruction is not None and not said and _is_everywhere(instruction):
        sentence = (
            f"every CPU has {instruction.text}: when it was refused, other bytes lay there, or"
            " another page was mapped"
        )
        return OpcodeProblem.EVERYWHERE, sentence
    if instruction is not None:
        sentence = said or f"{instruction.text}: not on this CPU, or not in this mode"
        return OpcodeProblem.UNKNOWN, sentence
    return OpcodeProblem.UNKNOWN, said or "the instruction could not be read"


def _is_everywhere(instruction: Instruction) -> bool:
    """Neither a feature nor a mode decides about it."""
    locked = instruction.text.startswith("lock")
    return instruction.mnemonic in _EVERYWHERE and instruction.kind in _PLAIN and not locked
