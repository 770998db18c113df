# SPDX-License-Identifier: BSD-2-Clause
"""Interrupts that do not reach a CPU: held back by its local APIC, or sent to nobody.

[SDM 3A "Interrupt, Task, and Processor Priority", "Determining IPI Destination"]
"""

from __future__ import annotations

from typing import Optional

from debug.evidence import Cpu, LocalApic
from debug.explain.context import Machine
from debug.explain.findings.waits import InterruptHeld, IpiLost
from debug.explain.interrupted import frame_of
from debug.explain.model import ABSENT, CpuState, CpuView
from debug.x86.modes import Mode, mode_of
from debug.x86.registers import Rflags

_FIXED = (0, 1)  # delivery modes: fixed, lowest priority
_LOGICAL = 1 << 11
_USER = 32  # the first vector that is no exception's
_CLUSTER = 0
_EVERYBODY = 0xFF
_MODES = (Mode.LONG64, Mode.COMPAT32, Mode.PROTECTED32)


def findings(machine: Machine, views: tuple[CpuView, ...]) -> tuple[InterruptHeld | IpiLost, ...]:
    """What is pending and not taken, and the interrupts of those who wait that nobody got."""
    waiting = [view.index for view in views if view.state is CpuState.SPINNING]
    found: list[InterruptHeld | IpiLost] = []
    for view in views:
        cpu = machine.cpu(view.index)
        if cpu is None or view.state in ABSENT or mode_of(cpu.registers) not in _MODES:
            continue
        held = _held(machine, cpu, view, waiting)
        if held is not None:
            found.append(held)
    for index in waiting:
        cpu = machine.cpu(index)
        lost = _lost(machine, cpu) if cpu is not None else None
        if lost is not None:
            found.append(lost)
    return tuple(found)


def _held(machine: Machine, cpu: Cpu, view: CpuView, waiting: list[int]) -> Optional[InterruptHeld]:
    apic, registers = cpu.apic, cpu.registers
    vector = max(apic.irr, default=0) if apic is not None else 0
    if apic is None or vector < _USER or not apic.on:
        return None
    senders = (other for other in waiting if other != cpu.index)
    sender = next((one for one in senders if _sends(machine, one, cpu, vector)), None)
    served = max((one for one in apic.isr if one >= _USER), default=0)
    if served >> 4 >= vector >> 4:
        if not (registers.rflags or 0) & Rflags.IF or frame_of(machine, registers) is not None:
            return None  # it is in the handler, which may still acknowledge it
        why = f"vector {served:#x} is in service, and no handler runs: no EOI was sent"
        return InterruptHeld(cpu.index, vector, why, view.doing, False, served, None, sender)
    priority = apic.tpr if apic.tpr is not None else (registers.get("cr8") or 0) << 4
    if priority >> 4 >= vector >> 4:
        why = (
            f"its task priority (TPR) is {priority:#x}, which lets only vectors from"
            f" {(priority >> 4) + 1 << 4:#x} on pass"
        )
        if priority >> 4 == 0xF:
            why = f"its task priority (TPR) is {priority:#x}, which lets no interrupt pass"
        return InterruptHeld(cpu.index, vector, why, view.doing, False, None, priority, sender)
    if not (registers.rflags or 0) & Rflags.IF and not cpu.served:
        why = "its interrupts are off (RFLAGS.IF is 0)"
        return InterruptHeld(cpu.index, vector, why, view.doing, True, None, None, sender)
    return None


def _sends(machine: Machine, sender: int, cpu: Cpu, vector: int) -> bool:
    """Whether the last IPI of a CPU was this interrupt for that one."""
    one = machine.cpu(sender)
    icr = one.apic.icr if one is not None and one.apic is not None else None
    if one is None or icr is None or icr & 0xFF != vector or icr >> 8 & 7 not in _FIXED:
        return False
    return cpu.index in _named(machine, one, icr)


def _lost(machine: Machine, cpu: Cpu) -> Optional[IpiLost]:
    """The last IPI of a CPU that waits, where nobody takes it, or only the sender."""
    icr = cpu.apic.icr if cpu.apic is not None else None
    if icr is None or icr >> 8 & 7 not in _FIXED or icr & 0xFF < _USER:
        return None
    known = all(one.apic is not None and one.apic.svr is not None for one in machine.cpus)
    if not known or len(machine.cpus) < 2:
        return None
    unshifted = icr >> 32 & 0xFFFFFF and not icr >> 56 and not icr >> 18 & 3
    if unshifted and cpu.apic is not None and not cpu.apic.x2apic:
        why = (
            f"ICR's high half is {icr >> 32:#x}: in xAPIC mode the destination is its bits 24 to 31,"
            " which are 0"
        )
        text = f"{_destination(icr)} in xAPIC mode"
        return IpiLost(cpu.index, icr, icr & 0xFF, text, why, sure=False)
    named = _named(machine, cpu, icr)
    off = tuple(one for one in named if not _is_on(machine.cpu(one)))
    destination = _destination(icr)
    if not named:
        why = f"no CPU has that APIC ID: they have {', '.join(map(str, machine.apic_ids[:16]))}"
        if icr & _LOGICAL:
            ids = ", ".join(f"CPU {one.index}: {_ldr(one):#x}" for one in machine.cpus[:8])
            why = f"no CPU has one of these bits in its logical destination register ({ids})"
        return IpiLost(cpu.index, icr, icr & 0xFF, destination, why)
    if off:
        names = ", ".join(map(str, off[:8]))
        why = f"CPU {names}: the local APIC is off (SVR bit 8 is 0), and takes no interrupt"
        return IpiLost(cpu.index, icr, icr & 0xFF, destination, why, off)
    if named == (cpu.index,) and not icr >> 18 & 3:
        why = f"that is CPU {cpu.index} itself: no other CPU got it"
        return IpiLost(cpu.index, icr, icr & 0xFF, destination, why)
    return None


def _is_on(cpu: Optional[Cpu]) -> bool:
    return cpu is None or cpu.apic is None or cpu.apic.on


def _ldr(cpu: Cpu) -> int:
    return (cpu.apic.ldr if cpu.apic is not None else None) or 0


def _destination(icr: int) -> str:
    shorthand = ("", "itself", "all CPUs", "all CPUs but itself")[icr >> 18 & 3]
    if shorthand:
        return shorthand
    kind = "the logical destination" if icr & _LOGICAL else "APIC ID"
    return f"{kind} {_target(icr):#x}" if icr & _LOGICAL else f"{kind} {_target(icr)}"


def _target(icr: int) -> int:
    return icr >> 56


def _named(machine: Machine, sender: Cpu, icr: int) -> tuple[int, ...]:
    """The CPUs that an IPI is for, as far as that is known: those whose APIC is off, too."""
    everybody = tuple(cpu.index for cpu in machine.cpus)
    shorthand, target = icr >> 18 & 3, _target(icr)
    if shorthand:
        others = tuple(one for one in everybody if one != sender.index)
        return (sender.index,) if shorthand == 1 else everybody if shorthand == 2 else others
    if target == _EVERYBODY or icr >> 32 & 0xFFFFFF:
        return everybody  # x2APIC mode's destination may stand there
    if icr & _LOGICAL:
        return tuple(cpu.index for cpu in machine.cpus if _matches(cpu.apic, target))
    return tuple(cpu.index for cpu in machine.cpus if machine.apic_id(cpu) == target)


def _matches(apic: Optional[LocalApic], target: int) -> bool:
    """[SDM 3A "Logical Destination Mode"]; one whose register is not known may be meant."""
    if apic is None or apic.ldr is None or apic.dfr is None:
        return True
    if apic.dfr == _CLUSTER:
        return apic.ldr >> 4 == target >> 4 and bool(apic.ldr & target & 0xF)
    return bool(apic.ldr & target)
