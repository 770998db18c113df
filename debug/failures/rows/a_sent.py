# SPDX-License-Identifier: BSD-2-Clause
"""An AP is to be started: what INIT and SIPI were sent, and to whom."""

from __future__ import annotations

from dataclasses import replace
from typing import Optional

from debug.evidence import Evidence, IpiKind
from debug.explain import stages as stage
from debug.explain.findings import (
    BspRestarted,
    InitMissing,
    IpiToNobody,
    IpiUnseen,
    PortPolled,
    ShortMpTable,
    SipiMissing,
    SipiReceived,
    WaitingForSipi,
    WaitsFor,
)
from debug.explain.findings.waits import IpiLost, NeverStarted
from debug.explain.model import CpuState, Explanation, Status
from debug.failures import chapters
from debug.failures.row import NOT_UP, WAITED, Match, Place, Row, certain, likely, possible, words


def _no_init(evidence: Evidence, explanation: Explanation) -> Optional[Match]:
    """SIPI without INIT: a CPU that the firmware parked in HLT ignores it."""
    for missing in explanation.all(InitMissing):
        received = explanation.first(SipiReceived, missing.cpu)
        waiting = explanation.first(WaitingForSipi, missing.cpu)
        if received is not None and waiting is not None and explanation.status in NOT_UP:
            return certain(missing, received, waiting)
    return None


def _no_sipi(evidence: Evidence, explanation: Explanation) -> Optional[Match]:
    if explanation.status not in WAITED or explanation.first(IpiToNobody) is not None:
        return None
    if explanation.first(IpiUnseen) is not None:
        return None
    for never in explanation.all(NeverStarted):
        waiting = explanation.first(WaitingForSipi, never.waiting[0])
        short = explanation.first(ShortMpTable)
        return replace(likely(never, waiting, short, cpu=never.waiting[0]), order=-1)
    for missing in explanation.all(SipiMissing):
        waiting = explanation.first(WaitingForSipi, missing.cpu)
        if waiting is None:
            continue
        init = explanation.first(InitMissing, missing.cpu)
        if not _starts_others(evidence, explanation):
            at_work = explanation.cpus[0].state is not CpuState.HALTED
            return possible(missing, init, waiting) if at_work else None
        if _on_its_way(evidence, explanation) or _held_up(explanation, missing):
            return possible(missing, init, waiting)
        short = explanation.first(ShortMpTable) if not missing.sent_to else None
        sender = () if missing.sent_to else _sender(explanation)
        return certain(missing, init, waiting, short, extra=sender)
    return None


def _starts_others(evidence: Evidence, explanation: Explanation) -> bool:
    """Whether anything says that this kernel starts other CPUs: many use one, and hang alone."""
    if explanation.status is Status.MISSING_CPU or evidence.stages:
        return True
    return any(not ipi.by_firmware for ipi in evidence.ipis)


def _sender(explanation: Explanation) -> tuple[str, ...]:
    """Where the CPU stands that would have sent it: the way there may be what is broken."""
    bsp = explanation.cpus[0] if explanation.cpus else None
    if bsp is None or bsp.state not in (CpuState.SPINNING, CpuState.HALTED):
        return ()
    wait = explanation.first(PortPolled, bsp.index)
    return (f"CPU {bsp.index}, which would send it, is {bsp.doing}", *words(wait))


def _on_its_way(evidence: Evidence, explanation: Explanation) -> bool:
    """The BSP had not come to the SIPIs yet: what holds it up is the cause."""
    busy = (CpuState.SPINNING, CpuState.RUNNING, CpuState.HALTED)
    codes = {event.code for event in evidence.stages}
    if not codes or codes & {stage.BSP_ALL_ONLINE, stage.BSP_AP_MISSING}:
        return False
    return any(view.arrived and view.state in busy for view in explanation.cpus)


def _held_up(explanation: Explanation, missing: SipiMissing) -> bool:
    """One CPU is started after the other: the last that was sent a SIPI is not up, and the sender
    waits."""
    bsp = explanation.cpus[0] if explanation.cpus else None
    at_work = (CpuState.SPINNING, CpuState.RUNNING)
    if bsp is None or bsp.state not in at_work or not missing.sent_to:
        return False
    started = [view for view in explanation.cpus if view.apic_id == missing.sent_to[-1]]
    return any(view.arrived is not True for view in started)


def _nobody(evidence: Evidence, explanation: Explanation) -> Optional[Match]:
    """An IPI for an ID that no CPU has, while a CPU waits."""
    if explanation.status not in NOT_UP:
        return None
    nobody = explanation.first(IpiToNobody)
    waiting = explanation.first(WaitingForSipi)
    if nobody is None or waiting is None:
        return None
    if explanation.status not in WAITED:
        return possible(nobody, waiting, cpu=waiting.cpu)
    return certain(nobody, waiting, cpu=waiting.cpu)


def _lost(evidence: Evidence, explanation: Explanation) -> Optional[Match]:
    lost = explanation.first(IpiLost)
    if lost is None or lost.off or explanation.status is not Status.HANG:
        return None
    wait = explanation.first(WaitsFor, lost.cpu)
    if not lost.sure:
        return replace(possible(lost, wait), order=-1)
    return likely(lost, wait) if wait is not None else possible(lost)


def _init_to_bsp(evidence: Evidence, explanation: Explanation) -> Optional[Match]:
    """An INIT that reaches the CPU that sends it: ICR low written before high, or "all"; or one
    that an AP sends to the BSP."""
    again = explanation.first(BspRestarted)
    bsp = explanation.cpus[0] if explanation.cpus else None
    for ipi in evidence.ipis:
        if ipi.kind is not IpiKind.INIT or ipi.by_firmware:
            continue
        source = ipi.source
        view = explanation.view(source)
        hits = ipi.shorthand in ("self", "all")
        if not hits and view is not None and ipi.shorthand is None:
            hits = ipi.destination is not None and ipi.destination == view.apic_id
        if hits:
            by = f"CPU {source}" if source is not None else "a CPU that the log does not name"
            text = f"an INIT {ipi.shorthand or 'to its own APIC ID'} was sent by {by}"
            return replace(certain(again, extra=(text,), cpu=source), order=-1)
        reaches = (
            ipi.shorthand == "all-but-self"
            or bsp is not None
            and (ipi.shorthand is None and ipi.destination == bsp.apic_id is not None)
        )
        if source and reaches and bsp is not None and bsp.mode != "64-bit mode":
            to = ipi.shorthand or f"to APIC ID {ipi.destination}"
            text = f"an INIT {to} was sent by CPU {source}, an AP: it reached the BSP"
            return replace(certain(again, extra=(text,), cpu=bsp.index), order=-1)
    inits = [ipi for ipi in evidence.ipis if ipi.kind is IpiKind.INIT and not ipi.by_firmware]
    # One with a shorthand needs no destination: the firmware of a next boot sends such ones.
    aimless = bool(inits) and inits[-1].destination is None and inits[-1].shorthand is None
    if not aimless:
        return None
    text = "an INIT was sent before any destination had been written"
    if again is not None:
        return replace(certain(again, extra=(text,)), order=-1)
    if bsp is None or bsp.apic_id != 0 or bsp.mode == "64-bit mode" or evidence.stages:
        return None
    zero = "the destination is 0 then, the APIC ID of the CPU that sent it"
    return replace(likely(cpu=bsp.index, extra=(text, zero, f"it is {bsp.doing}")), order=-1)


def _waits(evidence: Evidence, explanation: Explanation) -> Optional[Match]:
    """A CPU waits, and nothing was seen of the IPIs."""
    if explanation.status is not Status.MISSING_CPU or evidence.ipis:
        return None
    waiting = explanation.first(WaitingForSipi)
    if waiting is None or explanation.all(SipiMissing, waiting.cpu):
        return None
    return possible(waiting)


ROWS = (
    Row(
        "init-not-sent",
        "a SIPI was sent without an INIT before it: a CPU that is not waiting ignores it",
        Place.START,
        ("SIPI sent but no response", "AP still in the BIOS's HLT loop"),
        "IPIs were observed, a SIPI for this APIC ID among them and no INIT before",
        "an INIT for this APIC ID was observed",
        "send INIT, wait, then SIPI",
        "MP Initialization Protocol Algorithm for MP Systems",
        chapters.WAKING,
        ("AP0-05",),
        _no_init,
        ("sipi-without-init",),
    ),
    Row(
        "no-sipi",
        "the CPU waits for a SIPI that was never sent to it",
        Place.START,
        ("AP never starts", "AP waits for SIPI", "only some CPUs come up"),
        "the CPU is halted in the wait-for-SIPI state or where the firmware parked it, and among"
        " the observed IPIs none is a SIPI for it; or the BSP waits for a word that only code behind the"
        " trampoline writes, and the trampoline was never used",
        "a SIPI for this APIC ID was observed, or the kernel is one that uses a single CPU",
        "send INIT and SIPI to every APIC ID that the MADT lists as enabled",
        "MP Initialization Protocol Algorithm for MP Systems",
        chapters.WAKING,
        ("AP0-01", "AP0-09", "AP0-16", "AP0-20"),
        _no_sipi,
        ("ap-no-sipi",),
    ),
    Row(
        "ipi-wrong-destination",
        "INIT or SIPI went to an APIC ID that no CPU has",
        Place.START,
        ("AP never starts", "SIPI to the wrong CPU", "APIC ID is not an index"),
        "an IPI's destination is no CPU's APIC ID, and a CPU waits",
        "every destination is the APIC ID of a CPU",
        "take APIC IDs from the MADT; in xAPIC mode the destination is bits 24 to 31 of ICR high",
        "Interrupt Command Register (ICR)",
        chapters.WAKING,
        ("AP0-02", "AP4-04", "AP0-20"),
        _nobody,
        ("ap-wrong-apic-id",),
    ),
    Row(
        "interrupt-to-nobody",
        "an interrupt for another CPU was sent where no CPU takes it",
        Place.RUNNING,
        ("IPI never arrives", "smp_call hangs", "logical destination mode", "LDR is 0"),
        "a CPU waits, and the last IPI in its ICR names no other CPU: an APIC ID that none has, a bit that"
        " is in no logical destination register, or itself",
        "another CPU is named",
        "in xAPIC mode the destination is bits 24 to 31 of ICR high, written before ICR low; with bit 11"
        " of ICR low (logical) every CPU must have set its LDR and DFR",
        "Determining IPI Destination",
        chapters.WORKING,
        ("AP4-12", "AP4-04"),
        _lost,
        over=("cpu-there-not-seen", "endless-loop", "flag-never-set", "cpus-wait-for-each-other"),
    ),
    Row(
        "init-hits-sender",
        "an INIT reached the BSP, its own or an AP's: it starts again in the firmware",
        Place.START,
        ("BSP reboots when it starts the APs", "BIOS text repeats"),
        "an INIT had the sender as destination, or the shorthand self or all; or an AP sent it to all",
        "every INIT came from the BSP and went to another CPU",
        "write ICR high before ICR low, each with one 32-bit store (where a whole 16-byte slot is copied,"
        " QEMU takes the last of its words for the destination), and use no shorthand that includes the"
        " sender; an AP must not come to the code that starts the others",
        "Interrupt Command Register (ICR)",
        chapters.WAKING,
        ("AP0-03", "AP0-04"),
        _init_to_bsp,
        ("init-to-bsp", "init-to-all"),
        over=("msr-unknown", "sipi-wrong-vector", "pic-not-remapped", "idt-missing"),
    ),
    Row(
        "ap-waits-for-sipi",
        "the CPU waits for a SIPI; whether one was sent is not known",
        Place.START,
        ("AP never starts", "AP waits for SIPI"),
        "the CPU is in the wait-for-SIPI state, or where the firmware parked it",
        "the CPU executes code of the kernel",
        "observe the IPIs (lamppost run does), then check destination and vector; if both are right on"
        " an emulator and the AP stays away on real hardware, no evidence tells these apart: pauses"
        " that are too short (10 ms after INIT, 200 us after each of two SIPIs), and a platform that"
        " wakes its CPUs through the mailbox of ACPI (MADT type 10H) and ignores SIPIs",
        "MP Initialization Protocol Algorithm for MP Systems",
        chapters.WAKING,
        ("AP0-01", "AP0-02", "AP0-12", "AP0-14", "AP0-15", "AP0-18"),
        _waits,
    ),
)
