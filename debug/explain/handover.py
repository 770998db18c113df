# SPDX-License-Identifier: BSD-2-Clause
"""Where a trampoline hands its CPU over: the jump or call out of its page, followed.

From each far jump's target on, what registers hold is followed through constants, copies, sums and
words of memory; whatever else an instruction does makes them unknown.  Memory is as it was left:
a word that was written for the next AP tells where that one would have gone.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Callable, Iterator, Optional

from debug.evidence import Registers, TableRegister
from debug.explain.code import Read, filler, filler_at
from debug.explain.context import PAGE, SLIDE, VECTORS, Machine
from debug.explain.findings import Contents, HandedOver
from debug.explain.model import FarJump, Finding
from debug.explain.trampoline_page import is_64_bit_target, pages, sent
from debug.explain.trampoline_search import far_jumps
from debug.explain.waiting import whole_register
from debug.x86.decode import MAX_LENGTH, decode
from debug.x86.instruction import (
    ImmediateOperand,
    Instruction,
    Kind,
    MemoryOperand,
    Operand,
    RegisterOperand,
)
from debug.x86.modes import Mode, linear_pc, mode_of
from debug.x86.registers import register_bits

_STEPS = 128  # instructions that are followed from one far jump
_REACH = 1 << 16  # bytes behind a header in which a CPU still runs by its accident
_IDTR_OF_INIT = TableRegister(0, 0xFFFF)
_VECTOR_TABLE = "the interrupt vector table"
_SAMPLES = 128  # places at which memory is looked for
_FAR, _CHUNK = 1 << 24, 1 << 16  # bytes of zeros that are looked through, and at a time
_HEADERS = {
    b"\x02\xb0\xad\x1b": "a Multiboot header",
    b"\xd6\x50\x52\xe8": "a Multiboot 2 header",
    b"\x7fELF": "an ELF header",
}
_JUMPS = (Kind.NEAR_JUMP, Kind.NEAR_CALL)
_MOVES = ("mov", "movabs", "movzx")
_HARMLESS = frozenset(
    "lgdt lidt lldt ltr cli cld nop out wrmsr pause wbinvd endbr32 endbr64 fninit test cmp push".split()
)
_SUMS: dict[str, Callable[[int, int], int]] = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "xor": lambda a, b: a ^ b,
    "or": lambda a, b: a | b,
    "and": lambda a, b: a & b,
    "shl": lambda a, b: a << (b & 63),
    "shr": lambda a, b: a >> (b & 63),
}


def findings(machine: Machine, cpu: int, registers: Registers) -> tuple[Finding, ...]:
    """Of a CPU without lamps that left the trampoline: what it was sent to, if that is no code.

    A word of the page that could have sent it there is believed where no code tells the way.
    """
    rip, guessed = linear_pc(registers), sent(machine, cpu, registers)
    if rip is None or machine.traced or mode_of(registers) is Mode.REAL or not machine.has_memory:
        return guessed
    memory = machine.linear(registers)
    lost = memory.read(rip, 1) is None or filler_at(machine, registers) is not None
    for page in pages(machine):
        if page <= rip < page + PAGE:
            continue
        for one, target, source in _exits(machine, memory.read, page):
            guessed = tuple(word for word in guessed if word.truncated)
            if page <= target < page + PAGE or rip < target:
                continue
            far = SLIDE if registers.idtr != _IDTR_OF_INIT else rip  # it has come to no code since
            there = _no_code(memory.read, target, rip, far if lost else 0)
            if there:
                found = HandedOver(cpu, one.address, one.text, target, source, there)
                return (found, *guessed)
    return guessed


def _no_code(read: Read, target: int, rip: int, slid: int) -> str:
    """What is at `target`, if that is no code and RIP is where a CPU comes from there; else "".

    slid: how many bytes a CPU may be away that executes what is no code; 0: it executes code.
    """
    if rip < VECTORS:
        return _VECTOR_TABLE
    data = read(target, 16)
    contents = filler(data) if data is not None else None
    if slid and data is None and _nothing(read, target, rip):
        return "no memory"
    if (data is None or contents is not None) and rip < target + slid:
        return "no memory" if contents is None else f"nothing but {contents.value}"
    if contents is Contents.ZEROS:
        end = _end_of_zeros(read, target)
        return _slide(read, end) if end is not None and end <= rip < end + _REACH else ""
    return _HEADERS.get((data or b"")[:4], "") if rip < target + _REACH else ""


def _nothing(read: Read, target: int, rip: int) -> bool:
    """Whether no memory is between: nothing stops a CPU there, however far it comes."""
    step = max((rip - target) // _SAMPLES, PAGE)
    return all(read(at, 1) is None for at in range(target, rip, step))


def _slide(read: Read, end: int) -> str:
    header = _HEADERS.get(read(end, 4) or b"")
    behind = f", where {header} begins" if header else ""
    return f"nothing but zeros up to {end:#x}{behind}"


def _end_of_zeros(read: Read, start: int) -> Optional[int]:
    """The first address from `start` on whose byte is not 0; None if that is far."""
    for at in range(start, start + _FAR, _CHUNK):
        data = read(at, _CHUNK)
        if data is None:
            return None
        if any(data):
            return at + len(data) - len(data.lstrip(b"\0"))
    return None


_Exit = tuple[Instruction, int, Optional[int]]  # the jump, where it leads, the word that said so


def _exits(machine: Machine, read: Read, page: int) -> Iterator[_Exit]:
    data = machine.physical(page, PAGE) or b""
    for jump in far_jumps(data, page):
        if page <= jump.target < page + PAGE:
            found = _follow(machine, read, data, page, jump)
            if found is not None:
                yield found


def _follow(machine: Machine, read: Read, data: bytes, page: int, jump: FarJump) -> Optional[_Exit]:
    """The first jump or call out of the page, if the way there and its target are known."""
    known = _Known(read)
    at, width = jump.target, 64 if is_64_bit_target(machine, jump.selector) else 32
    for _ in range(_STEPS):
        inside = 0 <= at - page < len(data)
        one = decode(data[at - page :][:MAX_LENGTH], at, width) if inside else None
        if one is None:
            return None
        at = one.next
        far = one.far_immediate if one.kind is Kind.FAR_JUMP else None
        if one.kind in _JUMPS and one.operands:
            target = known.value(one, one.operands[0])
            if target is None:
                return None
            if not page <= target < page + PAGE:
                word = one.memory
                return one, target, known.address(one, word) if word is not None else None
            if one.kind is Kind.NEAR_CALL:
                return None
            at = target
        elif far is not None:
            at, width = far[1], 64 if is_64_bit_target(machine, far[0]) else 32
        elif one.kind is Kind.CONDITIONAL_JUMP and one.target is not None and one.target < at:
            known.forget()  # a loop, which it leaves at its end
        elif one.kind in (Kind.OTHER, Kind.PAUSE, Kind.LOAD_SEGMENT, Kind.WRITE_CONTROL):
            known.run(one)
        elif one.mnemonic not in _HARMLESS:
            if one.kind not in (Kind.READ_CONTROL, Kind.RDMSR, Kind.PORT):
                return None
            known.forget()
    return None


@dataclass
class _Known:
    """What general registers hold, as far as it follows from constants and memory."""

    read: Read
    registers: dict[str, int] = field(default_factory=dict)

    def forget(self) -> None:
        self.registers.clear()

    def run(self, one: Instruction) -> None:
        """The effect of an instruction that is no jump."""
        operands = one.operands
        if one.mnemonic in _MOVES and len(operands) == 2:
            self._set(operands[0], self.value(one, operands[1]))
        elif one.mnemonic == "lea" and isinstance(operands[1], MemoryOperand):
            self._set(operands[0], self.address(one, operands[1]))
        elif one.mnemonic in _SUMS and len(operands) == 2:
            self._set(operands[0], self._sum(one, operands[0], operands[1]))
        elif one.mnemonic not in _HARMLESS:
            self.forget()

    def value(self, one: Instruction, operand: Operand) -> Optional[int]:
        """What an operand is, None if that is not known."""
        if isinstance(operand, ImmediateOperand):
            return operand.value
        if isinstance(operand, RegisterOperand):
            held, bits = self.registers.get(whole_register(operand.name)), operand.size * 8
            if held is None or operand.name in ("ah", "bh", "ch", "dh"):
                return None
            return held & (1 << bits) - 1
        at = self.address(one, operand)
        data = self.read(at, operand.size) if at is not None and operand.size else None
        return None if data is None else int.from_bytes(data, "little")

    def address(self, one: Instruction, operand: MemoryOperand) -> Optional[int]:
        """Where an operand in memory lies, in segments whose base is 0."""
        if operand.segment in ("fs", "gs"):
            return None
        at = operand.displacement
        for name, scale in ((operand.base, 1), (operand.index, operand.scale)):
            if name in ("rip", "eip"):
                at += one.next
            elif name:
                held = self.registers.get(whole_register(name))
                if held is None:
                    return None
                at += held * scale
        return at & (1 << operand.address_bits) - 1

    def _sum(self, one: Instruction, to: Operand, source: Operand) -> Optional[int]:
        if one.mnemonic == "xor" and _same(to, source):
            return 0
        left, right = self.value(one, to), self.value(one, source)
        return None if left is None or right is None else _SUMS[one.mnemonic](left, right)

    def _set(self, to: Operand, value: Optional[int]) -> None:
        if not isinstance(to, RegisterOperand) or register_bits(to.name) is None:
            return  # memory, which is as it was left; a segment or control register
        whole = whole_register(to.name)
        if value is None or to.size < 4:
            self.registers.pop(whole, None)
        else:
            self.registers[whole] = value & (1 << to.size * 8) - 1


def _same(to: Operand, source: Operand) -> bool:
    if isinstance(to, RegisterOperand) and isinstance(source, RegisterOperand):
        return to.name == source.name
    return False
