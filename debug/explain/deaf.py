# SPDX-License-Identifier: BSD-2-Clause
"""Waits for an interrupt that can't come: every source of one is masked, and no other CPU runs.

A loop around HLT that nothing but an interrupt can end is an idle CPU's, unless the loop has an end
of its own: then it waits for what a handler would write.  A device that writes its interrupt as a
message is not seen here, which is why nothing of this is certain.
[SDM 3A "Handling Local Interrupts", "APIC Timer"]
"""

from __future__ import annotations

from typing import Optional

from debug.evidence import Cpu, Ending, LocalApic, Registers
from debug.explain.callers import caller_of
from debug.explain.context import Machine
from debug.explain.findings.handlers import NoInterruptComes
from debug.explain.model import SILENT, CpuState, CpuView
from debug.explain.waiting import loop_body, read_of
from debug.x86.instruction import Instruction, Kind
from debug.x86.modes import code_width
from debug.x86.registers import Rflags

_CASCADE = 2  # the first PIC's line that the second one is behind
_ALL = 0xFF
_MASKED = 1 << 16  # of an LVT or redirection entry
_PERIODIC, _DEADLINE = 1 << 17, 1 << 18  # of the timer's LVT entry
_NESTED = 2  # functions between the loop and its HLT


def findings(machine: Machine, views: tuple[CpuView, ...]) -> tuple[NoInterruptComes, ...]:
    """The CPU of a stopped machine that waits for what can't come; others idle, and are as deaf."""
    awake = [view for view in views if view.state not in SILENT]
    others = len(awake) > 1
    if others:
        awake = [view for view in awake if not _deaf(machine, view)]
    if machine.evidence.ending is not Ending.STOPPED or len(awake) != 1:
        return ()
    cpu = machine.cpu(awake[0].index)
    if cpu is None or not (cpu.registers.rflags or 0) & Rflags.IF or cpu.registers.cpl:
        return ()
    if code_width(cpu.registers) not in (32, 64):
        return ()
    why = masked(machine, cpu)
    test = _test(machine, cpu, awake[0].state) if why else None
    if test is None:
        return ()
    armed = cpu.apic is not None and not cpu.apic.lvt.get("timer", _MASKED) & _MASKED
    return (NoInterruptComes(cpu.index, awake[0].where, test.text, why, not others or armed),)


def _deaf(machine: Machine, view: CpuView) -> bool:
    """Whether a CPU idles, and no interrupt wakes it but one that another CPU sends."""
    cpu = machine.cpu(view.index)
    return view.state is CpuState.IDLE and cpu is not None and bool(masked(machine, cpu))


def masked(machine: Machine, cpu: Cpu) -> tuple[str, ...]:
    """Why no interrupt reaches the CPU, one sentence a source; () if one may, or it isn't known."""
    evidence, apic = machine.evidence, cpu.apic
    if len(evidence.pics) != 2 or evidence.io_apics is None or apic is None or apic.svr is None:
        return ()
    by_pic, by_timer = _pics(machine, apic), _timer(apic)
    entries = [entry for pins in evidence.io_apics for entry in pins]
    if not by_pic or not by_timer or any(not entry & _MASKED for entry in entries):
        return ()
    if apic.irr:
        return ()  # one is on its way
    by_io = f"the I/O APIC masks all its {len(entries)} pins" if entries else ""
    return tuple(line for line in (by_pic, by_io, by_timer) if line)


def _pics(machine: Machine, apic: LocalApic) -> str:
    """Why the PICs send nothing; "" if they may."""
    first, second = machine.evidence.pics
    behind = bool(first.imr & 1 << _CASCADE) or second.imr == _ALL
    if first.imr | 1 << _CASCADE == _ALL and behind:
        return f"the PICs mask every line (imr {first.imr:#x} and {second.imr:#x})"
    wired = machine.evidence.emulator == "bochs"  # there the PIC's output does not pass the APIC
    if not wired and apic.on and apic.lvt.get("lint0", 0) & _MASKED:
        return "the local APIC masks LINT0, which the PICs' interrupts come through"
    return ""


def _timer(apic: LocalApic) -> str:
    """Why the local APIC's timer sends nothing; "" if it may."""
    entry = apic.lvt.get("timer")
    if not apic.on:
        return "the local APIC is off, and its timer with it"
    if entry is None or apic.timer_initial is None:
        return ""
    if entry & _MASKED:
        return f"the local APIC's timer is masked (LVT {entry:#x})"
    if entry & _DEADLINE:
        return ""
    if not apic.timer_initial:
        return "the local APIC's timer was not started (initial count 0)"
    if not entry & _PERIODIC and apic.timer_current == 0:
        return "the local APIC's timer ran once, and has ended"
    return ""


def _test(machine: Machine, cpu: Cpu, state: CpuState) -> Optional[Instruction]:
    """The comparison of memory by which the loop ends that the CPU halts or spins in."""
    at: Optional[Registers] = cpu.registers
    for _ in range(_NESTED):
        body = loop_body(machine, at) if at is not None else ()
        if body and at is not None:
            halts = any(one.kind is Kind.HALT for one in body)
            if halts is not (state is CpuState.IDLE) or not _has_end(body):
                return None
            return read_of(body, at)
        if state is not CpuState.IDLE or at is None:
            return None
        at = caller_of(machine, at)
    return None


def _has_end(body: tuple[Instruction, ...]) -> bool:
    """Whether a condition leads out of the loop, and nothing is called in it."""
    if any(one.kind is Kind.NEAR_CALL for one in body):
        return False
    first, last = body[0].address, body[-1]
    return any(
        one.kind is Kind.CONDITIONAL_JUMP
        and (one is last or one.target is not None and not first <= one.target < last.next)
        for one in body
    )
