# SPDX-License-Identifier: BSD-2-Clause
"""How RSP came to name memory that is not mapped: by its load, or from a stack that was good."""

from __future__ import annotations

from typing import Iterator

from debug.evidence import Registers
from debug.explain.context import PAGE, Machine
from debug.x86.modes import code_width

_CODE = 512  # bytes before RIP: a prologue is near the first use of what it takes
_SUB_RSP, _SUB_ESP = b"\x48\x81\xec", b"\x81\xec"  # sub rsp, imm32; sub esp, imm32
_MOV_RSP, _MOV_RSP32, _MOV_ESP = b"\x48\xbc", b"\x48\xc7\xc4", b"\xbc"
_LARGEST = 1 << 24  # bytes: no kernel's function has more locals
_PUSHED = 256  # bytes that the function has pushed since, or the one that loaded RSP


def taken(machine: Machine, registers: Registers) -> int:
    """The bytes that one function took from a mapped stack, to below it; 0 if none did."""
    rsp, width = registers.get("rsp"), code_width(registers)
    if rsp is None or width not in (32, 64):
        return 0
    code, opcode = _before(machine, registers), _SUB_RSP if width == 64 else _SUB_ESP
    for size in _operands(code, opcode, 4):
        if PAGE <= size < _LARGEST and _stack_ends_at(machine, registers, rsp + size):
            return size
    rbp = registers.get("rbp")
    if rbp is not None and PAGE <= rbp - rsp < _LARGEST and _stack_ends_at(machine, registers, rbp):
        return rbp - rsp  # an array whose size is known at run time
    return 0


def _stack_ends_at(machine: Machine, registers: Registers, address: int) -> bool:
    """Whether a function's frame may begin there, or a few pushes above."""
    return any(machine.maps(registers, address + above) for above in (0, _PUSHED))


def loaded(machine: Machine, registers: Registers) -> bool:
    """Whether the code right before RIP loads RSP with the very number that it holds, about."""
    rsp, code = registers.get("rsp"), _before(machine, registers)
    if rsp is None:
        return False
    forms = ((_MOV_RSP, 8), (_MOV_RSP32, 4), (_MOV_ESP, 4))
    for opcode, size in forms:
        for value in _operands(code, opcode, size):
            if opcode is _MOV_RSP32 and value >> 31:
                value |= 0xFFFF_FFFF << 32
            if 0 <= value - rsp <= _PUSHED:
                return True
    return False


def _operands(code: bytes, opcode: bytes, size: int) -> Iterator[int]:
    """What stands behind each place of an opcode, the last one first."""
    at = code.rfind(opcode)
    while at >= 0:
        yield int.from_bytes(code[at + len(opcode) :][:size], "little")
        at = code.rfind(opcode, 0, at)


def _before(machine: Machine, registers: Registers) -> bytes:
    rip = machine.pc(registers)
    start = max((rip or 0) - _CODE, 0)
    memory = machine.linear(registers)
    if rip is None:
        return b""
    data = memory.read(start, rip - start)
    if data is None:  # the page before is not there
        start = rip & -PAGE
        data = memory.read(start, rip - start)
    return data or b""
