# SPDX-License-Identifier: BSD-2-Clause
"""Handlers that can't be entered although their gates are taken, and frames that IRET misreads.

[SDM 3A "64-Bit Mode IDT", "64-Bit Mode Stack Frame"; SDM 2 "IRET/IRETD/IRETQ"]
"""

from __future__ import annotations

from typing import Optional

from debug.evidence import Cpu, Registers
from debug.explain.code import ending_at, filler, filler_at, instruction_at
from debug.explain.context import SLIDE, Machine
from debug.explain.findings import BiosCall, GateOfAnotherKind, IdtEmptied, ShortIret
from debug.explain.findings.tables import HandlerUnreachable, ShiftedFrame, VectorTablePointer
from debug.explain.interrupted import ends_a_frame
from debug.explain.model import Finding
from debug.x86.canonical import is_canonical
from debug.x86.decode import MAX_LENGTH
from debug.x86.exceptions import GP, NP, PF
from debug.x86.instruction import ImmediateOperand, Instruction, Kind
from debug.x86.modes import Mode, code_width, mode_of
from debug.x86.registers import Rflags

_UPPER_HALVES = (0xFFFF_FFFF << 32, 0xFFFF_8000 << 32)


def findings(
    machine: Machine,
    cpu: Optional[int],
    registers: Registers,
    number: int,
    cr2: Optional[int],
    instruction: Optional[Instruction],
) -> tuple[Finding, ...]:
    """What exception `number` says about the handler that it came from."""
    if mode_of(registers) is Mode.PROTECTED32:
        at_return = instruction is not None and instruction.kind is Kind.IRET
        return _other_gates(
            machine, cpu, registers, range(256) if at_return else range(number, number + 1)
        )
    if mode_of(registers) is not Mode.LONG64 or registers.rip is None:
        return ()
    returns = instruction is not None and instruction.kind is Kind.IRET
    if number == PF and returns and instruction is not None and cr2 != registers.rip:
        return _short(machine, cpu, registers, instruction)  # QEMU pops from ESP then
    if number == PF and cr2 == registers.rip or number == GP and not is_canonical(registers.rip):
        return _unreachable(machine, cpu, registers)
    if number == GP and instruction is not None and instruction.memory is not None:
        found = _vector_table(machine, cpu, registers, instruction.memory.base)
        if found:
            return found
    if number in (GP, NP) and instruction is not None and instruction.kind is Kind.IRET:
        return _short(machine, cpu, registers, instruction) or _shifted(machine, cpu, registers)
    return ()


def _short(
    machine: Machine, cpu: Optional[int], registers: Registers, iret: Instruction
) -> tuple[Finding, ...]:
    """IRET without REX.W, where the words that IRETQ would pop are a frame."""
    rsp = registers.get("rsp")
    data = machine.linear(registers).read(rsp, 48) if rsp is not None else None
    if iret.operand_size == 8 or data is None or rsp is None:
        return ()
    words = [int.from_bytes(data[at : at + 8], "little") for at in range(0, 48, 8)]
    after_error = ends_a_frame(registers, words[2:], rsp + 16, 64)
    if not after_error and not ends_a_frame(registers, words[1:], rsp + 8, 64):
        return ()
    return (ShortIret(cpu, registers.rip or 0, rsp),)


def bios_call(machine: Machine, cpu: Cpu) -> tuple[BiosCall, ...]:
    """INT 10h to 1Ah where CR0.PE is 1 and the IDT register is the BIOS's."""
    here = instruction_at(machine, cpu.registers)
    idtr, mode = cpu.registers.idtr, mode_of(cpu.registers)
    if here is None or idtr is None or here.kind is not Kind.SOFTWARE_INTERRUPT:
        return ()
    numbers = [o.value for o in here.operands if isinstance(o, ImmediateOperand)]
    bios = idtr.base == 0 and idtr.limit == 0x3FF and mode not in (Mode.REAL, Mode.VM86)
    if not bios or not numbers or numbers[0] not in _SERVICES:
        return ()
    return (BiosCall(cpu.index, numbers[0], mode.value),)


_SERVICES = range(0x10, 0x1B)


def emptied(machine: Machine, cpu: Cpu) -> tuple[IdtEmptied, ...]:
    """`lidt [null]; int3` (or ud2, int n): what resets a machine that nothing else resets."""
    registers = cpu.registers
    idtr, rip, width = registers.idtr, registers.rip, code_width(registers)
    if idtr is None or rip is None or width not in (32, 64):
        return ()
    if idtr.limit or idtr.base:
        return ()  # a table was meant where there is a base
    here = instruction_at(machine, registers)
    if here is None or here.kind not in (Kind.SOFTWARE_INTERRUPT, Kind.INVALID):
        return ()
    lengths = range(3, MAX_LENGTH + 1)
    load = ending_at(machine.linear(registers), rip, width, Kind.LIDT, lengths)
    if load is not None:
        return (IdtEmptied(cpu.index, load.address, here.text),)
    return ()


def lost(machine: Machine, cpu: Cpu) -> tuple[HandlerUnreachable, ...]:
    """A CPU that slides over what is no code, from where a gate without its upper half leads."""
    registers = cpu.registers
    idtr, rip = registers.idtr, registers.rip
    if mode_of(registers) is Mode.PROTECTED32 and rip is not None:
        return _cut(machine, cpu.index, registers)
    if mode_of(registers) is not Mode.LONG64 or idtr is None or rip is None or idtr.limit < 15:
        return ()
    memory = machine.linear(registers)
    if memory.read(rip, 1) is not None and filler_at(machine, registers) is None:
        return ()
    data = memory.read(idtr.base, min(idtr.limit + 1, 4096)) or b""
    for number in range(len(data) // 16):
        gate = data[number * 16 : number * 16 + 16]
        offset = int.from_bytes(gate[:2] + gate[6:12], "little")
        if not gate[5] & 0x80 or offset >> 32 or not offset <= rip < offset + SLIDE:
            continue
        there = memory.read(offset, 16)
        if there is not None and filler(there) is None:
            continue
        for upper in _UPPER_HALVES:
            code = memory.read(upper | offset, 16)
            if code is not None and filler(code) is None:
                whole = machine.where(upper | offset)
                return (HandlerUnreachable(cpu.index, number, offset, f"{whole}, where code is"),)
    return ()


def cut(machine: Machine, cpu: Cpu) -> tuple[HandlerUnreachable, ...]:
    """Gates whose upper halves are 0, of a CPU that died where they lead."""
    legacy = mode_of(cpu.registers) is Mode.PROTECTED32
    return _cut(machine, cpu.index, cpu.registers) if legacy else ()


def _cut(machine: Machine, cpu: int, registers: Registers) -> tuple[HandlerUnreachable, ...]:
    """32-bit code: a kernel above 1 MiB, a CPU below it, and gates that all lead below 64 KiB."""
    idtr, table, at = registers.idtr, registers.gdtr, machine.pc(registers)
    if idtr is None or table is None or at is None or at >= _MIB:
        return ()
    if idtr.base < _MIB or table.base < _MIB:
        return ()  # a kernel of low memory may have its handlers there
    data = machine.linear(registers).read(idtr.base, min(idtr.limit + 1, 2048)) or b""
    gates = [data[place : place + 8] for place in range(0, len(data) - 7, 8)]
    present = [(n, g) for n, g in enumerate(gates) if g[5] & 0x87 == 0x86 and any(g[:2])]
    if len(present) < _SEVERAL or any(any(gate[6:8]) for _, gate in present):
        return ()
    number, gate = present[0]
    offset = int.from_bytes(gate[:2], "little")
    return (HandlerUnreachable(cpu, number, offset, _HALVES.format(len(present))),)


_MIB, _SEVERAL = 1 << 20, 8
_HALVES = "in the kernel's memory: all {} gates have 0 in bits 31:16 of the offset"


def _unreachable(machine: Machine, cpu: Optional[int], registers: Registers) -> tuple[Finding, ...]:
    """RIP is what a gate of the IDT names: the gate was taken, and led nowhere."""
    idtr, rip = registers.idtr, registers.rip
    if idtr is None or rip is None or idtr.limit < 15:
        return ()
    data = machine.linear(registers).read(idtr.base, min(idtr.limit + 1, 4096)) or b""
    for number in range(len(data) // 16):
        gate = data[number * 16 : number * 16 + 16]
        offset = int.from_bytes(gate[:2] + gate[6:12], "little")
        if offset != rip or not gate[5] & 0x80:
            continue
        symbols = (machine.symbol(upper | rip) for upper in _UPPER_HALVES if rip < 1 << 32)
        whole = next((symbol for symbol in symbols if symbol is not None), None)
        name = str(whole) if whole is not None and not whole.offset else None
        return (HandlerUnreachable(cpu, number, rip, name, bool(gate[13] & 0x1F)),)
    return ()


_TASK_GATE = 5
_OTHER_GATES = {_TASK_GATE: "task gate", 6: "16-bit interrupt gate", 7: "16-bit trap gate"}


def _other_gates(
    machine: Machine, cpu: Optional[int], registers: Registers, numbers: range
) -> tuple[Finding, ...]:
    """The first present gate, of those, that pushes another frame than 32-bit code expects.

    IRET behind a task gate leaves a task, and finds NT set; a task gate for #DF is how it is done.
    """
    idtr = registers.idtr
    if idtr is None or not idtr.base:
        return ()  # the BIOS's vectors
    task = len(numbers) == 1 or bool((registers.rflags or 0) & Rflags.NT)
    for number in numbers:
        if number * 8 + 7 > idtr.limit:
            break
        gate = machine.linear(registers).read(idtr.base + number * 8, 8)
        if gate is None:
            break
        type_ = gate[5] & 0xF
        if gate[5] & 0x90 == 0x80 and type_ in _OTHER_GATES and (task or type_ != _TASK_GATE):
            kind, raw = _OTHER_GATES[type_], int.from_bytes(gate, "little")
            return (GateOfAnotherKind(cpu, number, kind, raw),)
    return ()


def _vector_table(
    machine: Machine, cpu: Optional[int], registers: Registers, name: str
) -> tuple[Finding, ...]:
    """A non-canonical pointer that is a pair of the real-mode vectors at address 0."""
    value = registers.get(name) if name else None
    if value is None or is_canonical(value) or value >> 48 < 0xC000:
        return ()  # the BIOS's segments are c000 to f000
    data = machine.physical(0, 1024) or b""
    for at in range(0, len(data) - 7, 8):
        if int.from_bytes(data[at : at + 8], "little") == value:
            bases = {"GS": registers.get("gs_base"), "FS": registers.get("fs_base")}
            segments = {name: registers.segments.get(name.lower()) for name in bases}
            zero = [
                n
                for n, base in bases.items()
                if base == 0 or base is None and getattr(segments[n], "base", None) == 0
            ]
            why = " and ".join(f"{n} base is 0" for n in zero) or "a null pointer was read"
            return (VectorTablePointer(cpu, value, at, why),)
    return ()


def _shifted(machine: Machine, cpu: Optional[int], registers: Registers) -> tuple[Finding, ...]:
    """The word that IRETQ takes for CS is an address, and the next one is the CPU's CS."""
    rsp, code = registers.get("rsp"), registers.segments.get("cs")
    if rsp is None or code is None:
        return ()
    data = machine.linear(registers).read(rsp, 48)
    if data is None:
        return ()
    words = [int.from_bytes(data[at : at + 8], "little") for at in range(0, 48, 8)]
    error, taken, above = words[:3]
    if above & ~3 != code.selector & ~3 or above > 0xFFFF or not is_canonical(taken):
        return ()
    if taken <= 0xFFFF and not ends_a_frame(registers, words[2:], rsp + 16, 64):
        return ()
    return (ShiftedFrame(cpu, rsp, above, error if error <= 0xFFFF else None),)
