# SPDX-License-Identifier: BSD-2-Clause
"""What a CPU in a loop waits for: which address, what is there, and who would write to it."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Optional

from debug.evidence import Cpu, Registers
from debug.explain.code import instructions_behind
from debug.explain.context import Machine
from debug.explain.findings import WaitsFor
from debug.explain.model import SILENT, CpuState, CpuView
from debug.explain.writers import Writer, is_atomic, writers
from debug.x86.accesses import linear_address
from debug.x86.decode import decode_many
from debug.x86.instruction import (
    ImmediateOperand,
    Instruction,
    Kind,
    MemoryOperand,
    RegisterOperand,
)
from debug.x86.modes import code_width
from debug.x86.registers import Rflags

_BODY = 128  # bytes: a longer loop does something else than wait
_PLACES = 6  # where CPUs spin: each costs a search of the code around it
_AHEAD = 24  # instructions
_TESTS = frozenset("cmp test bt bts btr cmpxchg xchg xadd cmpxchg8b cmpxchg16b".split())
_FUNCTION = 512  # bytes around a loop where its function's atomic instructions stand
_STACK, _FRAMES = ("rsp", "esp", "sp"), ("rbp", "ebp")
_FRAME = 1 << 16  # bytes between RSP and RBP, where RBP is a frame pointer


def findings(machine: Machine, views: tuple[CpuView, ...]) -> tuple[WaitsFor, ...]:
    """For each CPU that spins: what it reads in its loop."""
    found, places = [], set()
    for view in views:
        cpu = machine.cpu(view.index)
        if cpu is None or view.state is not CpuState.SPINNING:
            continue
        body = loop_body(machine, cpu.registers)
        places.add(body[0].address if body else view.rip)
        one = _waits(machine, cpu, views, body) if len(places) <= _PLACES else None
        if one is not None:
            found.append(one)
    return tuple(found)


@dataclass(frozen=True)
class _Read:
    test: Instruction
    operand: MemoryOperand
    by: Instruction  # the instruction that reads memory


def _waits(
    machine: Machine, cpu: Cpu, views: tuple[CpuView, ...], body: tuple[Instruction, ...]
) -> Optional[WaitsFor]:
    registers = cpu.registers
    read = _read(body, registers)
    if read is None:
        return None
    if {whole_register(read.operand.base), whole_register(read.operand.index)} & steps(body):
        return None  # each round reads elsewhere
    then = _then(machine, registers, body, read)
    address = linear_address(read.by, then, read.operand) if then is not None else None
    size = read.operand.size
    if address is None or not 0 < size <= 16:
        return None
    data = machine.linear(registers).read(address, size)
    if data is None:
        return None
    near = tuple(
        one
        for one in writers(machine, registers, address, size)
        if not body[0].address <= one.address <= body[-1].address
    )
    others = tuple(one for one in near if not one.beside)
    takers = [
        one
        for one in near
        if one.atomic and abs(one.address - body[0].address) < _FUNCTION and _takes(one, read.test)
    ]
    tried = is_atomic(read.by) or _tried(machine, registers, body, read.operand)
    atomic = tried or bool(takers)
    named = machine.symbol(address)
    return WaitsFor(
        cpu.index,
        address,
        size,
        int.from_bytes(data, "little"),
        str(named) if named is not None else "",
        read.by.text if read.by is read.test else f"{read.by.text}; {read.test.text}",
        machine.where(machine.pc(registers)),
        atomic,
        tuple((one.address, machine.where(one.address), one.text) for one in others[:4]),
        _not_come(machine, cpu, views, others, atomic),
        _alone(cpu, views) and _is_ram(machine, registers, address),
        any(one.beside for one in takers),
    )


def _takes(writer: Writer, test: Instruction) -> bool:
    """Whether an atomic instruction takes the lock that is tested, and does not only count.

    A ticket is drawn from the word beside the one that is compared with it, in a register.
    """
    if writer.beside:
        ticket = test.mnemonic == "cmp" and not any(
            isinstance(operand, ImmediateOperand) for operand in test.operands
        )
        return ticket and "xadd" in writer.text
    return not any(word in _COUNTS for word in writer.text.split())


_COUNTS = frozenset("inc dec add sub".split())
_TRY = 48  # bytes on either side of a loop that waits until a lock is worth another try


def _tried(
    machine: Machine, registers: Registers, body: tuple[Instruction, ...], operand: MemoryOperand
) -> bool:
    """Whether the same operand, through a pointer in a register, is tried to be taken beside the loop.

    Where the code before the loop begins is not known: any start from which it can be read will do.
    """
    first, width = body[0], code_width(registers)
    if operand.named or width is None:
        return False
    base = (machine.pc(registers) or 0) - (registers.rip or 0)
    data = machine.linear(registers).read(first.address - _TRY + base, _TRY) or b""
    starts = [decode_many(data[at:], first.address - _TRY + at, width, _TRY) for at in range(16)]
    behind = machine.linear(registers).read(body[-1].next + base, _TRY) or b""
    for run in (*starts, decode_many(behind, body[-1].next, width, _AHEAD)):
        for at, one in enumerate(run):
            if one.memory is None or not _same_place(one.memory, operand):
                continue
            if one.mnemonic == "xchg" and _is_tested(one, run[at + 1 : at + 3]):
                return True
            if one.text.startswith("lock") and not _COUNTS & set(one.text.split()):
                return True
    return False


def _is_tested(one: Instruction, after: tuple[Instruction, ...]) -> bool:
    """Whether what XCHG read is looked at: one that only stores releases a lock, or sets a flag."""
    names = {whole_register(o.name) for o in one.operands if isinstance(o, RegisterOperand)}
    return any(
        isinstance(operand, RegisterOperand) and whole_register(operand.name) in names
        for test in after
        if test.mnemonic in ("test", "cmp")
        for operand in test.operands
    )


def _same_place(one: MemoryOperand, other: MemoryOperand) -> bool:
    place = (one.base, one.index, one.scale, one.displacement)
    return place == (other.base, other.index, other.scale, other.displacement)


_DEVICES = (range(0xA0000, 0x100000), range(0xC0000000, 1 << 32))  # where no RAM is on a PC


def _alone(cpu: Cpu, views: tuple[CpuView, ...]) -> bool:
    """Whether nothing but this CPU, and no interrupt on it, can write to memory."""
    masked = not (cpu.registers.rflags or 0) & Rflags.IF
    others = (view.state for view in views if view.index != cpu.index)
    return masked and all(state in SILENT for state in others)


def _is_ram(machine: Machine, registers: Registers, address: int) -> bool:
    """Whether a device can't answer at a linear address (it may still write to RAM by DMA)."""
    walk = machine.linear(registers).walk(address)
    physical = walk.physical if walk is not None else None
    return physical is not None and not any(physical in one for one in _DEVICES)


def loop_body(machine: Machine, registers: Registers) -> tuple[Instruction, ...]:
    """The instructions of the short loop that a CPU stands in; empty if it is in none."""
    width, rip, at = code_width(registers), registers.rip, machine.pc(registers)
    if width is None or rip is None or at is None:
        return ()
    memory = machine.linear(registers)
    data = memory.read(at, _BODY) or memory.read(at, 4096 - at % 4096) or b""
    end: Optional[Instruction] = None
    for one in decode_many(data, rip, width, _AHEAD):
        jump = one.kind in (Kind.NEAR_JUMP, Kind.CONDITIONAL_JUMP)
        if jump and one.target is not None and rip - _BODY <= one.target <= rip:
            behind = instructions_behind(machine, registers, one.target, width)
            if any(i.kind is Kind.NEAR_RETURN for i in behind):
                continue  # a way out
            end = one
            break
        if one.kind in (Kind.NEAR_RETURN, Kind.FAR_JUMP, Kind.IRET, Kind.HALT):
            break
    if end is None or end.target is None:
        return ()
    start = end.target
    code = memory.read(at - (rip - start), end.next - start)
    body = decode_many(code or b"", start, width, 2 * _AHEAD)
    whole = body and body[-1].next == end.next and any(one.address == rip for one in body)
    return body if whole and _comes_round(body) else ()


def _comes_round(body: tuple[Instruction, ...]) -> bool:
    """Whether a way leads from the first of these instructions to the jump at their end.

    Compilers put the way out of a loop before it: a jump back to that is none of a loop's.
    """
    at = {one.address: one for one in body}
    ahead, seen = [body[0].address], set[int]()
    while ahead:
        one = at.get(ahead.pop())
        if one is None or one.address in seen:
            continue
        seen.add(one.address)
        if one.kind in (Kind.NEAR_JUMP, Kind.CONDITIONAL_JUMP) and one.target is not None:
            ahead.append(one.target)
        if one.kind not in (Kind.NEAR_JUMP, Kind.NEAR_RETURN):
            ahead.append(one.next)
    return body[-1].address in seen


_STEPS = frozenset("inc dec add sub".split())
_STRING = re.compile(r"(?:rep\w* )?(?:lods|stos|movs|scas|cmps)[bwdq]")


def steps(body: tuple[Instruction, ...]) -> frozenset[str]:
    """The registers that each round moves by a constant: a loop that counts, or walks through
    memory, comes to its end by itself and waits for nobody."""
    found: set[str] = set()
    if not any(one.kind is Kind.CONDITIONAL_JUMP for one in body):
        return frozenset()  # nothing leads out of it
    for one in body:
        to = one.operands[0] if one.operands else None
        if _STRING.fullmatch(one.mnemonic) and not one.sse:
            walked = (o.base for o in one.operands if isinstance(o, MemoryOperand))
            found.update(map(whole_register, walked))
        elif one.mnemonic in _STEPS and isinstance(to, RegisterOperand):
            constant = all(isinstance(o, ImmediateOperand) for o in one.operands[1:])
            if constant and to.name not in _STACK:
                found.add(whole_register(to.name))
        elif one.mnemonic == "lea" and isinstance(to, RegisterOperand):
            if one.memory is not None and not one.memory.index and one.memory.base == to.name:
                found.add(whole_register(to.name))
    return frozenset(found)


def read_of(body: tuple[Instruction, ...], registers: Registers) -> Optional[Instruction]:
    """The instruction that reads the memory which a loop's end depends on; None if none does."""
    read = _read(body, registers)
    return read.by if read is not None else None


def _read(body: tuple[Instruction, ...], registers: Registers) -> Optional[_Read]:
    """The comparison that the loop's conditional jump goes by, and the memory it reads.

    What lies in the CPU's own frame is a limit or a copy: nobody else writes to it.
    """
    jumps = [at for at, one in enumerate(body) if one.kind is Kind.CONDITIONAL_JUMP]
    for jump in reversed(jumps):
        test = next((one for one in reversed(body[:jump]) if one.mnemonic in _TESTS), None)
        if test is None:
            continue
        if isinstance(test.memory, MemoryOperand) and not _own(test.memory, registers):
            return _Read(test, test.memory, test)
        if (before := _read_before(body, test, registers)) is not None:
            return before
    return None


def _read_before(
    body: tuple[Instruction, ...], test: Instruction, registers: Registers
) -> Optional[_Read]:
    """Where a register that is tested was read from memory before."""
    names = {whole_register(o.name) for o in test.operands if isinstance(o, RegisterOperand)}
    for one in reversed(body[: body.index(test)]):
        for to in one.operands:
            if not isinstance(to, RegisterOperand) or not to.written:
                continue
            if whole_register(to.name) not in names:
                continue
            if one.memory is None or one.memory.address_only or _own(one.memory, registers):
                return None
            return _Read(test, one.memory, one)
    return None


def _own(operand: MemoryOperand, registers: Registers) -> bool:
    """Whether it is relative to the CPU's own stack or frame."""
    rsp, rbp = registers.get("rsp"), registers.get("rbp")
    frame = rsp is not None and rbp is not None and 0 <= rbp - rsp < _FRAME
    return operand.base in _STACK or operand.base in _FRAMES and frame


def _then(
    machine: Machine, registers: Registers, body: tuple[Instruction, ...], read: _Read
) -> Optional[Registers]:
    """The registers with the pointer that was read through; None if it is gone with the read.

    Code that is not optimized loads it in each round, and overwrites it with what it reads.
    """
    name, into = whole_register(read.operand.base), read.by.operands[0]
    gone = isinstance(into, RegisterOperand) and into.written and whole_register(into.name) == name
    for one in reversed(body[: body.index(read.by)]):
        to = one.operands[0] if one.operands else None
        if not isinstance(to, RegisterOperand) or not to.written or whole_register(to.name) != name:
            continue
        value = _loaded(machine, registers, one)
        if value is None:
            break
        return replace(registers, general={**registers.general, name: value})
    return None if gone else registers


def _loaded(machine: Machine, registers: Registers, one: Instruction) -> Optional[int]:
    """What a constant, or a word of the CPU's own frame or at a fixed address, puts there."""
    source = one.operands[-1]
    if isinstance(source, ImmediateOperand) and one.mnemonic in ("mov", "movabs"):
        return source.value
    fixed = isinstance(source, MemoryOperand) and source.base in ("", "rip", "eip")
    if not isinstance(source, MemoryOperand) or not (fixed or _own(source, registers)):
        return None
    at = linear_address(one, registers, source)
    if one.mnemonic == "lea":
        return at
    if one.mnemonic not in ("mov", "movabs"):
        return None
    data = machine.linear(registers).read(at, source.size) if at is not None else None
    return None if data is None else int.from_bytes(data, "little")


def whole_register(name: str) -> str:
    """The 64-bit register that a part belongs to: eax, ax, al and ah are rax."""
    if name[:1] == "r" and name[1:2].isdigit():
        return name.rstrip("dwb")
    core = name[1:] if name[:1] in "re" and len(name) == 3 else name
    core = {"sil": "si", "dil": "di", "bpl": "bp", "spl": "sp"}.get(core, core)
    return "r" + (core[0] + "x" if len(core) == 2 and core[1] in "lh" else core) if core else ""


def _not_come(
    machine: Machine,
    cpu: Cpu,
    views: tuple[CpuView, ...],
    others: tuple[Writer, ...],
    lock: bool,
) -> tuple[int, ...]:
    """CPUs that stand before an instruction that would write, in the same function.

    Who idles holds no lock; it may have been sent to sleep before it raises a flag.
    """
    found = []
    for view in views:
        idle = view.state is CpuState.IDLE
        if view.index == cpu.index or view.rip is None or idle and lock:
            continue
        here = machine.symbol(view.rip)
        for one in others:
            there = machine.symbol(one.address)
            same = here is not None and there is not None and here.name == there.name
            near = here is None and not idle and 0 <= one.address - view.rip < _FUNCTION
            if same and view.rip <= one.address or near:
                found.append(view.index)
                break
    return tuple(found)
