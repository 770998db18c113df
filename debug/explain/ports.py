# SPDX-License-Identifier: BSD-2-Clause
"""Ports that a CPU reads again and again: a device that does not answer, or a person's key.

What the loop reads tells, and what the functions do that it calls.  Where no loop is found, or it
calls through a pointer, the encodings of IN count around the instruction pointer and around the
places that the stack returns to, each with the port that its own code names.
"""

from __future__ import annotations

from typing import Iterator

from debug.evidence import Cpu
from debug.explain.code import ending_at
from debug.explain.context import Machine
from debug.explain.findings import PortPolled
from debug.explain.model import CpuState, CpuView
from debug.explain.polling import loop_of
from debug.x86.instruction import Kind
from debug.x86.modes import code_width

_STATUS = {  # bit 0 of these says whether somebody typed or sent something
    0x64: "the keyboard controller's status",
    **dict.fromkeys((0x3FD, 0x2FD, 0x3ED, 0x2ED), "a serial port's line status"),
}
_DEVICES = {
    **dict.fromkeys((0x1F7, 0x177, 0x3F6, 0x376), "a disk's status"),
    **dict.fromkeys(range(0x40, 0x44), "the PIT"),
    0x61: "the PIT's gate and output",
    0x71: "the real-time clock",
}
_AROUND = 96  # bytes of code on each side
_FUNCTION = 1024  # bytes of a function that are looked at
_STACK, _GONE = 256, 128  # bytes of stack above and below its pointer
_NEXT = 16  # bytes from an IN to the test of what it read
_FAR = 24  # bytes between the port's number and the IN
_CALLS = (5, 2, 3, 6)  # lengths of a near call
_IN_IMMEDIATE, _IN_DX, _MOV_EDX = 0xE4, 0xEC, 0xBA
_BIT_0 = (b"\xa8\x01", b"\x24\x01", b"\xe0\x01", b"\xc0\x01")  # test al, 1; and al, 1; and eax, 1


def findings(machine: Machine, views: tuple[CpuView, ...]) -> tuple[PortPolled, ...]:
    """What each CPU polls that stands in a loop, and whether one waits for input."""
    found = []
    for view in views:
        cpu = machine.cpu(view.index)
        if cpu is None or view.state not in (CpuState.SPINNING, CpuState.RUNNING):
            continue
        if code_width(cpu.registers) not in (32, 64):
            continue
        where = machine.where(machine.pc(cpu.registers))
        loop = loop_of(machine, cpu.registers)
        reads = loop.reads() if loop is not None else ()
        if loop is not None and not reads and (loop.whole or not loop.calls):
            continue  # it waits for something else, whatever the code around it reads
        typed = sorted({read.port for read in reads if read.bit_0} & set(_STATUS))
        known = [read.port for read in reads if read.port in {**_DEVICES, **_STATUS}]
        if loop is None or not loop.whole and not typed and not known:
            typed = sorted(set(_nearby(machine, cpu)) & set(_STATUS))
        for port in (typed or known or [read.port for read in reads])[:1]:
            device = {**_DEVICES, **_STATUS}.get(port, "")
            found.append(PortPolled(view.index, port, device, bool(typed), where))
    return tuple(found)


def _nearby(machine: Machine, cpu: Cpu) -> Iterator[int]:
    memory = machine.linear(cpu.registers)
    for place in (machine.pc(cpu.registers), *_returns(machine, cpu)):
        if place is None or place < _FUNCTION:
            continue
        symbol = machine.symbol(place)
        back = max(_AROUND, min(symbol.offset, _FUNCTION) if symbol is not None else 0)
        code = memory.read(place - back, back + _AROUND) or b""
        for at, byte in enumerate(code):
            if not any(test in code[at : at + _NEXT] for test in _BIT_0):
                continue  # the other bits tell of output
            if byte == _IN_IMMEDIATE and at + 1 < len(code):
                yield code[at + 1]
            if byte == _IN_DX:
                before = code[max(at - _FAR, 0) : at]
                named = before.rfind(bytes([_MOV_EDX]))
                yield int.from_bytes(before[named + 1 : named + 3], "little") if named >= 0 else 0


def _returns(machine: Machine, cpu: Cpu) -> Iterator[int]:
    """Words about the top of the stack behind which a call stands; below it are those of calls
    that have just returned, and will be made again."""
    memory, rsp = machine.linear(cpu.registers), cpu.registers.get("rsp")
    width = code_width(cpu.registers) or 64
    data = memory.read(rsp - _GONE, _GONE + _STACK) if rsp is not None else None
    for at in range(0, len(data or b""), width // 8):
        word = int.from_bytes((data or b"")[at : at + width // 8], "little")
        if (
            word > _FUNCTION
            and ending_at(memory.read, word, width, Kind.NEAR_CALL, _CALLS) is not None
        ):
            yield word
