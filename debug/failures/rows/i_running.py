# SPDX-License-Identifier: BSD-2-Clause
"""After bring-up: loops, and what can be proven without a named cause."""

from __future__ import annotations

from typing import Optional

from debug.evidence import Evidence
from debug.explain.findings import (
    CpuDifference,
    CpuSilent,
    FatalException,
    HaltedForever,
    IdtStatus,
    InHandler,
    PageFault,
    PanicMessage,
    SaidBefore,
    Spinning,
    StageReached,
    WaitsFor,
)
from debug.explain.model import CpuState, Explanation, Status
from debug.failures import chapters
from debug.failures.row import Match, Matcher, Place, Row, certain, likely, possible
from debug.x86.exceptions import GP, NP, PF, SS, TS, UD


def _self_jump(evidence: Evidence, explanation: Explanation) -> Optional[Match]:
    if explanation.first(PanicMessage) is not None:
        return None  # where a panic ends
    for loop in explanation.all(Spinning):
        if loop.self_jump and explanation.status is not Status.HEALTHY:
            reached = explanation.first(StageReached, loop.cpu)
            handler = explanation.first(InHandler, loop.cpu)
            if loop.interrupts and reached is None:
                return possible(loop, extra=(_GOES_ON,))
            if handler is not None and reached is None:
                return possible(loop, handler)  # what it was entered for is the cause
            if (said := explanation.first(SaidBefore, loop.cpu)) is not None:
                return possible(loop, said)
            return certain(loop, reached)
    return None


_GOES_ON = "interrupts are on: what their handlers do goes on, and many kernels end so on purpose"


def _waiting(evidence: Evidence, explanation: Explanation) -> Optional[Match]:
    """Two or more CPUs wait in loops with PAUSE: a lock, a barrier, or a flag that never comes."""
    loops = [f for f in explanation.all(Spinning) if f.pause]
    if len(loops) < 2 or explanation.status not in (Status.HANG, Status.MISSING_CPU):
        return None
    if _barrier(evidence, explanation) is not None:
        return None
    return possible(*loops[:4], *(explanation.first(WaitsFor, loop.cpu) for loop in loops[:4]))


def _spin(evidence: Evidence, explanation: Explanation) -> Optional[Match]:
    if explanation.status not in (Status.HANG, Status.MISSING_CPU, Status.UNKNOWN):
        return None
    for loop in explanation.all(Spinning):
        if not loop.self_jump:
            wait = explanation.first(WaitsFor, loop.cpu)
            return possible(loop, wait, explanation.first(StageReached, loop.cpu))
    return None


_WAITS = ("delay", "sleep", "calibrat", "pit_", "_pit", "tick", "timer", "hpet", "rtc", "wait_us")


def _delay(evidence: Evidence, explanation: Explanation) -> Optional[Match]:
    """A CPU spins in a function that measures time, and others wait for it or it came nowhere."""
    if explanation.status not in (Status.HANG, Status.MISSING_CPU):
        return None
    for loop in explanation.all(Spinning):
        if loop.stands:
            return likely(loop, explanation.first(StageReached, loop.cpu))
        if loop.clock is not None and loop.clock.runs:
            continue  # it ends: what takes the time is who asked for so much
        if any(word in _function(loop.where) for word in _WAITS):
            off = "interrupts are off: no timer interrupt is taken"
            verdict = likely if loop.clock is None else possible
            return verdict(
                loop,
                explanation.first(WaitsFor, loop.cpu),
                explanation.first(StageReached, loop.cpu),
                extra=() if loop.interrupts else (off,),
            )
    return None


def _function(where: str) -> str:
    return where.split("+")[0].split(",")[0].lower()


def _barrier(evidence: Evidence, explanation: Explanation) -> Optional[Match]:
    """All CPUs that are awake spin in one function: nobody is left who could let them go on."""
    if explanation.status is not Status.HANG:
        return None
    loops = explanation.all(Spinning)
    dormant = (CpuState.FIRMWARE, CpuState.WAITING_FOR_SIPI, CpuState.PARKED)
    awake = [view for view in explanation.cpus if view.state not in dormant]
    places = {_function(loop.where) for loop in loops if loop.where}
    if len(loops) < 2 or len(loops) != len(awake) or len(places) != 1:
        return None
    waits = explanation.all(WaitsFor)
    if waits and all(wait.held for wait in waits):
        return None  # a lock
    extra = ["every CPU that is awake is in this loop"]
    if len({wait.address for wait in waits}) > 1:
        extra.append("each waits for a word of its own: that of a queue lock (MCS), or a flag")
        return likely(*waits[:4], extra=tuple(extra))
    return likely(*loops[:4], *waits[:1], extra=tuple(extra))


def _halted_early(evidence: Evidence, explanation: Explanation) -> Optional[Match]:
    """A CPU that did not arrive has halted in the kernel's code, and not where it parks."""
    if explanation.status is not Status.MISSING_CPU:
        return None
    for halted in explanation.all(HaltedForever):
        view = explanation.view(halted.cpu)
        if view is not None and view.arrived is False and view.mode != "real mode":
            return certain(halted, explanation.first(StageReached, halted.cpu))
    return None


def _without_idt(evidence: Evidence, explanation: Explanation) -> Optional[Match]:
    """An AP at work with interrupts on, and nothing to deliver them through."""
    for differs in explanation.all(CpuDifference):
        view = explanation.view(differs.cpu)
        if differs.register == "idt" and view is not None and view.arrived:
            if view.state is CpuState.IDLE:
                return certain(differs, extra=(f"it is {view.doing}",))
    return None


def _uncached(evidence: Evidence, explanation: Explanation) -> Optional[Match]:
    """Slow, not dead: only worth a word where something is wrong with the arrival."""
    if explanation.status not in (Status.MISSING_CPU, Status.HANG):
        return None
    for differs in explanation.all(CpuDifference):
        if differs.register == "cr0.cd" and differs.mine:
            return possible(differs)
    return None


def _fatal(*vectors: int) -> Matcher:
    """A matcher: the chain began with one of `vectors`; without any: with anything else."""

    def match(evidence: Evidence, explanation: Explanation) -> Optional[Match]:
        if explanation.status is not Status.TRIPLE_FAULT:
            return None
        fatal = explanation.first(FatalException)
        named = (PF, GP, NP, SS, TS, UD)
        if fatal is None or (vectors and fatal.vector not in vectors):
            return None
        if not vectors and fatal.vector in named:
            return None
        fault = explanation.first(PageFault, fatal.cpu)
        return certain(fatal, fault, explanation.first(IdtStatus))

    return match


def _no_record(evidence: Evidence, explanation: Explanation) -> Optional[Match]:
    if explanation.status is not Status.TRIPLE_FAULT or explanation.chain:
        return None
    view = explanation.view(explanation.culprit)
    text = f"it is {view.doing} in {view.mode}" if view is not None else "no CPU could be named"
    return possible(extra=(text,), cpu=explanation.culprit)


def _missing(evidence: Evidence, explanation: Explanation) -> Optional[Match]:
    if explanation.status is not Status.MISSING_CPU:
        return None
    for view in explanation.cpus:
        if view.arrived is False and view.state is not CpuState.SHUT_DOWN:
            reached = explanation.first(StageReached, view.index)
            silent = explanation.first(CpuSilent, view.index)
            return certain(reached, silent, cpu=view.index, extra=(f"it is {view.doing}",))
    return None


ROWS = (
    Row(
        "delay-never-ends",
        "a wait for time to pass does not end: its clock does not run",
        Place.RUNNING,
        ("hangs in udelay", "hangs in calibration", "PIT never fires"),
        "a CPU spins in a function that measures time, in a loop that goes by no clock which always runs",
        "the CPU leaves the function, or its loop ends by the TSC",
        "use a clock that runs without interrupts (TSC, or the PIT's channel 2 with its gate open), enable"
        " the HPET (bit 0 of its configuration), take the ACPI timer's port from the FADT, and bound each"
        " wait by a number of polls",
        "Time-Stamp Counter",
        chapters.WAKING,
        ("AP0-16", "HANG-04", "AP4-13"),
        _delay,
        ("delay-never-ends", "calibration-never-ends"),
        over=("cpu-there-not-seen", "endless-loop"),
    ),
    Row(
        "barrier-never-opens",
        "all CPUs wait in the same loop: a barrier that counts a CPU too many, or a lock that nobody"
        " releases",
        Place.RUNNING,
        ("all CPUs online, then nothing", "barrier never opens", "counter below target"),
        "every CPU that is awake spins in one function",
        "a CPU is elsewhere and can still let the others go on",
        "count the CPUs that arrived, the BSP once, with atomic operations; release each lock on"
        " every path (which of both it is, only the function's name tells)",
        "PAUSE-Spin Loop Hint",
        chapters.TOGETHER,
        ("AP4-09", "AP4-11", "AP4-08"),
        _barrier,
        ("barrier-counts-too-many",),
    ),
    Row(
        "ap-halted-early",
        "the AP halted with interrupts off before it reported to the BSP",
        Place.RUNNING,
        ("AP did not arrive", "AP halted", "cli; hlt"),
        "a CPU that the BSP misses stands at HLT in the kernel's code with IF=0",
        "it is idle with interrupts on, or it parks and says so",
        "report first, and end in a loop that enables interrupts",
        "HLT-Halt",
        chapters.TOGETHER,
        ("AP4-10",),
        _halted_early,
        ("ap-halts-early",),
    ),
    Row(
        "ap-without-idt",
        "an AP works with interrupts on and has loaded no IDT: the first interrupt ends the machine",
        Place.RUNNING,
        ("triple fault some time after bring-up", "AP dies at its first timer interrupt"),
        "the AP's IDTR is null or as reset left it, it is idle with IF=1, and the BSP has an IDT",
        "every CPU has loaded an IDT",
        "execute lidt on every CPU: the register is per CPU, the table can be shared",
        "Interrupt Descriptor Table (IDT)",
        chapters.INTERRUPTS,
        ("AP4-06",),
        _without_idt,
        ("ap-idt-not-loaded",),
    ),
    Row(
        "endless-jump",
        "the CPU jumps to itself",
        Place.RUNNING,
        ("hang", "jmp $", "for (;;);"),
        "the instruction at RIP is a jump to itself",
        "the CPU leaves the instruction",
        "find out why this end was reached: it is where code gives up",
        "JMP-Jump",
        chapters.TOGETHER,
        ("HANG-01",),
        _self_jump,
        ("ap-endless-jump",),
    ),
    Row(
        "cpus-wait-for-each-other",
        "several CPUs wait in loops: a lock, a barrier or a flag that nobody sets",
        Place.RUNNING,
        ("deadlock", "barrier never opens", "spinlock"),
        "two or more CPUs execute a PAUSE loop and make no progress",
        "one of the CPUs makes progress",
        "compare what each waits for (lamp cpus): who holds the lock, who is not counted",
        "PAUSE-Spin Loop Hint",
        chapters.TOGETHER,
        ("AP4-08", "AP4-09", "AP4-11", "AP4-14"),
        _waiting,
    ),
    Row(
        "ap-caches-off",
        "CR0.CD is still set on an AP: it runs uncached, many times slower",
        Place.RUNNING,
        ("AP looks hung", "AP is slow", "CR0 e0000011"),
        "CR0.CD is 1 on the AP and 0 on the BSP",
        "CR0.CD is 0",
        "assign CR0 in the trampoline instead of setting bits in what INIT left",
        "Cache Control",
        chapters.TOGETHER,
        ("PG-25",),
        _uncached,
    ),
    Row(
        "page-fault-undelivered",
        "a page fault whose handler could not be entered",
        Place.GENERIC,
        ("triple fault", "#PF", "double fault"),
        "the chain begins with #PF",
        "the chain begins with another exception",
        "start from the address and the walk above: what should have mapped it?",
        "Interrupt 14-Page-Fault Exception (#PF)",
        chapters.EXCEPTIONS,
        ("IDT-01",),
        _fatal(PF),
        generic=True,
    ),
    Row(
        "protection-fault-undelivered",
        "a protection fault whose handler could not be entered",
        Place.GENERIC,
        ("triple fault", "#GP", "general protection"),
        "the chain begins with #GP, #NP, #SS or #TS",
        "the chain begins with another exception",
        "start from the instruction and the error code above",
        "Interrupt 13-General Protection Exception (#GP)",
        chapters.EXCEPTIONS,
        ("IDT-01",),
        _fatal(GP, NP, SS, TS),
        generic=True,
    ),
    Row(
        "invalid-opcode-undelivered",
        "an invalid opcode whose handler could not be entered",
        Place.GENERIC,
        ("triple fault", "#UD", "invalid opcode"),
        "the chain begins with #UD",
        "the chain begins with another exception",
        "start from the bytes at RIP above",
        "Interrupt 6-Invalid Opcode Exception (#UD)",
        chapters.EXCEPTIONS,
        ("IDT-01",),
        _fatal(UD),
        generic=True,
    ),
    Row(
        "exception-undelivered",
        "an exception or interrupt whose handler could not be entered",
        Place.GENERIC,
        ("triple fault",),
        "the chain begins with it",
        "the chain begins with another exception",
        "start from the first line of what happened",
        "Exception and Interrupt Reference",
        chapters.EXCEPTIONS,
        ("IDT-01",),
        _fatal(),
        generic=True,
    ),
    Row(
        "shutdown-without-record",
        "a CPU shut down and left no record of the exception",
        Place.GENERIC,
        ("triple fault without a v= line", "reboots without a word"),
        "a triple fault was reported, and nothing before it",
        "an exception was recorded",
        "run it under lamppost run, or with -d int,cpu_reset; in real mode break before it",
        "Interrupt 8-Double Fault Exception (#DF)",
        chapters.REAL_MODE,
        ("AP4-15",),
        _no_record,
        generic=True,
    ),
    Row(
        "ap-missing",
        "a CPU that was meant to come up did not",
        Place.GENERIC,
        ("CPU did not arrive", "failed to report alive state"),
        "it is not online, and its last stage says how far it came",
        "it is online",
        "the next step after its last stage is where to look",
        "MP Initialization Protocol Algorithm for MP Systems",
        chapters.WAKING,
        ("AP4-10", "AP0-15"),
        _missing,
        generic=True,
    ),
    Row(
        "endless-loop",
        "a CPU runs in a loop and makes no progress",
        Place.GENERIC,
        ("hang", "100 % CPU", "waits for ever"),
        "RIP stays within a few instructions",
        "RIP moves on",
        "see what the loop waits for; give every wait a deadline and a message",
        "PAUSE-Spin Loop Hint",
        chapters.TOGETHER,
        ("HANG-01", "HANG-04", "AP4-10", "AP0-16"),
        _spin,
        generic=True,
    ),
)
