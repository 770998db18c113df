# SPDX-License-Identifier: BSD-2-Clause
"""Which ports the loop reads that a CPU is in: by its own code, and by the functions it calls.

Only what lies on the CPU's way counts.  A stack also holds the addresses of calls that have long
returned: they tell what was done once, not what is waited for.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Iterator, Optional, Sequence

from debug.evidence import Registers
from debug.explain.callers import caller_of
from debug.explain.context import Machine
from debug.explain.waiting import loop_body
from debug.x86.decode import decode_many
from debug.x86.instruction import ImmediateOperand, Instruction, Kind, RegisterOperand
from debug.x86.modes import code_width

_NESTED = 4  # functions between the loop and where the CPU stands
_DEPTH, _FUNCTIONS = 3, 16  # calls that are followed from the loop
_LENGTH, _BYTES = 256, 1024  # of a function, in instructions and in bytes
_BEFORE, _BEHIND = 6, 6  # instructions between a port's number, the IN, and its test
_LOWEST = 0x20  # the first port behind the DMA controller's: smaller numbers are sizes
_JUMPS = (Kind.NEAR_JUMP, Kind.CONDITIONAL_JUMP)


@dataclass(frozen=True)
class PortRead:
    """One IN of the loop; `bit_0`: the lowest bit of what it reads is tested."""

    port: int
    bit_0: bool


@dataclass
class Loop:
    """The innermost loop around a CPU, and the functions that it calls directly.

    `whole`: it calls nothing through a pointer, so that these are all that it can do.
    """

    body: tuple[Instruction, ...]
    registers: Registers  # in the loop; only RSP is right where the CPU stands deeper
    inside: bool  # the CPU stands in the loop itself
    functions: dict[int, tuple[Instruction, ...]] = field(default_factory=dict)
    whole: bool = True

    @property
    def calls(self) -> bool:
        """Whether it calls anything."""
        return any(one.kind is Kind.NEAR_CALL for one in self.body)

    def reads(self) -> tuple[PortRead, ...]:
        """The ports that are read in it."""
        rdx = self.registers.get("rdx") if self.inside else None
        found = list(self._reads(self.body, rdx))
        for code in self.functions.values():
            found += self._reads(code, None)
        return tuple(dict.fromkeys(found))

    def _reads(self, code: Sequence[Instruction], rdx: Optional[int]) -> Iterator[PortRead]:
        for at, one in enumerate(code):
            ports: tuple[int, ...] = ()
            if one.kind is Kind.PORT and one.mnemonic == "in":
                own = _immediates(one)
                named = _port_in_dx(code[:at])
                if own:
                    ports = (own[0] & 0xFF,)
                elif named is not None or rdx is not None:
                    ports = ((named if named is not None else rdx or 0) & 0xFFFF,)
            elif one.kind is Kind.NEAR_CALL and self._is_in(one.target):
                before = code[max(at - _BEFORE, 0) : at]
                values = [v for i in before for v in _immediates(i) if _LOWEST <= v < 1 << 16]
                ports = tuple(values[-1:])
            tested = any(_tests_bit_0(i) for i in code[at + 1 : at + 1 + _BEHIND])
            yield from (PortRead(port, tested) for port in ports)

    def _is_in(self, target: Optional[int]) -> bool:
        """Whether a function is one that reads the port it is given."""
        code = self.functions.get(target or 0, ())
        at = next((n for n, i in enumerate(code) if i.kind is Kind.PORT and i.mnemonic == "in"), -1)
        return at >= 0 and not _immediates(code[at]) and _port_in_dx(code[:at]) is None


def loop_of(machine: Machine, registers: Registers) -> Optional[Loop]:
    """The loop that a CPU is in, itself or by the functions that called where it stands."""
    at: Optional[Registers] = registers
    for depth in range(_NESTED):
        if at is None:
            return None
        body = loop_body(machine, at)
        if body:
            loop = Loop(body, at, depth == 0)
            _follow(machine, loop)
            return loop
        at = caller_of(machine, at)
    return None


def _follow(machine: Machine, loop: Loop) -> None:
    """Read the functions that the loop calls, and those that they call."""
    width = code_width(loop.registers)
    layer: list[Sequence[Instruction]] = [loop.body]
    for _ in range(_DEPTH):
        called: list[Sequence[Instruction]] = []
        for code in layer:
            for one in code:
                if one.kind is not Kind.NEAR_CALL:
                    continue
                target = one.target
                known = target is not None and width is not None
                if target is None or width is None or len(loop.functions) >= _FUNCTIONS:
                    loop.whole = False
                elif known and target not in loop.functions:
                    loop.functions[target] = function = _function(machine, loop, target, width)
                    loop.whole = loop.whole and bool(function)
                    called.append(function)
        layer = called
    loop.whole = loop.whole and not any(i.kind is Kind.NEAR_CALL for code in layer for i in code)


def _function(machine: Machine, loop: Loop, start: int, width: int) -> tuple[Instruction, ...]:
    """A function up to the return behind which nothing of it jumps."""
    code = loop.registers.segments.get("cs")
    base = code.base if code is not None and width != 64 else 0
    data = machine.linear(loop.registers).some(base + start, _BYTES)
    found: list[Instruction] = []
    end = 0
    for one in decode_many(data, start, width, _LENGTH):
        found.append(one)
        if one.kind in _JUMPS and one.target is not None and one.target < start + _BYTES:
            end = max(end, one.target)
        if one.kind is Kind.NEAR_RETURN and one.address >= end:
            break
    return tuple(found)


def _immediates(one: Instruction) -> list[int]:
    return [o.value for o in one.operands if isinstance(o, ImmediateOperand)]


def _port_in_dx(code: Sequence[Instruction]) -> Optional[int]:
    """What was loaded into DX before."""
    for one in reversed(code[-_BEFORE:]):
        to = one.operands[0] if one.operands else None
        if isinstance(to, RegisterOperand) and to.written and to.name in ("rdx", "edx", "dx"):
            values = _immediates(one)
            return values[0] & 0xFFFF if one.mnemonic.startswith("mov") and values else None
    return None


def _tests_bit_0(one: Instruction) -> bool:
    return one.mnemonic in ("test", "and") and 1 in _immediates(one)
