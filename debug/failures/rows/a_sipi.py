# SPDX-License-Identifier: BSD-2-Clause
"""An AP is to be started: what INIT and SIPI were sent, and what lies in the page that they name."""

from __future__ import annotations

from dataclasses import replace
from typing import Optional

from debug.evidence import Evidence, IpiKind
from debug.explain import stages as stage
from debug.explain.findings import (
    BspRestarted,
    Contents,
    CpuSilent,
    ExecutingFiller,
    InitMissing,
    IpiToNobody,
    IpiUnseen,
    PageOverwritten,
    PortPolled,
    ShortMpTable,
    SipiMissing,
    SipiReceived,
    SipiVectorWrong,
    StageReached,
    TrampolineContents,
    WaitingForSipi,
)
from debug.explain.model import CpuState, Explanation, Status
from debug.failures import chapters
from debug.failures.row import NOT_UP, WAITED, Match, Place, Row, certain, likely, possible, words


def _wrong_vector(explanation: Explanation, how: str) -> Optional[Match]:
    if explanation.first(BspRestarted) is not None:
        return None  # the firmware starts the APs again
    online = any(stage.BSP_ALL_ONLINE in view.stages for view in explanation.cpus)
    if explanation.status is Status.RESET and online:
        return None  # they came: what was sent after the reset is another matter
    sent = explanation.all(SipiVectorWrong)
    for wrong in sorted(sent, key=lambda found: found.cpu != explanation.culprit):
        view = explanation.view(wrong.cpu)
        if wrong.how != how or (view is not None and view.arrived):
            continue
        pages = explanation.all(TrampolineContents)
        contents = next((page for page in pages if page.page == wrong.vector << 12), None)
        if explanation.status not in (*NOT_UP, Status.RESET):  # the AP may come by a reset, too
            return None
        told = wrong.expected is not None and not wrong.searched
        rip = view.rip if view is not None and contents is not None else None
        if rip is not None and rip >> 12 == wrong.expected:  # through the filler, into the code
            return replace(certain(wrong, contents), order=-1)
        if how == "zero" and explanation.status is Status.UNKNOWN and not told:
            return possible(wrong, contents)  # a kernel may put its code there: nothing is known
        if told or how in ("reserved", "rom"):
            return replace(certain(wrong, contents), order=-1)  # whatever ran there came later
        return likely(wrong, contents)
    return None


def _vector_other(evidence: Evidence, explanation: Explanation) -> Optional[Match]:
    return _wrong_vector(explanation, "other")


def _vector_zero(evidence: Evidence, explanation: Explanation) -> Optional[Match]:
    return _wrong_vector(explanation, "zero")


def _vector_reserved(evidence: Evidence, explanation: Explanation) -> Optional[Match]:
    return _wrong_vector(explanation, "reserved")


def _vector_rom(evidence: Evidence, explanation: Explanation) -> Optional[Match]:
    return _wrong_vector(explanation, "rom")


def _not_copied(evidence: Evidence, explanation: Explanation) -> Optional[Match]:
    """The page that the SIPI named holds no code, and an AP was sent there."""
    if explanation.status not in NOT_UP or explanation.first(SipiVectorWrong) is not None:
        return None
    told = stage.argument(evidence, stage.BSP_TRAMPOLINE)
    if explanation.first(PageOverwritten) is not None:
        return None
    if any(page.begins is not None for page in explanation.all(TrampolineContents)):
        return None
    for page in explanation.all(TrampolineContents):
        sent = [f for f in explanation.all(SipiReceived) if f.vector << 12 == page.page]
        started = [f for f in sent if not _came_up(explanation, f.cpu)]
        here = page.cpu is not None or told == page.page and explanation.all(CpuSilent)
        if not started and not here:
            continue
        cpu = page.cpu if page.cpu is not None else started[0].cpu if started else None
        silent = explanation.first(CpuSilent, cpu)
        if cpu is None and silent is None:
            silent = explanation.first(CpuSilent)
        running = next(iter(explanation.all(ExecutingFiller, cpu)), None)
        received = started[0] if started else None
        if explanation.all(StageReached, cpu) and cpu is not None:
            continue  # it ran there: the page was overwritten later
        if _one_came(explanation, cpu) or page.contents is Contents.LOADER:
            return likely(page, received, running, cpu=cpu)  # or it was overwritten since
        if told == page.page or received is not None or running is not None:
            return certain(page, received, silent, running, cpu=cpu)
        return likely(page, silent, cpu=cpu)
    return None


def _not_aligned(evidence: Evidence, explanation: Explanation) -> Optional[Match]:
    """The image stands in the page that the SIPI named, but not at its start."""
    if explanation.status not in NOT_UP or explanation.first(SipiVectorWrong) is not None:
        return None
    for page in explanation.all(TrampolineContents):
        sent = [f for f in explanation.all(SipiReceived) if f.vector << 12 == page.page]
        if page.begins is not None and sent:
            silent = explanation.first(CpuSilent, sent[0].cpu)
            found = certain(page, sent[0], silent, cpu=sent[0].cpu)
            return replace(found, order=-1)  # what runs there does so at the wrong address
    return None


def _one_came(explanation: Explanation, but: Optional[int]) -> bool:
    """Whether an AP without lamps, another one, runs the kernel's code: its page held code then."""
    for view in explanation.cpus:
        if view.index != but and any(one.code == stage.AP_LONG64 for one in view.reached):
            return True
    return False


def _came_up(explanation: Explanation, cpu: Optional[int]) -> bool:
    view = explanation.view(cpu)
    return view is not None and (bool(view.arrived) or bool(view.stages))


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
    for missing in explanation.all(SipiMissing):
        waiting = explanation.first(WaitingForSipi, missing.cpu)
        if waiting is None:
            continue
        init = explanation.first(InitMissing, missing.cpu)
        if not _starts_others(evidence, explanation):
            at_work = explanation.cpus[0].state is not CpuState.HALTED
            return possible(missing, init, waiting) if at_work else None
        if _on_its_way(evidence, explanation):
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


def _init_to_bsp(evidence: Evidence, explanation: Explanation) -> Optional[Match]:
    """An INIT that reaches the CPU that sends it: ICR low written before high, or "all"."""
    again = explanation.first(BspRestarted)
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
    inits = [ipi for ipi in evidence.ipis if ipi.kind is IpiKind.INIT and not ipi.by_firmware]
    # One with a shorthand needs no destination: the firmware of a next boot sends such ones.
    aimless = bool(inits) and inits[-1].destination is None and inits[-1].shorthand is None
    if not aimless:
        return None
    text = "an INIT was sent before any destination had been written"
    if again is not None:
        return replace(certain(again, extra=(text,)), order=-1)
    bsp = explanation.cpus[0] if explanation.cpus else None
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
        "sipi-wrong-vector",
        "the SIPI names another page than the one that holds the trampoline",
        Place.START,
        ("SIPI sent but no response", "AP never starts", "AP runs at the wrong address"),
        "the SIPI's vector, or the AP's real-mode CS, is not the trampoline's address >> 12",
        "the AP's CS base is the page that the trampoline was copied to",
        "send the trampoline's physical address >> 12 as the vector: 0x8000 is vector 0x08",
        "MP Initialization Protocol Algorithm for MP Systems",
        chapters.WAKING,
        ("AP1-02", "AP1-10"),
        _vector_other,
        ("sipi-wrong-vector",),
        over=(
            *("executing-zeros", "entry-not-called", "cpu-without-long-mode", "endless-jump"),
            "gdt-base-wrong",
        ),
    ),
    Row(
        "sipi-vector-zero",
        "the SIPI's vector is 0: the AP executes the interrupt vector table at address 0",
        Place.START,
        ("SIPI sent but no response", "AP at CS 0000", "AP executes the IVT"),
        "the SIPI's vector is 0, or the AP's CS is 0000 in real mode",
        "the trampoline was copied to page 0 on purpose",
        "shift the trampoline's address right by 12 before it goes into the ICR's low byte",
        "MP Initialization Protocol Algorithm for MP Systems",
        chapters.WAKING,
        ("AP1-03",),
        _vector_zero,
        ("sipi-full-address",),
    ),
    Row(
        "sipi-vector-reserved",
        "the SIPI's vector is a0 to bf, where there is video memory and no RAM",
        Place.START,
        ("SIPI sent but no response", "AP stuck at a000:0000", "prefetch vetoed"),
        "the SIPI's vector lies from a0 to bf",
        "the vector is below a0",
        "put the trampoline into a free page below 640 KiB",
        "MP Initialization Protocol Algorithm for MP Systems",
        chapters.WAKING,
        ("AP1-04",),
        _vector_reserved,
        ("sipi-vector-reserved",),
    ),
    Row(
        "sipi-vector-rom",
        "the SIPI's vector is c0 or above: the AP executes the firmware's ROM",
        Place.START,
        ("AP runs in the BIOS", "AP at f000:xxxx after SIPI", "AP loops in firmware"),
        "the SIPI's vector lies from c0 to ff",
        "the vector is below a0",
        "put the trampoline into a free page below 640 KiB, and send its address >> 12",
        "MP Initialization Protocol Algorithm for MP Systems",
        chapters.WAKING,
        ("AP1-02",),
        _vector_rom,
        over=("executing-zeros", "ap-missing"),
    ),
    Row(
        "trampoline-not-copied",
        "the page that the SIPI names does not hold the trampoline",
        Place.START,
        ("SIPI sent but no response", "AP executes zeros", "AP never prints", "AP hangs at 0x8000"),
        "the first bytes of the page are zeros or a filler, or what a boot loader left there reads a"
        " disk, and an AP was started there",
        "the page holds code that no loader has, or the AP lit stages from it",
        "copy the trampoline to the page before the first SIPI, and read it back",
        "MP Initialization Protocol Algorithm for MP Systems",
        chapters.TRAMPOLINE,
        ("AP1-01", "BLD-01"),
        _not_copied,
        ("trampoline-not-copied",),
        over=("executing-zeros", "endless-jump"),
    ),
    Row(
        "trampoline-not-aligned",
        "the trampoline was copied to an address that is not the start of a page",
        Place.START,
        ("AP runs through zeros into the trampoline", "far jump to 0x8xx", "data offsets are off"),
        "the page that the SIPI named begins with a filler, and code begins further on in it",
        "the page begins with the trampoline's first instruction",
        "copy it to a 4 KiB boundary: a SIPI's vector names a page, and CS:IP begin there",
        "MP Initialization Protocol Algorithm for MP Systems",
        chapters.TRAMPOLINE,
        ("AP1-05",),
        _not_aligned,
        ("trampoline-not-aligned",),
        over=("executing-zeros", "entry-not-called", "real-mode-fault-loop"),
    ),
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
        " the observed IPIs none is a SIPI for it",
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
        "init-hits-sender",
        "the INIT reached the CPU that sent it: the BSP restarts",
        Place.START,
        ("BSP reboots when it starts the APs", "BIOS text repeats"),
        "an INIT had the sender as destination, or the shorthand self or all",
        "every INIT went to another CPU",
        "write ICR high before ICR low, and use no shorthand that includes the sender",
        "Interrupt Command Register (ICR)",
        chapters.WAKING,
        ("AP0-03", "AP0-04"),
        _init_to_bsp,
        ("init-to-bsp", "init-to-all"),
        over=("msr-unknown", "sipi-wrong-vector", "pic-not-remapped"),
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
