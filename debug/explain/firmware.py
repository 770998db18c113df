# SPDX-License-Identifier: BSD-2-Clause
"""Records that end before any kernel: all that they show is a PC's BIOS, or UEFI.

A BIOS runs in the ROM below 1 MiB, or with a GDT that lies there.  UEFI as QEMU ships it (EDK II)
keeps one GDT of nine entries, or eleven, with CS 38H and its data at 30H, for itself and what it starts.
"""

from __future__ import annotations

from typing import Optional

from debug.evidence import Ending, EventKind, Registers
from debug.explain.context import Machine
from debug.explain.findings import FirmwareDied, OnlyFirmware
from debug.x86.modes import Mode, mode_of

AREAS = ((0xE0000, 0x100000), (0xFFF00000, 0x1_0000_0000))  # where a PC's BIOS lies
_BIOS, _UEFI = "the BIOS", "UEFI"
_UEFI_CODE, _UEFI_DATA, _UEFI_LIMITS = 0x38, 0x30, (0x47, 0x57)
_LOW_HALF = 1 << 47


def in_rom(address: Optional[int]) -> bool:
    """Whether a linear address lies where a PC has its BIOS."""
    return address is not None and any(low <= address < high for low, high in AREAS)


def died(machine: Machine) -> tuple[FirmwareDied, ...]:
    """That the firmware itself was at work when a CPU shut down, where the source shows it."""
    return (FirmwareDied(None),) if machine.evidence.in_firmware else ()


def findings(machine: Machine) -> tuple[OnlyFirmware, ...]:
    """That the record of a machine, without its memory, shows nothing but firmware."""
    evidence = machine.evidence
    if machine.traced or machine.has_memory or machine.kernel_ipis or not evidence.events:
        return ()
    if evidence.ending is not Ending.UNKNOWN:
        return ()
    if any(event.kind is EventKind.EXCEPTION for event in evidence.events):
        return ()
    shown = [event.registers for event in evidence.events]
    shown += [cpu.registers for cpu in machine.cpus]
    shown += [reset.registers for reset in evidence.resets if reset.registers is not None]
    # In real mode QEMU names the vector alone: a BIOS takes its interrupts there.
    named = {shown_by(machine, one) for one in shown if one.rip is not None} or {_BIOS}
    if None in named:
        return ()
    return (OnlyFirmware(None, " and ".join(sorted(filter(None, named))), len(evidence.events)),)


def shown_by(machine: Machine, registers: Registers) -> Optional[str]:
    """Which firmware these are the registers of; None if they may be a kernel's."""
    mode, at = mode_of(registers), machine.pc(registers)
    if in_rom(at):
        return _BIOS
    gdtr, code, stack = registers.gdtr, *(registers.segments.get(name) for name in ("cs", "ss"))
    if at is None or gdtr is None or code is None or stack is None:
        return None
    if mode in (Mode.PROTECTED16, Mode.PROTECTED32) and in_rom(gdtr.base):
        return _BIOS
    if mode is not Mode.LONG64 or at >= _LOW_HALF:
        return None
    if (code.selector, stack.selector) != (_UEFI_CODE, _UEFI_DATA):
        return None
    return _UEFI if gdtr.limit in _UEFI_LIMITS else None
