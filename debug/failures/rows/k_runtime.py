# SPDX-License-Identifier: BSD-2-Clause
"""The kernel at work: interrupts between CPUs, ticks, and panics that go wrong themselves."""

from __future__ import annotations

from typing import Optional

from debug.evidence import Evidence
from debug.explain import kernel
from debug.explain import stages as stage
from debug.explain.findings import (
    ConsoleSays,
    ExceptionReported,
    HaltedForever,
    PanicMessage,
    Spinning,
    WaitsFor,
)
from debug.explain.findings.waits import InterruptHeld
from debug.explain.model import Explanation, Status
from debug.failures import chapters
from debug.failures.row import Match, Place, Row, certain, likely, possible
from debug.x86.exceptions import DF


def _told(explanation: Explanation, topic: str) -> Optional[ConsoleSays]:
    return next((f for f in explanation.all(ConsoleSays) if f.topic == topic), None)


def _unanswered(evidence: Evidence, explanation: Explanation) -> Optional[Match]:
    """The kernel says which CPU did not answer; where that CPU stands is beside it, if seen."""
    if explanation.status not in (Status.PANIC, Status.HANG):
        return None
    for held in explanation.all(InterruptHeld):
        if held.off and held.sender is not None and not _took_exception(explanation, held.cpu):
            wait = explanation.first(WaitsFor, held.sender)
            mine = explanation.first(WaitsFor, held.cpu)
            return likely(held, wait, mine)
    told = _told(explanation, "ipi-unanswered")
    apic_id = stage.argument(evidence, stage.IPI_UNANSWERED)
    if apic_id is None:
        return likely(told) if told is not None else None
    deaf = next((v.index for v in explanation.cpus if v.apic_id == apic_id), None)
    spins, halted = explanation.first(Spinning, deaf), explanation.first(HaltedForever, deaf)
    lit = f"the kernel waited for the CPU with APIC ID {apic_id} in vain"
    return certain(told, spins, halted, cpu=deaf, extra=(lit,))


def _took_exception(explanation: Explanation, cpu: Optional[int]) -> bool:
    """Whether that CPU halts for an exception, its own or one like another's: that keeps it."""
    stopped = explanation.first(HaltedForever, cpu) is not None
    return bool(explanation.chain) and (explanation.culprit == cpu or stopped)


def _panic_in_panic(evidence: Evidence, explanation: Explanation) -> Optional[Match]:
    if explanation.status is not Status.PANIC:
        return None
    told = _told(explanation, "panic-in-panic")
    if any(event.code == stage.PANIC_NESTED for event in evidence.stages):
        reported = explanation.all(ExceptionReported)
        lit = f"stage {stage.PANIC_NESTED:02x} was lit: the CPU came to panic from its report"
        return certain(*reported[:2], told, extra=(lit,))
    if told is None or any(said.text == told.text for said in explanation.all(PanicMessage)):
        return None  # its message says it already
    return possible(told)


def _no_tick(evidence: Evidence, explanation: Explanation) -> Optional[Match]:
    told = _told(explanation, "no-tick")
    if stage.argument(evidence, stage.BOOT_ERROR) == kernel.EXIT_NO_TICK:
        return certain(told, extra=(f"the kernel ended with code {kernel.EXIT_NO_TICK:#x}",))
    if told is not None and explanation.status in (Status.PANIC, Status.HANG):
        return likely(told)
    return None


def _double_fault(evidence: Evidence, explanation: Explanation) -> Optional[Match]:
    """The kernel lived to report its double fault: what came first could not be delivered.

    A timer interrupt that a PIC sends as vector 8 looks the same, unless the exceptions were seen.
    """
    if explanation.status is not Status.PANIC or _told(explanation, "guard-page"):
        return None
    if _told(explanation, "df-without-error-code"):
        return None
    for reported in explanation.all(ExceptionReported):
        if reported.vector == DF:
            seen = any(link.vector == DF for link in explanation.chain[1:])
            return certain(reported) if seen else likely(reported)
    return None


ROWS = (
    Row(
        "ipi-not-answered",
        "a CPU does not answer an interrupt of another one: it runs with interrupts off, or is gone",
        Place.RUNNING,
        ("did not answer", "smp_call hangs", "TLB shootdown hangs", "CPU not responding to IPI"),
        "the kernel waited for its answer until a deadline, and names the CPU",
        "the CPU answers",
        "look where that CPU stands: it waits with interrupts off for something that the caller"
        " holds, or it never reached the place where it takes interrupts; serve incoming calls while"
        " waiting, and call no CPU that is not online",
        "Interrupt Command Register (ICR)",
        chapters.WORKING,
        ("AP4-08", "AP4-12"),
        _unanswered,
        ("ipi-not-answered",),
        over=(
            *("cpu-there-not-seen", "endless-loop", "cpus-wait-for-each-other", "flag-never-set"),
            *("halted-forever", "lock-not-released", "deadlock", "waits-in-a-circle"),
        ),
    ),
    Row(
        "panic-in-panic",
        "the report of a panic failed itself",
        Place.RUNNING,
        ("panic inside panic", "recursive fault", "the report stops in the middle"),
        "the CPU that reports a panic raised an exception or panicked once more",
        "the report is whole",
        "believe the first fault, and mend the report: a frame pointer, a stack or a record that is"
        " broken must end a backtrace, not fault in it",
        "Exception and Interrupt Reference",
        chapters.EXCEPTIONS,
        ("HANG-05",),
        _panic_in_panic,
        ("panic-in-panic",),
    ),
    Row(
        "timer-never-ticks",
        "the timer of a CPU was started and its interrupt never comes",
        Place.RUNNING,
        ("no timer interrupt", "timer does not tick", "scheduler never preempts"),
        "the kernel waited for a tick with interrupts on until a deadline",
        "the tick counter moves",
        "unmask the LVT entry after the APIC's software-enable bit (SVR bit 8) is set, write a count"
        " or deadline after the mode, send an EOI at the end of each tick",
        "APIC Timer",
        chapters.WORKING,
        ("AP4-18", "HANG-04"),
        _no_tick,
        ("timer-never-ticks",),
    ),
    Row(
        "double-fault-reported",
        "an exception could not be delivered, and the double fault that follows was",
        Place.DELIVERY,
        ("#DF", "double fault", "vector 8"),
        "the kernel reports vector 8 and goes on to its message",
        "the machine resets: the double fault was not delivered either",
        "look at RSP in the report: the frame of the first exception is pushed there; if that is"
        " sound, look at the gate of the first exception",
        "Interrupt 8-Double Fault Exception (#DF)",
        chapters.INTERRUPTS,
        ("IDT-01",),
        _double_fault,
        ("ap-double-fault",),
    ),
)
