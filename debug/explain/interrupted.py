# SPDX-License-Identifier: BSD-2-Clause
"""Frames of exceptions and interrupts on a stack: what a handler interrupted, or what it left.

[SDM 3A "64-Bit Mode Stack Frame", "Exception- and Interrupt-Handler Procedures"]
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

from debug.evidence import Registers
from debug.explain.code import filler
from debug.explain.context import Machine
from debug.explain.findings.handlers import FrameLeft, InHandler, InService
from debug.explain.model import CpuState, CpuView
from debug.x86.canonical import is_canonical
from debug.x86.decode import MAX_LENGTH, decode
from debug.x86.modes import code_width
from debug.x86.registers import Rflags

_WORDS = 512  # of a stack: a handler of C has some dozens in use
_DEEP = 2048  # words, of a handler that has buffers there
_ALWAYS_1, _ALWAYS_0 = 1 << 1, 1 << 3 | 1 << 5 | 1 << 15
_FLAGS = 1 << 22  # the flags end below
_ALIGNED = 16  # the CPU aligns RSP to so many bytes before it pushes a frame in 64-bit mode
_SELECTORS = 1 << 16


@dataclass(frozen=True)
class Frame:
    """What the CPU pushed when it entered a handler."""

    at: int  # linear address of the slot with RIP
    rip: int
    cs: int
    rflags: int


def frame_of(machine: Machine, registers: Registers) -> Optional[Frame]:
    """The innermost frame above the stack pointer; None if there is none."""
    width, rsp = code_width(registers), registers.get("rsp")
    if width not in (32, 64) or rsp is None:
        return None
    size = width // 8
    words = _words(machine, registers, rsp, size)
    for at in range(len(words) - (4 if width == 64 else 2)):
        place = rsp + at * size
        if not ends_a_frame(registers, words[at + 1 :], place + size, width):
            continue
        if words[at] and _is_code(machine, registers, words[at]):
            return Frame(place, words[at], words[at + 1], words[at + 2])
    return None


def in_handler(machine: Machine, registers: Registers, interrupted: Registers) -> Optional[bool]:
    """Whether a CPU is where an exception was raised, or in its handler; None: nobody can tell.

    The handler's frame stays on the stack until IRET pops it.
    """
    width, rsp = code_width(registers), registers.get("rsp")
    at, code = interrupted.rip, interrupted.segments.get("cs")
    if registers.rip == at:
        return True
    if width not in (32, 64) or rsp is None or not machine.has_memory or code is None:
        return None
    size = width // 8
    words = _words(machine, registers, rsp, size, _DEEP)
    if not words:
        return None
    for slot, word in enumerate(words[:-2]):
        if word == at and words[slot + 1] & 0xFFFF == code.selector and words[slot + 2] & _ALWAYS_1:
            return True
    return False


def _words(
    machine: Machine, registers: Registers, rsp: int, size: int, count: int = _WORDS
) -> list[int]:
    memory = machine.linear(registers)
    data = memory.some(rsp, count * size)
    return [int.from_bytes(data[at : at + size], "little") for at in range(0, len(data) - 7, size)]


def ends_a_frame(registers: Registers, words: list[int], place: int, width: int) -> bool:
    """Whether CS and RFLAGS, and in 64-bit mode RSP and SS, stand at the start of `words`."""
    code = registers.segments.get("cs")
    if code is None or len(words) < (4 if width == 64 else 2):
        return False
    if words[0] >= _SELECTORS or words[0] & 3 not in (0, 3) or words[0] < 8:
        return False
    if words[0] & 3 == 0 and words[0] != code.selector:
        return False
    flags = words[1]
    if not flags & _ALWAYS_1 or flags & _ALWAYS_0 or flags >= _FLAGS:
        return False
    if width == 32:
        return True
    if words[3] >= _SELECTORS or not is_canonical(words[2]):
        return False
    return words[0] & 3 == 3 or 0 <= words[2] - (place + 4 * 8) < _ALIGNED


def _is_code(machine: Machine, registers: Registers, address: int) -> bool:
    """Whether something that can be executed stands at an address."""
    data = machine.linear(registers).some(address, MAX_LENGTH)
    if not data or len(data) >= 8 and filler(data) is not None:
        return False
    return decode(data, address, code_width(registers) or 64) is not None


def findings(machine: Machine, views: tuple[CpuView, ...]) -> tuple[InHandler | FrameLeft, ...]:
    """Of each CPU that stands still: the handler that it is in, or that it left without IRET."""
    found: list[InHandler | FrameLeft] = []
    for view in views:
        cpu = machine.cpu(view.index)
        if cpu is None or view.state not in (CpuState.HALTED, CpuState.SPINNING):
            continue
        registers = cpu.registers
        if view.state is CpuState.HALTED and (left := _left(machine, view.index, registers)):
            found.append(left)
            continue
        frame = frame_of(machine, registers)
        masked = not (registers.rflags or 0) & Rflags.IF
        if frame is not None and masked:
            found.append(_in_handler(machine, view.index, registers, frame))
    return tuple(found)


def in_service(machine: Machine) -> tuple[InService, ...]:
    """The interrupt of the first PIC that nobody has acknowledged."""
    bsp, pics = machine.bsp, machine.evidence.pics
    if bsp is None or not pics or not pics[0].isr or not machine.has_memory:
        return ()
    registers = bsp.registers
    if not (registers.rflags or 0) & Rflags.IF or code_width(registers) not in (32, 64):
        return ()
    if registers.cpl not in (0, None) or frame_of(machine, registers) is not None:
        return ()
    pic = pics[0]
    line = (pic.isr & -pic.isr).bit_length() - 1
    held = pic.irr & ~pic.imr & -(1 << line) & 0xFF
    return (InService(bsp.index, pic.base + line, bool(held)),)


def _in_handler(machine: Machine, cpu: int, registers: Registers, frame: Frame) -> InHandler:
    data = machine.linear(registers).some(frame.rip, MAX_LENGTH)
    one = decode(data, frame.rip, code_width(registers) or 64)
    text = one.text if one is not None else ""
    return InHandler(cpu, frame.rip, machine.where(frame.rip), text)


def _left(machine: Machine, cpu: int, registers: Registers) -> Optional[FrameLeft]:
    """CS and RFLAGS on top of the stack: RIP alone was popped, by RET."""
    width, rsp = code_width(registers), registers.get("rsp")
    if width not in (32, 64) or rsp is None:
        return None
    size = width // 8
    words = _words(machine, registers, rsp, size)
    if not ends_a_frame(registers, words, rsp, width) or not words[1] & Rflags.IF:
        return None
    code = registers.segments.get("cs")
    if code is None or words[0] != code.selector:
        return None
    return FrameLeft(cpu, rsp, words[0], words[1], width == 64)
