# SPDX-License-Identifier: BSD-2-Clause
"""Stacks before paging: where there is no RAM, a push is lost and a return reads something else."""

from __future__ import annotations

import re
from typing import Optional

from debug.evidence import Evidence, Registers
from debug.explain.findings import BspInFirmware, ConsoleSays, ExecutingFiller, OutsideMemory
from debug.explain.model import CpuState, Explanation, Status
from debug.failures import chapters
from debug.failures.row import Match, Place, Row, likely, words
from debug.x86.modes import Mode, mode_of
from debug.x86.registers import Cr0

_NO_RAM = range(0xA0000, 0x100000)  # video memory, adapters' ROMs and the BIOS
_TOP = range(0xFEC00000, 1 << 32)  # APICs and the firmware's ROM, on every PC
_MODES = (Mode.REAL, Mode.PROTECTED16, Mode.PROTECTED32)


def _outside(evidence: Evidence, explanation: Explanation) -> Optional[Match]:
    """A stack pointer where nothing that is pushed can be read again."""
    if explanation.status not in (Status.HANG, Status.TRIPLE_FAULT, Status.UNKNOWN):
        return None
    if (pushed := _pushed(evidence, explanation)) is not None:
        return pushed
    for view in explanation.cpus:
        lost: tuple[ExecutingFiller | OutsideMemory, ...] = (
            *explanation.all(ExecutingFiller, view.index),
            *explanation.all(OutsideMemory, view.index),
        )
        at_work = view.state in (CpuState.RUNNING, CpuState.SPINNING, CpuState.SHUT_DOWN)
        if not at_work or explanation.first(BspInFirmware) is not None:
            continue
        steps = (step for step in explanation.chain if step.cpu == view.index)
        registers = next((step.registers for step in steps if step.registers), None)
        if registers is None:
            registers = next((c.registers for c in evidence.cpus if c.index == view.index), None)
        where = _stack(registers) if registers is not None else None
        astray = bool(lost) or view.state is CpuState.SHUT_DOWN
        if where == 0 and not lost or any(one.rip == _NO_RAM.start for one in lost):
            continue  # no stack was needed yet, or it went straight on, off the end of low RAM
        if where is not None and (why := _why(evidence, where, astray)):
            text = f"its stack pointer is {where:#x}, without paging: {why}"
            return likely(cpu=view.index, extra=(text, *words(*lost[:1])))
    return None


_DELIVERED_TO = re.compile(r"physical address (0x[0-9a-f]+)")
_FRAME, _PAGE = 64, 0xFFF  # bytes of a frame that is pushed, with its alignment


def _pushed(evidence: Evidence, explanation: Explanation) -> Optional[Match]:
    """KVM met a device where the CPU pushed an exception's frame."""
    told = next((f for f in explanation.all(ConsoleSays) if f.topic == "kvm-delivery"), None)
    found = _DELIVERED_TO.search(told.text) if told is not None else None
    rsp = evidence.cpus[0].registers.get("rsp") if len(evidence.cpus) == 1 else None
    if found is None or rsp is None:
        return None
    if not 0 < (rsp - int(found[1], 16)) & _PAGE <= _FRAME:
        return None  # it went to a table, or to another stack
    text = f"the place in its page is that of the frame below the stack pointer {rsp:#x}"
    return likely(told, cpu=evidence.cpus[0].index, extra=(text,))


def _stack(registers: Registers) -> Optional[int]:
    """The physical address of the last word pushed; None where paging is on or nothing is known."""
    rsp, stack = registers.get("rsp"), registers.segments.get("ss")
    if rsp is None or stack is None or mode_of(registers) not in _MODES:
        return None
    if (registers.get("cr0") or 0) & Cr0.PG:
        return None
    return stack.base + (rsp & 0xFFFF if mode_of(registers) is Mode.REAL else rsp) & _TOP.stop - 1


def _why(evidence: Evidence, where: int, astray: bool) -> str:
    if where - 1 in _NO_RAM:
        return "there are ROM and video memory, where no return address stays"
    if not astray:
        return ""
    if where in _TOP or where == 0 and not evidence.stages:
        return "what is pushed goes to the end of the address space, where the firmware's ROM is"
    seen = evidence.memory.read(0x1000, 4) is not None
    if where > _NO_RAM.stop and seen and evidence.memory.read(where - 4, 4) is None:
        return "no memory answers there"
    return ""


ROWS = (
    Row(
        "stack-outside-memory",
        "the stack lies where there is no RAM: in ROM, in video memory, or beyond the end of memory",
        Place.PROTECTED,
        ("runs away after the first call", "ret goes to garbage", "ESP not set before push"),
        "without paging, the stack pointer lies in ROM or video memory, or where no memory answers; or a"
        " hypervisor met a device where an exception's frame was pushed",
        "the stack pointer lies in RAM (a stack over the interrupt vectors or over the image itself shows"
        " in what it overwrote alone)",
        "load SS and the stack pointer before the first push or call: neither a boot loader nor a BIOS"
        " promises a stack (Multiboot leaves ESP undefined)",
        "Stacks",
        chapters.STACKS,
        ("B32-06", "B16-15"),
        _outside,
        over=("executing-zeros", "executing-poison", "iret-frame-bad", "hypervisor-cannot-emulate"),
    ),
)
