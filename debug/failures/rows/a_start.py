# SPDX-License-Identifier: BSD-2-Clause
"""An AP is started: INIT, SIPI, the page that it starts at."""

from __future__ import annotations

from dataclasses import replace
from typing import Optional

from debug.evidence import Evidence, IpiKind
from debug.explain import stages as stage
from debug.explain.findings import (
    BspRestarted,
    CpuSilent,
    ExecutingFiller,
    InitAfterSipi,
    InitMissing,
    IpiToNobody,
    IpiUnseen,
    KernelGaveUp,
    Laxness,
    NeverExecuted,
    PageAltered,
    PageFault,
    PageOverwritten,
    PanicMessage,
    PortPolled,
    SharedStack,
    ShortMpTable,
    SipiMissing,
    SipiReceived,
    SipiVectorWrong,
    StageReached,
    StartedAgain,
    TrampolineContents,
    WaitingForSipi,
)
from debug.explain.findings.fault import Role
from debug.explain.model import CpuState, Explanation, Status
from debug.failures import chapters
from debug.failures.row import Match, Place, Row, certain, likely, possible, words

# What has not come is only known to be missing where the machine went on without it.
_WAITED = (Status.MISSING_CPU, Status.HANG, Status.UNKNOWN)
_SVR_ENABLE = 1 << 8
_NOT_UP = (Status.MISSING_CPU, Status.TRIPLE_FAULT, Status.HANG, Status.UNKNOWN, Status.PANIC)


def _wrong_vector(explanation: Explanation, how: str) -> Optional[Match]:
    if explanation.first(BspRestarted) is not None:
        return None  # the firmware starts the APs again
    for wrong in explanation.all(SipiVectorWrong):
        view = explanation.view(wrong.cpu)
        if wrong.how != how or (view is not None and view.arrived):
            continue
        pages = explanation.all(TrampolineContents)
        contents = next((page for page in pages if page.page == wrong.vector << 12), None)
        if explanation.status not in _NOT_UP:
            return None
        if how == "zero" and explanation.status is Status.UNKNOWN:
            return possible(wrong, contents)  # a kernel may put its code there: nothing is known
        told = wrong.expected is not None and not wrong.searched
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
    if explanation.status not in _NOT_UP or explanation.first(SipiVectorWrong) is not None:
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
        if _one_came(explanation, cpu):
            return likely(page, received, running, cpu=cpu)  # or it was overwritten since
        if told == page.page or received is not None or running is not None:
            return certain(page, received, silent, running, cpu=cpu)
        return likely(page, silent, cpu=cpu)
    return None


def _not_aligned(evidence: Evidence, explanation: Explanation) -> Optional[Match]:
    """The image stands in the page that the SIPI named, but not at its start."""
    if explanation.status not in _NOT_UP or explanation.first(SipiVectorWrong) is not None:
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
        if received is not None and waiting is not None and explanation.status in _NOT_UP:
            return certain(missing, received, waiting)
    return None


def _no_sipi(evidence: Evidence, explanation: Explanation) -> Optional[Match]:
    if explanation.status not in _WAITED or explanation.first(IpiToNobody) is not None:
        return None
    if explanation.first(IpiUnseen) is not None:
        return None
    for missing in explanation.all(SipiMissing):
        waiting = explanation.first(WaitingForSipi, missing.cpu)
        if waiting is None:
            continue
        init = explanation.first(InitMissing, missing.cpu)
        if _on_its_way(evidence, explanation):
            return possible(missing, init, waiting)
        short = explanation.first(ShortMpTable) if not missing.sent_to else None
        sender = () if missing.sent_to else _sender(explanation)
        return certain(missing, init, waiting, short, extra=sender)
    return None


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


def _overwritten(evidence: Evidence, explanation: Explanation) -> Optional[Match]:
    """The page served one AP and was a filler for the next."""
    found = explanation.first(PageOverwritten)
    if found is None or explanation.status not in _NOT_UP:
        return None
    contents = next((f for f in explanation.all(TrampolineContents) if f.page == found.page), None)
    for view in explanation.cpus:
        if view.arrived is False and not view.stages and _sent_to(explanation, view.index, found):
            return certain(
                contents, found, explanation.first(CpuSilent, view.index), cpu=view.index
            )
    return None


def _altered(evidence: Evidence, explanation: Explanation) -> Optional[Match]:
    found = explanation.first(PageAltered)
    if found is None or explanation.status not in _NOT_UP:
        return None
    missing = next((v.index for v in explanation.cpus if v.arrived is False), None)
    return certain(found, explanation.first(CpuSilent, missing), cpu=missing)


def _sent_to(explanation: Explanation, cpu: int, found: PageOverwritten) -> bool:
    return any(f.vector << 12 == found.page for f in explanation.all(SipiReceived, cpu))


def _again(evidence: Evidence, explanation: Explanation) -> Optional[Match]:
    if explanation.status is Status.HEALTHY:
        return None
    found = explanation.first(StartedAgain)
    return certain(found, explanation.first(InitAfterSipi, found.cpu)) if found else None


def _init_last(evidence: Evidence, explanation: Explanation) -> Optional[Match]:
    """The CPU waits because an INIT came after the SIPI that had started it."""
    for late in explanation.all(InitAfterSipi):
        waiting = explanation.first(WaitingForSipi, late.cpu)
        if waiting is not None and explanation.status in _WAITED:
            return certain(late, waiting)
    return None


def _unsent(evidence: Evidence, explanation: Explanation) -> Optional[Match]:
    found = explanation.first(IpiUnseen)
    if found is None or explanation.status not in _WAITED or _apic_is_off(explanation):
        return None
    waiting = explanation.first(WaitingForSipi)
    return certain(found, waiting, cpu=waiting.cpu) if waiting is not None else None


def _software_off(evidence: Evidence, explanation: Explanation) -> Optional[Match]:
    """An AP that is up and whose local APIC is off by software, while another CPU's is on."""
    svr = {cpu.index: cpu.apic.svr for cpu in evidence.cpus if cpu.apic is not None}
    on = [index for index, value in svr.items() if value is not None and value & _SVR_ENABLE]
    for index, value in svr.items():
        view = explanation.view(index)
        if value is None or value & _SVR_ENABLE or not on or view is None or not view.arrived:
            continue
        if view.state in (CpuState.WAITING_FOR_SIPI, CpuState.RESET):
            continue  # an INIT has reset its APIC since
        text = (
            f"CPU {index}: the spurious-interrupt vector register is {value:#x}, bit 8 is 0; on"
            f" CPU {on[0]} it is 1"
        )
        extra = (text, f"it is {view.doing}")
        if any(e.code == stage.AP_APIC and e.apic_id == view.apic_id for e in evidence.stages):
            return certain(cpu=index, extra=(*extra, "its stages say that the APIC is on"))
        if explanation.status is not Status.HEALTHY:  # many kernels leave a parked AP's off
            return possible(cpu=index, extra=extra)
    return None


def _apic_is_off(explanation: Explanation) -> Optional[Laxness]:
    return next((f for f in explanation.all(Laxness) if "IA32_APIC_BASE.EN" in f.sentence), None)


def _apic_unmapped(evidence: Evidence, explanation: Explanation) -> Optional[Match]:
    """A page fault at an address that ends like the local APIC's registers."""
    for fault in explanation.all(PageFault):
        if fault.address & 0xFFFF_F000 == 0xFEE0_0000 and fault.role is Role.DATA:
            return certain(fault)
    return None


def _not_seen(evidence: Evidence, explanation: Explanation) -> Optional[Match]:
    """A CPU says that it is online, and the BSP that it is missing."""
    for gave_up in explanation.all(KernelGaveUp):
        view = explanation.view(gave_up.cpu)
        if view is not None and stage.AP_ONLINE in view.stages:
            if _online_late(evidence, view.apic_id):
                continue
            reached = explanation.first(StageReached, view.index)
            text = f"it lit stage {stage.AP_ONLINE:02x}: it is online"
            return certain(gave_up, reached, cpu=view.index, extra=(text,))
    return None


def _online_late(evidence: Evidence, apic_id: Optional[int]) -> bool:
    """Whether the stream says that the CPU came online only after the BSP had given it up."""
    stream = [event for event in evidence.stages if event.source != stage.MEMORY]
    missed = [
        at
        for at, event in enumerate(stream)
        if event.code == stage.BSP_AP_MISSING and event.argument == apic_id
    ]
    online = [
        at
        for at, event in enumerate(stream)
        if event.code == stage.AP_ONLINE and event.apic_id == apic_id
    ]
    return bool(missed and online) and missed[0] < online[0]


def _block_taken(evidence: Evidence, explanation: Explanation) -> Optional[Match]:
    """It found its block in use although nobody had given it up."""
    if explanation.first(SharedStack) is not None:
        return None  # which of the two spoiled the other is not known
    given_up = {found.cpu for found in explanation.all(KernelGaveUp)}
    for reached in explanation.all(StageReached):
        if reached.code == stage.AP_ABANDONED and reached.cpu not in given_up:
            if explanation.first(StartedAgain, reached.cpu) is None:
                parks = f"its last stage is {reached.code:02x}: it found its block in use and parks"
                text = "the BSP did not give this CPU up: another CPU had taken its block"
                return likely(cpu=reached.cpu, extra=(parks, text))
    return None


def _nobody(evidence: Evidence, explanation: Explanation) -> Optional[Match]:
    """An IPI for an ID that no CPU has, while a CPU waits."""
    if explanation.status not in _NOT_UP:
        return None
    nobody = explanation.first(IpiToNobody)
    waiting = explanation.first(WaitingForSipi)
    if nobody is None or waiting is None:
        return None
    if explanation.status not in _WAITED:
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


def _never_executed(evidence: Evidence, explanation: Explanation) -> Optional[Match]:
    stands = explanation.first(NeverExecuted)
    if stands is None:
        return None
    if any(f.page == stands.page for f in explanation.all(TrampolineContents)):
        return None
    if explanation.all(SipiVectorWrong, stands.cpu):
        return None
    return likely(stands, explanation.first(SipiReceived, stands.cpu))


def _silent_real_mode(evidence: Evidence, explanation: Explanation) -> Optional[Match]:
    """An AP died or stands in real mode and lit no lamp, though its page is not a filler."""
    for silent in explanation.all(CpuSilent):
        view = explanation.view(silent.cpu)
        if view is None or view.mode != "real mode" or view.arrived:
            continue
        if view.state not in (CpuState.SHUT_DOWN, CpuState.RUNNING, CpuState.SPINNING):
            continue
        if explanation.culprit not in (None, silent.cpu):
            continue  # another CPU ended the machine before this one lit a lamp
        if explanation.first(TrampolineContents) is not None:
            continue
        if explanation.first(SipiVectorWrong, silent.cpu) is not None:
            continue
        received = explanation.first(SipiReceived, silent.cpu)
        return possible(silent, received, extra=(f"it is {view.doing} in real mode",))
    return None


def _no_such_cpu(evidence: Evidence, explanation: Explanation) -> Optional[Match]:
    """The kernel waits for an APIC ID that this machine does not have."""
    known = {view.apic_id for view in explanation.cpus if view.apic_id is not None}
    for gave_up in explanation.all(KernelGaveUp):
        if known and gave_up.apic_id is not None and gave_up.apic_id not in known:
            ids = ", ".join(str(i) for i in sorted(known)[:16])
            return certain(gave_up, extra=(f"the machine's CPUs have the APIC IDs {ids}",))
    return None


_NOTHING_ANSWERS = "LVT 0xffffffff, count 0xffffffff"  # in timer_prove()'s message


def _apic_disabled(evidence: Evidence, explanation: Explanation) -> Optional[Match]:
    lax, waits = _apic_is_off(explanation), explanation.first(WaitingForSipi)
    said = explanation.first(PanicMessage)
    if said is not None and _NOTHING_ANSWERS in said.text:
        return likely(said, extra=("two of its registers read all ones: nothing answers there",))
    if lax is None or waits is None:
        return possible(lax) if lax is not None else None
    unseen = explanation.first(IpiUnseen)
    return certain(lax, unseen, waits) if unseen is not None else likely(lax, waits)


def _unknown_id(evidence: Evidence, explanation: Explanation) -> Optional[Match]:
    last = next((f for f in explanation.all(StageReached) if f.code == stage.AP_UNKNOWN), None)
    return certain(last) if last is not None else None


def _abandoned(evidence: Evidence, explanation: Explanation) -> Optional[Match]:
    for last in explanation.all(StageReached):
        gave_up = explanation.first(KernelGaveUp, last.cpu)
        if last.code == stage.AP_ABANDONED and gave_up is not None:
            if explanation.first(StartedAgain, last.cpu) is not None:
                continue  # it was late because it had to begin again
            return certain(last, gave_up)
    for gave_up in explanation.all(KernelGaveUp):
        view = explanation.view(gave_up.cpu)
        if view is not None and _online_late(evidence, view.apic_id):
            text = f"it lit stage {stage.AP_ONLINE:02x}, online, only after that"
            return certain(gave_up, cpu=view.index, extra=(text,))
    return None


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
        over=("executing-zeros", "entry-not-called", "cpu-without-long-mode"),
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
        "the first bytes of the page are zeros or a filler, and an AP was started there",
        "the page holds code, or the AP lit stages from it",
        "copy the trampoline to the page before the first SIPI, and read it back",
        "MP Initialization Protocol Algorithm for MP Systems",
        chapters.TRAMPOLINE,
        ("AP1-01", "BLD-01"),
        _not_copied,
        ("trampoline-not-copied",),
        over=("executing-zeros",),
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
        "a SIPI for this APIC ID was observed",
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
    Row(
        "ap-never-executed",
        "the CPU took its SIPI and never fetched an instruction",
        Place.START,
        ("AP at vv00:0000", "AP started but does not run"),
        "CS:IP is the first byte of the SIPI's page, the page holds code, and nothing was executed",
        "a stage of this CPU, or an instruction pointer that moved",
        "look at the hypervisor: it made the CPU ready and does not run it",
        "MP Initialization Protocol Algorithm for MP Systems",
        chapters.WAKING,
        ("AP0-19",),
        _never_executed,
    ),
    Row(
        "ap-silent-in-real-mode",
        "the CPU left no record in real mode, where a fault leaves no trace",
        Place.START,
        ("AP dies without output", "triple fault right after SIPI", "no AP boot messages"),
        "it was sent a SIPI, lit no stage, and stands in real mode on something that is no filler",
        "a stage of this CPU",
        "break at the trampoline's first instruction (lamp break) and step",
        "MP Initialization Protocol Algorithm for MP Systems",
        chapters.REAL_MODE,
        ("AP1-05", "AP1-08", "AP1-09", "AP1-13"),
        _silent_real_mode,
    ),
    Row(
        "cpu-does-not-exist",
        "the kernel waits for a CPU that this machine does not have",
        Place.START,
        ("CPU did not arrive", "expected more CPUs than present"),
        "the kernel gave up an APIC ID that no CPU has",
        "a CPU has this APIC ID",
        "start only MADT entries with the enabled flag; online-capable ones are empty sockets",
        "Processor Local APIC Structure",
        chapters.WAKING,
        ("AP0-10",),
        _no_such_cpu,
        ("madt-disabled-cpus",),
    ),
    Row(
        "local-apic-off",
        "the local APIC is globally disabled: real hardware sends no IPI",
        Place.START,
        ("IPIs work in the emulator only", "AP never starts on hardware"),
        "IA32_APIC_BASE.EN is 0",
        "IA32_APIC_BASE.EN is 1",
        "set IA32_APIC_BASE.EN before the local APIC is used",
        "Enabling or Disabling the Local APIC",
        chapters.WAKING,
        ("AP0-06",),
        _apic_disabled,
        ("local-apic-off",),
        over=("timer-never-ticks",),
    ),
    Row(
        "apic-id-unknown",
        "a CPU came up whose APIC ID is in no lcpu block: it parks",
        Place.START,
        ("stage 6f", "AP parks", "CPU with unknown APIC ID"),
        "the CPU's last stage is 6f",
        "a block holds the CPU's APIC ID",
        "fill one block for each CPU that can be woken, with the MADT's APIC ID; send no broadcast",
        "Local APIC ID",
        chapters.TRAMPOLINE,
        ("AP0-17", "AP4-03", "AP4-04"),
        _unknown_id,
        ("broadcast-unlisted-cpus",),
    ),
    Row(
        "ap-came-too-late",
        "the CPU arrived after the BSP had given it up",
        Place.START,
        ("stage 6e", "AP missing although it runs", "timeout too short"),
        "the CPU's last stage is 6e, or it came online after the BSP had given it up",
        "the CPU was online before",
        "wait longer: a host that runs many CPUs on few can hold one back for 100 ms and more",
        "MP Initialization Protocol Algorithm for MP Systems",
        chapters.WAKING,
        ("AP4-10",),
        _abandoned,
        (
            "ap-too-slow",
            "ap-waits-for-gate-first",
        ),
    ),
    Row(
        "trampoline-overwritten",
        "the trampoline's page was overwritten or freed while APs were still to be started",
        Place.START,
        ("first AP comes up, the next one dies", "works with -smp 2 only"),
        "an AP lit stages from the page, and the page holds zeros or a filler now that another one"
        " was started there",
        "the page still holds the code",
        "reserve the page until the last AP has left it, and keep the allocator away from it",
        "MP Initialization Protocol Algorithm for MP Systems",
        chapters.TRAMPOLINE,
        ("AP1-09", "AP1-15"),
        _overwritten,
        ("trampoline-page-reused",),
    ),
    Row(
        "ap-started-twice",
        "a CPU that was already up was sent INIT and SIPI again",
        Place.START,
        ("AP enters twice", "online counter above the number of CPUs", "stages repeat"),
        "one CPU lights the trampoline's first stage twice",
        "each CPU lights it once",
        "send the second SIPI only to a CPU that has not answered, and no second INIT before it",
        "MP Initialization Protocol Algorithm for MP Systems",
        chapters.WAKING,
        ("AP1-11", "AP0-13"),
        _again,
        ("ap-started-twice",),
    ),
    Row(
        "init-after-sipi",
        "an INIT after the SIPI sends the CPU back to waiting",
        Place.START,
        ("AP starts and vanishes", "INIT de-assert sent as INIT", "AP waits for SIPI again"),
        "the CPU's last start-up IPI is an INIT, after a SIPI, and it waits",
        "no INIT follows the SIPI",
        "send the de-assert with trigger mode level and level 0, before the SIPI, or leave it out:"
        " CPUs since the Pentium 4 ignore it",
        "Interrupt Command Register (ICR)",
        chapters.WAKING,
        ("AP0-13", "AP1-11"),
        _init_last,
        ("init-after-sipi",),
    ),
    Row(
        "ipi-not-sent-by-apic",
        "the kernel wrote its SIPIs and the local APIC sent none: the writes did not reach it",
        Place.START,
        ("ICR reads back 0", "IPI silently lost", "APs stay in the firmware"),
        "the kernel's stages report SIPIs, the emulator's APIC was given none",
        "an INIT or a SIPI of the kernel's was observed",
        "write ICR with one aligned 32-bit store to the page in IA32_APIC_BASE, mapped uncached; use"
        " the x2APIC's MSRs only in x2APIC mode (which of these it is, no evidence tells)",
        "Accessing Local APIC Registers",
        chapters.WAKING,
        ("AP0-07", "AP0-08", "AP4-19", "FW-03"),
        _unsent,
        ("x2apic-not-enabled", "apic-byte-access"),
    ),
    Row(
        "local-apic-unmapped",
        "the local APIC's registers are not mapped where they are accessed",
        Place.START,
        ("#PF CR2=fee00300", "#PF at the first APIC access"),
        "the faulting address ends in fee00xxx, the page of the local APIC",
        "the page is mapped",
        "map the page in IA32_APIC_BASE uncached, in every address space that uses it; a direct map"
        " of RAM does not have it",
        "Accessing Local APIC Registers",
        chapters.WAKING,
        ("AP0-07",),
        _apic_unmapped,
        ("local-apic-unmapped",),
    ),
    Row(
        "online-not-seen",
        "the CPU is online and the BSP misses it: they look at different blocks or flags",
        Place.START,
        ("CPU did not arrive although it runs", "wrong CPU reported missing"),
        "the BSP gave up an APIC ID that had lit the stage of being online",
        "the CPU did not get that far, or only later",
        "find the AP's block by comparing APIC IDs, never by using one as an index; one flag for"
        " each CPU",
        "Local APIC ID",
        chapters.WAKING,
        ("AP4-03", "AP4-11", "AP4-17"),
        _not_seen,
        ("apic-id-as-index",),
    ),
    Row(
        "block-taken",
        "two CPUs took one block: the second one parks",
        Place.START,
        ("two CPUs with one id", "mailbox overwritten before the AP read it"),
        "the CPU's last stage is 6e, and the BSP had not given it up",
        "the BSP had given it up",
        "give each CPU a block that it finds by its full APIC ID, written before its INIT",
        "Local APIC ID",
        chapters.TRAMPOLINE,
        ("AP4-03", "AP4-04", "AP4-16", "AP0-20"),
        _block_taken,
    ),
    Row(
        "trampoline-altered",
        "code of the trampoline was overwritten in its page: parameters at the wrong offset, or"
        " somebody else's data",
        Place.START,
        ("AP dies at random in the trampoline", "parameters overlap the code"),
        "a run of bytes in the page differs from the kernel's own image, which has code there",
        "the page holds the image, apart from addresses and empty fields",
        "take the offsets of the parameters from one source for C and assembler, and assert that the"
        " image and its parameters fit",
        "MP Initialization Protocol Algorithm for MP Systems",
        chapters.TRAMPOLINE,
        ("AP1-12", "AP1-09", "HANG-05"),
        _altered,
        ("trampoline-parameters-misplaced",),
    ),
    Row(
        "ap-apic-off",
        "the AP's local APIC is off by software: it takes no interrupt but NMI, INIT and SIPI",
        Place.RUNNING,
        ("IPIs never arrive on an AP", "no timer interrupts on APs", "LVT stays masked"),
        "bit 8 of the AP's spurious-interrupt vector register is 0, and 1 on another CPU",
        "bit 8 is 1 on every CPU that is up",
        "set bit 8 of SVR on every CPU, before its LVT entries are unmasked: while it is 0 the"
        " hardware keeps them masked",
        "Spurious Interrupt",
        chapters.WAKING,
        ("AP4-12", "AP4-18"),
        _software_off,
        ("ap-apic-not-enabled",),
    ),
)
