# SPDX-License-Identifier: BSD-2-Clause
"""Which of the report's words a machine gets: healthy, hang, missing-cpu and the others."""

from __future__ import annotations

from debug.evidence import Ending, EventKind, Registers
from debug.explain import alive, arrival, fault, panic
from debug.explain import stages as stage
from debug.explain.context import Machine
from debug.explain.findings import (
    BspInFirmware,
    ConsoleSays,
    ExceptionReported,
    ExecutingFiller,
    FarJumpAstray,
    HaltedForever,
    InitAfterSipi,
    InitMissing,
    InService,
    InterruptFlood,
    InterruptStorm,
    KernelAbsent,
    KernelGaveUp,
    LineHeld,
    LongModeMissing,
    OnlyFirmware,
    OutsideMemory,
    PanicMessage,
    PortPolled,
    SipiMissing,
    SipiReceived,
    Spinning,
    WrittenEnd,
)
from debug.explain.findings.handlers import NoInterruptComes, ProgramLoops, RetriedInRealMode
from debug.explain.findings.state import StringRunsAway
from debug.explain.model import CpuState, CpuView, Finding, Status
from debug.x86.exceptions import DF, GP, NMI, NP, SS, TS, UD


def judge(
    machine: Machine, views: tuple[CpuView, ...], findings: tuple[Finding, ...], died: bool
) -> Status:
    """Where the user said what a healthy guest prints, no other one is healthy."""
    status = _judge(machine, views, findings, died)
    return Status.UNKNOWN if status is Status.HEALTHY and machine.evidence.unseen else status


def _judge(
    machine: Machine, views: tuple[CpuView, ...], findings: tuple[Finding, ...], died: bool
) -> Status:
    ending = machine.evidence.ending
    if died:
        return Status.TRIPLE_FAULT
    if any(isinstance(f, (PanicMessage, ExceptionReported)) for f in findings):
        return Status.PANIC
    if ending is Ending.RESET:
        return Status.RESET
    if ending in (Ending.EMULATOR_DIED, Ending.RESTARTED):
        return Status.UNKNOWN
    if any(isinstance(f, RetriedInRealMode) and f.cpu == machine.bsp_index for f in findings):
        return Status.HANG
    if any(isinstance(f, (KernelAbsent, BspInFirmware)) for f in findings):
        return Status.UNKNOWN
    if any(isinstance(f, OnlyFirmware) for f in findings):
        return Status.HEALTHY if machine.evidence.cut_off else Status.UNKNOWN
    if ending is Ending.STOPPED and _bsp_storms(machine, findings):
        return Status.HANG
    if _missing(machine, views, findings):
        return Status.MISSING_CPU
    if panic.failed(machine):
        return Status.PANIC
    if ending in (Ending.EXITED, Ending.UNTIL) or _announced_halt(findings):
        return Status.HEALTHY if arrival.accounted_for(machine) else Status.UNKNOWN
    return _at_rest(machine, views, findings)


def _bsp_storms(machine: Machine, findings: tuple[Finding, ...]) -> bool:
    """The BSP takes one exception over and over, and has sent no AP a SIPI."""
    storm = next((f for f in findings if isinstance(f, InterruptStorm)), None)
    if storm is None or storm.cpu != machine.bsp_index:
        return False
    return not any(isinstance(f, (KernelGaveUp, SipiReceived)) for f in findings)


def _announced_halt(findings: tuple[Finding, ...]) -> bool:
    """The guest says that it halts, and a CPU does."""
    told = any(isinstance(f, ConsoleSays) and f.topic == "halted" for f in findings)
    return told and any(isinstance(f, HaltedForever) for f in findings)


def _missing(machine: Machine, views: tuple[CpuView, ...], findings: tuple[Finding, ...]) -> bool:
    """Whether a CPU that was meant to come up did not."""
    if any(isinstance(f, KernelGaveUp) for f in findings):
        return True
    if _bsp_is_stuck(machine, views):
        return False
    if arrival.left_behind(machine):
        return True
    expected = machine.evidence.expected_cpus
    arrived = sum(1 for view in views if view.arrived)
    undecided = sum(1 for view in views if view.arrived is None)
    if expected is not None and views and arrived + undecided < expected:
        return True
    short = {f.cpu for f in findings if isinstance(f, LongModeMissing) and f.as_bsp}
    if any(view.arrived is None and view.index in short for view in views):
        return True  # it executes, in a mode in which it can't be in the kernel
    taken = {f.cpu for f in findings if isinstance(f, InitAfterSipi)}
    if any(v.index in taken and v.state is CpuState.WAITING_FOR_SIPI for v in views):
        return True
    woken = {f.cpu for f in findings if isinstance(f, SipiReceived)}
    skipped = {f.cpu for f in findings if isinstance(f, SipiMissing)}
    if not woken:  # none was started: only those that took an INIT were meant to be
        skipped -= {f.cpu for f in findings if isinstance(f, InitMissing)}
    return any(view.arrived is False and view.index in woken | skipped for view in views)


def _bsp_is_stuck(machine: Machine, views: tuple[CpuView, ...]) -> bool:
    """The BSP stands still before it has begun to start the others: they are not missing."""
    bsp = machine.bsp
    if bsp is None or not machine.stages_of(bsp):
        return False
    if any(machine.reached(bsp, code) for code in (stage.BSP_INIT_SENT, stage.BSP_ALL_ONLINE)):
        return False
    stuck = (CpuState.SPINNING, CpuState.HALTED)
    return any(view.index == bsp.index and view.state in stuck for view in views)


_LOST = (ExecutingFiller, FarJumpAstray, OutsideMemory, StringRunsAway)


def _at_rest(machine: Machine, views: tuple[CpuView, ...], findings: tuple[Finding, ...]) -> Status:
    """The observer stopped the machine, or only looked: healthy, hanging, or unknown."""
    lost = any(isinstance(f, _LOST) for f in findings)
    if not lost and any(isinstance(f, PortPolled) and f.input for f in findings):
        return Status.HEALTHY  # it waits for a person
    ended = {f.cpu for f in findings if isinstance(f, WrittenEnd)}
    if lost or any(
        isinstance(f, (InterruptFlood, InterruptStorm, LineHeld, NoInterruptComes, Spinning))
        or isinstance(f, HaltedForever)
        and f.cpu not in ended
        or isinstance(f, InService)
        and f.pending
        for f in findings
    ):
        watched = machine.evidence.ending is Ending.STOPPED
        return Status.HANG if watched else Status.UNKNOWN
    awake = alive.awake(views)
    if not views and machine.evidence.ending is Ending.STOPPED:
        return Status.UNKNOWN  # it ran, and nobody could look at it
    at_rest = ended | {cpu.index for cpu in machine.cpus if cpu.served}
    at_rest |= {f.cpu for f in findings if isinstance(f, ProgramLoops)}
    if awake and all(view.state is CpuState.IDLE or view.index in at_rest for view in awake):
        return Status.HEALTHY
    if any(_refused(machine, view) for view in awake):
        return Status.UNKNOWN
    known = {cpu.index: bool(cpu.moved) for cpu in machine.cpus if cpu.moved is not None}
    at_work = at_rest | {index for index, moved in known.items() if moved}
    if _beyond_real_mode(awake) and all(view.index in known for view in awake):
        at_work |= {view.index for view in views if view.state is CpuState.IDLE}
    if awake and known and at_work >= set(known) and not _in_exceptions(machine):
        return Status.HEALTHY
    if alive.printing(machine, views) and alive.alone(machine, views):
        return Status.HEALTHY
    return Status.HEALTHY if _only_handled(machine) else Status.UNKNOWN


def _refused(machine: Machine, view: CpuView) -> bool:
    """The kernel stands on an instruction that it can't execute: it may be faulting all the time.

    A page fault is no mistake by itself.
    """
    cpu = machine.cpu(view.index)
    if cpu is None or cpu.halted or cpu.registers.cpl not in (0, None):
        return False
    refusal = fault.predict(machine, cpu.registers)
    return refusal is not None and refusal.vector in (UD, *_SEVERE)


_SEVERE = (DF, TS, NP, SS, GP)  # a record that ends near one of these may not go on


def _beyond_real_mode(views: list[CpuView]) -> bool:
    """Whether all these CPUs are where a kernel's are once it works."""
    return all(view.mode != "real mode" for view in views)


_MANY = 16  # exceptions of a kernel in a row


def _in_exceptions(machine: Machine) -> bool:
    """The kernel raises one exception after the other: each is handled, and it may not come on."""
    last = machine.last_events[-_MANY:]
    raised = [e for e in last if e.kind is EventKind.EXCEPTION and e.registers.cpl == 0]
    return len(raised) == _MANY


def _only_handled(machine: Machine) -> bool:
    """A record of interrupts and exceptions that goes on after each: they were handled."""
    last = machine.last_events[-4:]
    fatal = [event for event in last if event.kind is EventKind.EXCEPTION and event.vector != NMI]
    if last and _is_stuck_in_ring3(last[-1].registers):
        return False
    return bool(last) and last[-1] not in fatal and not any(e.vector in _SEVERE for e in fatal)


def _is_stuck_in_ring3(registers: Registers) -> bool:
    """CPL 3 and no TSS: what was to be delivered last, could not be."""
    task = registers.segments.get("tr")
    return registers.cpl == 3 and task is not None and not task.selector & 0xFFFC
