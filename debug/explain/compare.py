# SPDX-License-Identifier: BSD-2-Clause
"""Each AP against the BSP: what differs is often the answer."""

from __future__ import annotations

from typing import Optional

from debug.evidence import Cpu, Registers, TableRegister
from debug.explain.context import Machine
from debug.explain.findings import (
    CpuDifference,
    DeliveryFailed,
    IdtState,
    IdtStatus,
    LongModeMissing,
    MapDifference,
    PageFault,
)
from debug.explain.model import Finding
from debug.explain.page_fault import long_mode_missing
from debug.x86.modes import Mode, mode_of
from debug.x86.registers import Cr0, Cr4, Efer

# Bits that the page tables and the compiler's code rely on: different on an AP means trouble.
_BITS: tuple[tuple[str, str, int], ...] = (
    ("efer", "nxe", int(Efer.NXE)),
    ("efer", "sce", int(Efer.SCE)),
    ("cr4", "pae", int(Cr4.PAE)),
    ("cr4", "la57", int(Cr4.LA57)),
    ("cr4", "pge", int(Cr4.PGE)),
    ("cr4", "pcide", int(Cr4.PCIDE)),
    ("cr4", "osfxsr", int(Cr4.OSFXSR)),
    ("cr4", "osxsave", int(Cr4.OSXSAVE)),
    ("cr4", "fsgsbase", int(Cr4.FSGSBASE)),
    ("cr4", "smep", int(Cr4.SMEP)),
    ("cr4", "smap", int(Cr4.SMAP)),
    ("cr0", "wp", int(Cr0.WP)),
    ("cr0", "em", int(Cr0.EM)),
    ("cr0", "cd", int(Cr0.CD)),
    ("cr0", "nw", int(Cr0.NW)),
)


def differences(
    machine: Machine, cpu: Optional[int], registers: Registers
) -> tuple[CpuDifference, ...]:
    """The registers of one AP that are not as on the BSP; both must be in long mode."""
    bsp = machine.bsp
    if bsp is None or cpu is None or cpu == bsp.index:
        return ()
    theirs = bsp.registers
    if mode_of(theirs) is not Mode.LONG64 or not mode_of(registers).long:
        return ()
    found = []
    mine3, its3 = registers.get("cr3"), theirs.get("cr3")
    if mine3 is not None and its3 is not None and mine3 != its3:
        sentence = f"CR3 is {mine3:#x}, the BSP has {its3:#x}"
        if mine3 == its3 & 0xFFFF_FFFF:
            sentence += ": the upper half was lost"
        found.append(CpuDifference(cpu, "cr3", its3, mine3, sentence))
    for register, bit, mask in _BITS:
        mine, its = registers.get(register), theirs.get(register)
        if mine is not None and its is not None and (mine ^ its) & mask:
            on, off = ("1", "0") if mine & mask else ("0", "1")
            sentence = f"{register.upper()}.{bit.upper()} is {on}, on the BSP it is {off}"
            name = f"{register}.{bit}"
            found.append(CpuDifference(cpu, name, its & mask, mine & mask, sentence))
    own, loaded = idt_status(cpu, registers), idt_status(bsp.index, theirs)
    if own is not None and loaded is not None:
        if loaded.state is IdtState.LOADED and own.state is not IdtState.LOADED:
            sentence = f"{own.sentences()[0]}; the BSP has loaded one at {loaded.base:#x}"
            found.append(CpuDifference(cpu, "idt", loaded.base, own.base, sentence))
    return tuple(found)


def without_long_mode(machine: Machine, cpu: Cpu) -> tuple[LongModeMissing, ...]:
    """An AP that runs with paging on and without long mode, while the BSP is in long mode."""
    bsp = machine.bsp
    if bsp is None or cpu.index == bsp.index or mode_of(bsp.registers) is not Mode.LONG64:
        return ()
    same = cpu.registers.get("cr3") == bsp.registers.get("cr3")
    return long_mode_missing(machine, cpu.index, cpu.registers, same)


def idt_status(cpu: Optional[int], registers: Registers) -> Optional[IdtStatus]:
    """What the IDT register says about who loaded it."""
    idtr = registers.idtr
    if idtr is None:
        return None
    return IdtStatus(cpu, _idt_state(idtr, mode_of(registers)), idtr.base, idtr.limit)


def _idt_state(idtr: TableRegister, mode: Mode) -> IdtState:
    if idtr.limit < 8:
        return IdtState.NULL
    if idtr.base == 0 and idtr.limit == 0xFFFF:
        return IdtState.RESET
    if idtr.base == 0 and idtr.limit == 0x3FF:
        return IdtState.IVT
    return IdtState.LOADED


def map_differences(
    machine: Machine, cpu: Optional[int], registers: Registers, findings: tuple[Finding, ...]
) -> tuple[MapDifference, ...]:
    """For each address that faulted: whether the BSP's tables map what this CPU's do not."""
    bsp = machine.bsp
    if bsp is None or cpu is None or cpu == bsp.index:
        return ()
    cr3, theirs = registers.get("cr3"), bsp.registers.get("cr3")
    if cr3 is None or theirs is None or cr3 == theirs:
        return ()
    if not (bsp.registers.get("cr0") or 0) & Cr0.PG:
        return ()  # without paging everything is mapped
    found = []
    for finding in findings:
        address: Optional[int] = None
        if isinstance(finding, PageFault):
            address = finding.address
        elif isinstance(finding, DeliveryFailed):
            address = finding.address
        if address is None:
            continue
        if machine.maps(bsp.registers, address) and machine.maps(registers, address) is False:
            found.append(MapDifference(cpu, address, theirs, cr3))
    return tuple(dict.fromkeys(found))
