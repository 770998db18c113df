# SPDX-License-Identifier: BSD-2-Clause
"""PICs as a BIOS leaves them: their interrupts have the vectors of exceptions.

Those below 32 are the architecture's [SDM 3A "External Interrupts Received at Processor Pins"].
"""

from __future__ import annotations

from debug.evidence import Cpu, EventKind, Pic
from debug.explain import firmware
from debug.explain.compare import idt_status
from debug.explain.context import Machine
from debug.explain.findings import IdtState, PicOnExceptions
from debug.x86.modes import Mode, mode_of
from debug.x86.registers import Rflags

_CASCADE = 2  # the first PIC's line that the second one is behind
_EXCEPTIONS = 32
_LINES = 8
_MASKED = 1 << 16  # of an LVT entry
_MODES = (Mode.PROTECTED32, Mode.COMPAT32, Mode.LONG64)


def findings(machine: Machine) -> tuple[PicOnExceptions, ...]:
    """That the kernel takes, or can take, interrupts of a PIC that sends exceptions' vectors."""
    bsp, evidence = machine.bsp, machine.evidence
    if bsp is None or not evidence.pics or not _is_a_kernels(machine, bsp):
        return ()
    pic = evidence.pics[0]
    lines = [line for line in range(_LINES) if not pic.imr >> line & 1 and line != _CASCADE]
    if pic.base >= _EXCEPTIONS or not lines or not _passes(machine, bsp):
        return ()
    taken = _taken(machine, pic, bsp)
    allowed = bool((bsp.registers.rflags or 0) & Rflags.IF)
    if not taken and not allowed:
        return ()  # what it will do before it lets interrupts in is not known
    return (PicOnExceptions(bsp.index, pic.base, tuple(lines), tuple(sorted(taken))),)


def _is_a_kernels(machine: Machine, bsp: Cpu) -> bool:
    """Whether the BSP runs a kernel that has loaded an IDT of its own."""
    status = idt_status(bsp.index, bsp.registers)
    if mode_of(bsp.registers) not in _MODES or machine.in_uefi(bsp):
        return False
    if firmware.shown_by(machine, bsp.registers) is not None:
        return False
    return status is not None and status.state is IdtState.LOADED


def _passes(machine: Machine, bsp: Cpu) -> bool:
    """Whether the local APIC lets the PIC's interrupts through: it is off, or LINT0 is open.

    Bochs's PIC is wired past it.
    """
    apic = bsp.apic
    if machine.evidence.emulator == "bochs" or apic is None or not apic.on:
        return True
    return not apic.lvt.get("lint0", 0) & _MASKED


def _taken(machine: Machine, pic: Pic, bsp: Cpu) -> set[int]:
    """The vectors that this kernel has taken of the PIC."""
    vectors = {pic.base + line for line in range(_LINES) if pic.isr >> line & 1}
    for event in machine.last_events:
        hardware = event.kind is EventKind.HARDWARE_INTERRUPT and event.cpu in (bsp.index, None)
        ours = mode_of(event.registers) in _MODES
        if hardware and ours and firmware.shown_by(machine, event.registers) is None:
            vectors.add(event.vector)
    return {vector for vector in vectors if pic.base <= vector < pic.base + _LINES}
