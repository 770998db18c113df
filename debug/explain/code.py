# SPDX-License-Identifier: BSD-2-Clause
"""The instruction that a CPU stands on, fetched through its own tables and mode."""

from __future__ import annotations

from typing import Callable, Iterable, Optional

from debug.evidence import Registers
from debug.explain.context import Machine
from debug.explain.findings import Contents
from debug.x86.decode import MAX_LENGTH, decode, decode_many
from debug.x86.instruction import Instruction, Kind
from debug.x86.modes import code_width
from debug.x86.patterns import uniform

Read = Callable[[int, int], Optional[bytes]]  # (address, length): None where that can't be read

_FILLER_BYTES = 16  # so many equal bytes in a row are no code
_ENOUGH = 8
_CALLS = (5, 2, 3, 6, 4, 7, 8)  # lengths that a near call has
_FILLERS = {0: Contents.ZEROS, 0xCC: Contents.INT3, 0xFF: Contents.ONES}


def code_bytes(machine: Machine, registers: Registers, length: int = MAX_LENGTH) -> bytes:
    """Up to `length` bytes at the instruction pointer; fewer where a page ends the readable part."""
    at = machine.pc(registers)
    if at is None:
        return b""
    return machine.linear(registers).some(at, length)


def instruction_at(machine: Machine, registers: Registers) -> Optional[Instruction]:
    """The decoded instruction at the instruction pointer; None if it can't be read or decoded."""
    width, rip = code_width(registers), registers.rip
    if width is None or rip is None:
        return None
    data = code_bytes(machine, registers)
    return decode(data, rip, width) if data else None


def caller(machine: Machine, registers: Registers) -> Optional[Instruction]:
    """The call whose return address is the word at RSP; None if what precedes it is no call."""
    width, rsp = code_width(registers), registers.get("rsp")
    if width not in (32, 64) or rsp is None:
        return None
    memory = machine.linear(registers)
    word = memory.read(rsp, width // 8)
    back = int.from_bytes(word, "little") if word is not None else 0
    return ending_at(memory.read, back, width, Kind.NEAR_CALL, _CALLS) if back >= _ENOUGH else None


def ending_at(
    read: Read, end: int, width: int, kind: Kind, lengths: Iterable[int]
) -> Optional[Instruction]:
    """The instruction of this kind and one of these lengths that ends at `end`, if there is one.

    read: of linear memory, or of physical memory where the page tables are gone.
    """
    for length in lengths:
        data = read(end - length, length)
        one = decode(data, end - length, width) if data is not None else None
        if one is not None and one.kind is kind and one.length == length:
            return one
    return None


_FUNCTION = 1 << 16  # bytes of a function that are decoded at most


def instruction_before(machine: Machine, registers: Registers) -> Optional[int]:
    """Where the instruction begins that ends at RIP, counted from the start of its function."""
    width, end = code_width(registers), registers.rip
    symbol = machine.symbol(end - 1) if end else None
    if width is None or end is None or symbol is None or not 0 <= symbol.offset < _FUNCTION:
        return None
    start = end - 1 - symbol.offset
    data = machine.linear(registers).some(start, end - start)
    at = 0
    while at < len(data):
        one = decode(data[at : at + MAX_LENGTH], start + at, width)
        if one is None:
            return None
        if at + one.length == end - start:
            return start + at
        at += one.length
    return None


def filler_at(machine: Machine, registers: Registers) -> Optional[Contents]:
    """What the bytes at the instruction pointer are, if they are a filler and not code."""
    return filler(code_bytes(machine, registers, _FILLER_BYTES))


def filler(data: bytes) -> Optional[Contents]:
    """ZEROS, INT3 or ONES where all of at least 8 bytes are equal; else None."""
    if len(data) < _ENOUGH:
        return None
    value = uniform(data)
    return None if value is None else _FILLERS.get(value)


SEVERAL_REX = 3  # so many REX.W prefixes in a row of code are no accident
_AFTER_REX = frozenset(b"\x01\x03\x29\x2b\x31\x33\x39\x3b\x63\x81\x83\x85\x89\x8b\x8d\xb8\xc7\xff")


def starts_with_rex(data: bytes) -> bool:
    """Whether the bytes start like 64-bit code: REX.W and an opcode that often follows it.

    In 32-bit code the same bytes are an INC or DEC right before another instruction: rare.
    """
    return len(data) > 2 and data[0] in (0x48, 0x49, 0x4C, 0x4D) and data[1] in _AFTER_REX


def rex_count(data: bytes) -> int:
    """At how many places the bytes start like a 64-bit instruction."""
    return sum(starts_with_rex(data[at : at + 3]) for at in range(len(data) - 2))


def in_wait_loop(machine: Machine, registers: Registers) -> tuple[bool, bool]:
    """(a PAUSE lies in the loop, it jumps to itself) around the instruction pointer."""
    width, rip = code_width(registers), registers.rip
    if width is None or rip is None:
        return False, False
    here = instruction_at(machine, registers)
    if here is None:
        return False, False
    if here.jumps_to_itself:
        return False, True
    data = code_bytes(machine, registers, 48)
    ahead = decode_many(data, rip, width, 12)
    pause = False
    for one in ahead:
        pause = pause or one.kind is Kind.PAUSE
        if one.kind in (Kind.NEAR_JUMP, Kind.CONDITIONAL_JUMP) and one.target is not None:
            # A condition that jumps forward leaves the loop: its end is still to come.
            leaves = one.kind is Kind.CONDITIONAL_JUMP and one.target > rip
            if not leaves and rip - 64 <= one.target <= rip + 64:
                found = instructions_behind(machine, registers, one.target, width)
                if one.kind is Kind.CONDITIONAL_JUMP and any(i.kind in _ENDS for i in found):
                    continue  # it leads out as well: to an end that lies before the loop
                pause = pause or any(item.kind is Kind.PAUSE for item in found)
                return pause, False
        if one.kind in (Kind.NEAR_RETURN, Kind.HALT, Kind.FAR_JUMP, Kind.IRET):
            break
    return pause, False


_ENDS = (Kind.NEAR_RETURN, Kind.FAR_RETURN, Kind.IRET)


def instructions_behind(
    machine: Machine, registers: Registers, start: int, width: int
) -> tuple[Instruction, ...]:
    """What lies from offset `start` of the code segment up to the instruction pointer."""
    at, rip = machine.pc(registers), registers.rip
    if at is None or rip is None or start >= rip:
        return ()
    data = machine.linear(registers).read(at - (rip - start), rip - start) or b""
    return decode_many(data, start, width, len(data))
