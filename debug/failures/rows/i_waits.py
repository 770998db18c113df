# SPDX-License-Identifier: BSD-2-Clause
"""Waits that do not end: what is waited for is known, and who would have to write it."""

from __future__ import annotations

from typing import Optional

from debug.evidence import Evidence
from debug.explain.findings import (
    ExecutingFiller,
    HaltedForever,
    InterruptFlood,
    InterruptStorm,
    LineHeld,
    PortPolled,
    Spinning,
    WaitsFor,
)
from debug.explain.findings.handlers import NoInterruptComes
from debug.explain.findings.waits import AllCounted, CpuLacks, NeverStarted
from debug.explain.model import ABSENT, CpuState, CpuView, Explanation, Status
from debug.failures import chapters
from debug.failures.row import Match, Place, Row, certain, likely, possible

_OVER = ("endless-loop", "cpus-wait-for-each-other")


def _waits(explanation: Explanation) -> tuple[WaitsFor, ...]:
    """Waits that are not the mere consequence of a CPU that did not come, to its start or a barrier."""
    barriers = {lacks.address for lacks in explanation.all(CpuLacks)}
    found = tuple(f for f in explanation.all(WaitsFor) if f.address not in barriers)
    if explanation.status in (Status.HANG, Status.UNKNOWN):
        return found
    if explanation.status is not Status.MISSING_CPU:
        return ()
    views = {view.index: view for view in explanation.cpus}
    return tuple(f for f in found if f.cpu in views and views[f.cpu].arrived is not True)


def _somebody_else_died(explanation: Explanation, waits: WaitsFor) -> bool:
    """A CPU that might have written it went astray: that is the cause."""
    lost = (ExecutingFiller, HaltedForever, InterruptStorm)
    if any(isinstance(f, lost) and f.cpu != waits.cpu for f in explanation.findings):
        return True
    return any(view.arrived is False for view in explanation.cpus if view.index != waits.cpu)


def _lock(evidence: Evidence, explanation: Explanation) -> Optional[Match]:
    for wait in _waits(explanation):
        if not wait.held:
            continue
        if wait.alone:
            return likely(wait)
        gone = [f for f in explanation.all(HaltedForever) if f.cpu != wait.cpu]
        if gone and not explanation.all(ExecutingFiller):
            return likely(wait, *gone[:2])  # whoever holds it can't release it
        held_up = [f for f in explanation.all(WaitsFor) if wait.cpu in f.not_come and not f.lock]
        if held_up and not _somebody_else_died(explanation, wait):
            return likely(wait, *held_up[:2])  # the lock keeps it from what they wait for
        if not _somebody_else_died(explanation, wait) and (nobody := _held_by_nobody(explanation)):
            return likely(*nobody[:3], extra=(_KEPT,))
        if _somebody_else_died(explanation, wait) or not wait.not_come:
            return possible(wait)
        behind = [f for f in explanation.all(WaitsFor) if f.cpu in wait.not_come]
        return likely(wait, *behind[:2])
    return None


_KEPT = "no other CPU executes anything: nobody is left who would release it"


def _held_by_nobody(explanation: Explanation) -> tuple[WaitsFor, ...]:
    """The waits for one lock, where every other CPU is idle: who idles holds no lock."""
    waits = tuple(f for f in explanation.all(WaitsFor) if f.held)
    waiting = {wait.cpu for wait in waits}
    still = (CpuState.IDLE, *ABSENT)
    others = (view for view in explanation.cpus if view.index not in waiting)
    alone = all(view.state in still for view in others)
    return waits if alone and len({wait.address for wait in waits}) == 1 else ()


def _circle(evidence: Evidence, explanation: Explanation) -> Optional[Match]:
    """Each of two CPUs stands before the instruction that the other one waits for."""
    waits = {wait.cpu: wait for wait in _waits(explanation)}
    for wait in waits.values():
        for other in wait.not_come:
            back = waits.get(other)
            if back is None:
                continue
            if wait.cpu in back.not_come and not (wait.lock and back.address == wait.address):
                return likely(wait, back)
    return None


def _idles(view: CpuView) -> bool:
    return view.state is CpuState.IDLE


def _flag(evidence: Evidence, explanation: Explanation) -> Optional[Match]:
    for wait in _waits(explanation):
        if wait.lock or not wait.not_come or _circle(evidence, explanation) is not None:
            continue
        if any(halted.cpu in wait.not_come for halted in explanation.all(HaltedForever)):
            continue  # that CPU's halt is the cause
        idle = [v for v in explanation.cpus if v.index in wait.not_come and _idles(v)]
        halts = tuple(
            f"CPU {view.index} is {view.doing}: an interrupt must wake it" for view in idle
        )
        if _somebody_else_died(explanation, wait) or len(idle) == len(wait.not_come):
            return possible(wait, extra=halts)
        return likely(wait, *(f for f in explanation.all(WaitsFor) if f.cpu in wait.not_come))
    return None


def _masked(evidence: Evidence, explanation: Explanation) -> Optional[Match]:
    """A loop that reads memory which nobody can write: no handler is entered, no CPU runs."""
    for wait in _waits(explanation):
        if any(never.by_aps for never in explanation.all(NeverStarted, wait.cpu)):
            continue  # no handler would write it
        if explanation.chain and explanation.culprit not in (None, wait.cpu):
            continue  # another CPU took an exception, and is gone for that
        if wait.alone and not wait.lock and not wait.not_come:
            return likely(wait)
    return None


def _too_many(evidence: Evidence, explanation: Explanation) -> Optional[Match]:
    """Every CPU that there is has counted itself, and a CPU waits for more."""
    found = explanation.first(AllCounted)
    if found is None or explanation.status not in (Status.HANG, Status.MISSING_CPU):
        return None
    return likely(found) if found.behind else possible(found)


def _none_comes(evidence: Evidence, explanation: Explanation) -> Optional[Match]:
    found = explanation.first(NoInterruptComes)
    if found is None or explanation.status not in (Status.HANG, Status.MISSING_CPU):
        return None
    proof = likely if found.meant else possible
    return proof(found, explanation.first(WaitsFor, found.cpu))


def _all_there(evidence: Evidence, explanation: Explanation) -> Optional[Match]:
    """The BSP waits, and every other CPU is up and idle: nobody will write what it waits for."""
    if explanation.status is not Status.HANG or len(explanation.cpus) < 2:
        return None
    loops = explanation.all(Spinning)
    if len(loops) != 1:
        return None
    others = [view for view in explanation.cpus if view.index != loops[0].cpu]
    if not all(view.state is CpuState.IDLE and view.arrived for view in others):
        return None
    there = tuple(f"CPU {view.index} is up: {view.doing}" for view in others[:4])
    wait = explanation.first(WaitsFor, loops[0].cpu)
    if wait is None and loops[0].clock is not None or wait is not None and wait.held:
        return None  # it waits for time, or for a lock, which who idles does not hold
    if wait is None:
        return possible(loops[0], extra=there)
    counts = any(_counts(text) for _, _, text in wait.writers)
    # What other code writes may be a handler's, and the APs may have nothing to do with it.
    deaf = explanation.first(NoInterruptComes, wait.cpu) is not None
    theirs = counts or not wait.writers and not deaf
    if theirs and not _asked(evidence, wait.cpu):
        return likely(wait, extra=there)
    return possible(wait, extra=there)


def _asked(evidence: Evidence, index: Optional[int]) -> bool:
    """Whether the last IPI of a CPU was an interrupt: it waits for an answer, not for arrivals."""
    apic = next((cpu.apic for cpu in evidence.cpus if cpu.index == index), None)
    icr = apic.icr if apic is not None else None
    return icr is not None and not icr >> 9 & 3 and icr & 0xFF >= 32


def _counts(text: str) -> bool:
    """Whether an instruction adds to what it writes."""
    return next(iter(text.removeprefix("lock ").split()), "") in ("inc", "add", "xadd", "or", "bts")


def _returns(evidence: Evidence, explanation: Explanation) -> Optional[Match]:
    """A fault is delivered, and raised again by the same instruction, without end."""
    storm = explanation.first(InterruptStorm)
    if storm is None or storm.rip is None:
        return None
    if explanation.status not in (Status.HANG, Status.UNKNOWN):
        return None
    view = explanation.view(storm.cpu)
    if storm.vector >= 32 or view is None or view.mode == "real mode":
        return None
    return certain(storm) if explanation.status is Status.HANG else likely(storm)


def _flood(evidence: Evidence, explanation: Explanation) -> Optional[Match]:
    found = explanation.first(LineHeld) or explanation.first(InterruptFlood)
    if found is None or explanation.status not in (Status.HANG, Status.MISSING_CPU):
        return None
    return likely(found)


def _device(evidence: Evidence, explanation: Explanation) -> Optional[Match]:
    """A loop of a few instructions around IN: nothing but the device can end it."""
    if explanation.status not in (Status.HANG, Status.MISSING_CPU):
        return None
    for polled in explanation.all(PortPolled):
        loop = explanation.first(Spinning, polled.cpu)
        if loop is not None and loop.clock is not None and loop.clock.runs:
            continue  # it reads a clock, which answers
        if not polled.input:
            return likely(polled) if polled.device and loop is not None else possible(polled)
    return None


ROWS = (
    Row(
        "interrupt-storm",
        "a hardware interrupt comes again and again, and nothing else is executed",
        Place.RUNNING,
        ("interrupt storm", "irq nobody cared", "hangs right after sti", "timer too fast"),
        "the last interrupts are one vector, each taken at the same instruction; or a level-triggered"
        " line stays active, and its interrupt is taken each time",
        "the interrupted code goes on between two of them",
        "let the handler clear the cause at the device before it acknowledges the interrupt"
        " controller; give a timer a longer period than its handler takes",
        "",
        chapters.INTERRUPTS,
        ("HANG-01",),
        _flood,
        over=(*_OVER, "flag-never-set", "lock-not-released", "cpu-there-not-seen", "ap-missing"),
    ),
    Row(
        "device-not-ready",
        "a CPU polls a port until a device answers, and it does not",
        Place.RUNNING,
        ("hangs in ide_wait", "waits for BSY to clear", "boots only with a disk attached"),
        "a loop of a few instructions reads a port, and nothing else can end it",
        "the loop has another way out, or the device answers in time",
        "look at whether the machine has the device (QEMU: -drive), and give the wait a deadline",
        "",
        chapters.TOGETHER,
        ("HANG-01",),
        _device,
        over=_OVER,
    ),
    Row(
        "handler-returns-to-fault",
        "an exception's handler returns to the instruction that raises it again",
        Place.RUNNING,
        ("interrupt storm", "log floods with the same exception", "CPU hangs at 100 %"),
        "the same exception at the same address again and again, each one delivered",
        "the address changes between them",
        "a fault returns to its instruction: the handler must remove the cause, or not return",
        "Program-Error Exceptions",
        chapters.INTERRUPTS,
        ("HANG-01",),
        _returns,
    ),
    Row(
        "cpu-there-not-seen",
        "a CPU waits for others that are up and idle: they reported where it does not look",
        Place.RUNNING,
        ("BSP waits although all APs run", "AP prints and BSP hangs", "waits for AP online flag"),
        "one CPU spins, and all others are idle in the kernel's code",
        "another CPU spins, has halted or has not come",
        "let both sides use one flag: compare the address that the loop reads with the one that the"
        " AP writes, and whether it is counted atomically and read from memory each time",
        "Locked Atomic Operations",
        chapters.TOGETHER,
        ("AP4-11", "AP4-17"),
        _all_there,
        over=_OVER,
    ),
    Row(
        "waits-in-a-circle",
        "two CPUs wait for each other: each stands before the write that the other one waits for",
        Place.RUNNING,
        ("deadlock at bring-up", "BSP and AP wait for each other", "both CPUs spin"),
        "each CPU's loop reads an address that only code behind the other CPU's loop writes",
        "one of the two has passed its write",
        "write what the other side waits for before waiting oneself",
        "PAUSE-Spin Loop Hint",
        chapters.TOGETHER,
        ("AP4-08", "AP4-09"),
        _circle,
        over=(*_OVER, "flag-never-set"),
    ),
    Row(
        "waits-for-more-cpus",
        "a CPU waits until more CPUs have counted themselves than the machine has",
        Place.RUNNING,
        ("BSP waits although all APs run", "waits for 4 CPUs on a machine of 2", "ncpu is wrong"),
        "its loop compares a counter with a higher number, and every other CPU has passed the"
        " instruction that counts",
        "a CPU has not come, or stands before that instruction",
        "count the MADT's entries that are enabled (flag bit 0), each APIC ID once, or those that were"
        " started; or give the machine as many CPUs (QEMU: -smp), and the wait a deadline",
        "Processor Local APIC Structure",
        chapters.FINDING_CPUS,
        ("AP0-10", "AP4-11"),
        _too_many,
        over=(
            *(*_OVER, "waits-with-interrupts-off", "cpu-there-not-seen", "flag-never-set"),
            *("endless-jump", "halted-forever", "ap-halted-early", "barrier-never-opens"),
        ),
    ),
    Row(
        "waits-with-interrupts-off",
        "a CPU waits, with interrupts off, for memory that only a handler or another CPU would change",
        Place.RUNNING,
        ("hangs in sleep before sti", "tick counter stays 0", "waits for an interrupt with IF=0"),
        "its loop reads RAM, IF is 0, and no other CPU executes anything",
        "IF is 1, or another CPU runs",
        "sti before the wait (with the IDT, the interrupt controller and the timer set up), or poll the"
        " device itself; a counter of CPUs must count those that exist",
        "Masking Maskable Hardware Interrupts",
        chapters.INTERRUPTS,
        ("HANG-01", "HANG-04"),
        _masked,
        over=_OVER,
    ),
    Row(
        "interrupt-cannot-come",
        "a CPU waits for an interrupt, and every source of one is masked or off",
        Place.RUNNING,
        (
            "sleep never returns",
            "hlt never wakes",
            "tick counter stays 0",
            "timer interrupt never comes",
        ),
        "its loop ends by memory that a handler writes, IF is 1, and the PICs, the I/O APIC and the local"
        " APIC's timer let nothing through",
        "one line, pin or timer is not masked, or another CPU runs",
        "unmask the timer's line where the kernel takes it (PIC: port 21H; I/O APIC: its redirection"
        " entry; local APIC: the LVT and the initial count) before the first wait",
        "Handling Local Interrupts",
        chapters.EXCEPTIONS,
        ("HANG-04",),
        _none_comes,
        over=(*_OVER, "delay-never-ends", "flag-never-set", "cpu-there-not-seen"),
    ),
    Row(
        "lock-not-released",
        "a CPU waits for a lock that is held",
        Place.RUNNING,
        ("spinlock deadlock", "AP hangs at its first printf", "lock word is 1"),
        "its loop tries the lock with an atomic instruction, and the lock's word is not 0",
        "the word is 0, or the loop ends",
        "release the lock before waiting for somebody who needs it, and on every path; an interrupt"
        " handler that takes it needs interrupts off while it is held",
        "Locked Atomic Operations",
        chapters.TOGETHER,
        ("AP4-08",),
        _lock,
        over=(*_OVER, "flag-never-set", "waits-in-a-circle"),
    ),
    Row(
        "flag-never-set",
        "a CPU waits for a flag, and the CPU that would set it does not come to that",
        Place.RUNNING,
        ("AP waits for go flag", "barrier never opens", "hangs waiting for other CPU"),
        "its loop reads an address that code writes before which another CPU stands still",
        "the writing code was executed",
        "see what keeps the other CPU from its write",
        "PAUSE-Spin Loop Hint",
        chapters.TOGETHER,
        ("AP4-09", "HANG-01"),
        _flag,
        over=_OVER,
    ),
)
