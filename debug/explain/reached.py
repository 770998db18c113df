# SPDX-License-Identifier: BSD-2-Clause
"""How far a CPU came that lights no lamps: the stages that its registers prove, in their words.

A register that holds what only a step can have put there proves the step.  What INIT resets is
asked alone: CR2, the general registers and the MSRs keep what was before.  [SDM 3A "Processor State
After Reset"]
"""

from __future__ import annotations

from typing import Optional

from debug.evidence import Cpu, IpiKind, Registers
from debug.explain import firmware
from debug.explain import stages as stage
from debug.explain.context import Machine
from debug.explain.model import UNBEGUN, CpuState, Milestone
from debug.x86.modes import Mode, long_mode_active, mode_of
from debug.x86.registers import Cr0, Cr4, Efer

_SVR_ENABLE = 1 << 8
_HIGHER_HALF = 1 << 63
_RESET_LIMIT = 0xFFFF
_DORMANT = (*UNBEGUN, CpuState.RESET)


def reached(machine: Machine, cpu: Cpu, state: CpuState) -> tuple[Milestone, ...]:
    """The steps of one CPU, in the order of a boot; none for a CPU with stages of its own."""
    if machine.stages_of(cpu) or state in _DORMANT or cpu.registers.rip is None:
        return ()
    if firmware.findings(machine):
        return ()
    if cpu.index == machine.bsp_index:
        return (*_bsp(machine, cpu.registers), *_sent(machine), *_apic(cpu, stage.BSP_APIC))
    return (*_start(machine, cpu), *_ap(machine, cpu.registers), *_apic(cpu, stage.AP_APIC))


def _start(machine: Machine, cpu: Cpu) -> list[Milestone]:
    page = machine.sipi_page(cpu)
    sent = [i.vector for i in machine.ipis_for(cpu) if i.kind is IpiKind.SIPI]
    if page is not None:
        how = f"it left the wait for a SIPI: CS is {page >> 4:#06x}"
    elif sent and sent[0] is not None:
        how = f"a SIPI with vector {sent[0]:#04x} was sent to it, and it left the wait for one"
    else:
        how = "it left the wait for a SIPI"
    return [Milestone(stage.AP_REAL16, how, "the AP left the wait for a SIPI in real mode")]


def _ap(machine: Machine, registers: Registers) -> list[Milestone]:
    found = []
    gdtr, cr0 = registers.gdtr, registers.get("cr0")
    if gdtr is not None and (gdtr.base, gdtr.limit) != (0, _RESET_LIMIT):
        how = f"GDTR is {gdtr.base:#x}, limit {gdtr.limit:#x}"
        found.append(Milestone(stage.AP_GDT, how, "a GDT is loaded"))
    if cr0 is not None and cr0 & Cr0.PE:
        found.append(Milestone(stage.AP_PE, f"CR0 is {cr0:#x}"))
    found += _switches(registers, stage.AP_PROT32, _AP)
    found += _long(machine, registers, stage.AP_LONG64)
    if mode_of(registers) is Mode.LONG64:
        base = registers.get("gs_base")
        if base:
            found.append(Milestone(stage.AP_GS, f"GS base is {base:#x}", "GS base is set"))
        found += _descriptors(registers, stage.AP_DESCRIPTORS)
    return found


def _bsp(machine: Machine, registers: Registers) -> list[Milestone]:
    found = _switches(registers, stage.BSP_PROT32, _BSP)
    found += _long(machine, registers, stage.BSP_LONG64)
    if mode_of(registers) is Mode.LONG64:
        if (registers.rip or 0) >= _HIGHER_HALF:
            how = f"RIP is {registers.rip:#x}"
            found.append(Milestone(stage.BSP_HIGH, how, "it runs at a higher-half address"))
        found += _descriptors(registers, stage.BSP_DESCRIPTORS)
    return found


_AP = (stage.AP_PAE, stage.AP_CR3, stage.AP_LME, stage.AP_PG)
_BSP = (stage.BSP_PAE, stage.BSP_CR3, stage.BSP_LME, stage.BSP_PG)


def _switches(registers: Registers, protected: int, codes: tuple[int, ...]) -> list[Milestone]:
    """From 32-bit code to paging."""
    mode = mode_of(registers)
    found = []
    if mode in (Mode.PROTECTED32, Mode.COMPAT32, Mode.LONG64):
        words = "32-bit protected mode was entered"
        if mode is Mode.PROTECTED32:
            found.append(Milestone(protected, "CS.D is 1", words))
    cr0, cr3, cr4 = (registers.get(name) for name in ("cr0", "cr3", "cr4"))
    efer = registers.get("efer")
    if cr4 is not None and cr4 & Cr4.PAE:
        found.append(Milestone(codes[0], f"CR4 is {cr4:#x}"))
    if cr3:
        found.append(Milestone(codes[1], f"CR3 is {cr3:#x}", "CR3 is loaded"))
    if efer is not None and efer & Efer.LME:
        found.append(Milestone(codes[2], f"EFER is {efer:#x}", "EFER.LME is set"))
    if cr0 is not None and cr0 & Cr0.PG:
        active = long_mode_active(registers)
        words = "" if active else "paging is on, without long mode"
        found.append(Milestone(codes[3], f"CR0 is {cr0:#x}", words))
    return found


def _long(machine: Machine, registers: Registers, code: int) -> list[Milestone]:
    """64-bit mode, and the kernel's own text where symbols tell it."""
    if mode_of(registers) is not Mode.LONG64:
        return []
    found = [Milestone(code, "CS.L is 1", "64-bit mode was entered")]
    pc = machine.pc(registers)
    symbol = machine.symbol(pc)
    if symbol is not None and code == stage.AP_LONG64:
        text = "it executes the kernel's own code"
        found.append(Milestone(stage.AP_C, f"RIP is in {symbol.name}", text))
    return found


def _descriptors(registers: Registers, code: int) -> list[Milestone]:
    task, idtr = registers.segments.get("tr"), registers.idtr
    loaded = task is not None and task.selector & 0xFFFC
    real = idtr is not None and idtr.limit >= 16 and (idtr.base, idtr.limit) != (0, _RESET_LIMIT)
    if not loaded or not real or task is None or idtr is None:
        return []
    how = f"TR is {task.selector:#06x}, IDTR is {idtr.base:#x}, limit {idtr.limit:#x}"
    return [Milestone(code, how, "a TSS and an IDT are loaded")]


def _apic(cpu: Cpu, code: int) -> list[Milestone]:
    svr = cpu.apic.svr if cpu.apic is not None else None
    if svr is None or not svr & _SVR_ENABLE:
        return []
    return [Milestone(code, f"SVR is {svr:#x}", "its local APIC is on")]


def _sent(machine: Machine) -> list[Milestone]:
    """The INITs and SIPIs of the kernel's that were seen."""
    found: list[Milestone] = []
    for kind, code in ((IpiKind.INIT, stage.BSP_INIT_SENT), (IpiKind.SIPI, stage.BSP_SIPI_SENT)):
        for ipi in [i for i in machine.kernel_ipis if i.kind is kind][:8]:
            to = ipi.shorthand or f"APIC ID {ipi.destination}"
            vector = f" with vector {ipi.vector:#04x}" if ipi.vector is not None else ""
            found.append(Milestone(code, "seen at its local APIC", f"{kind.value}{vector} to {to}"))
    return list(dict.fromkeys(found))


def furthest(found: tuple[Milestone, ...]) -> Optional[Milestone]:
    """The last step of the way through the modes; IPIs and the local APIC are beside it."""
    beside = (stage.BSP_INIT_SENT, stage.BSP_SIPI_SENT, stage.BSP_APIC, stage.AP_APIC)
    way = [one for one in found if one.code not in beside]
    return way[-1] if way else None
