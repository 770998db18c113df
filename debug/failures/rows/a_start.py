# SPDX-License-Identifier: BSD-2-Clause
"""An AP was started: what became of it and of its page."""

from __future__ import annotations

from typing import Optional

from debug.evidence import Evidence
from debug.explain import stages as stage
from debug.explain.findings import (
    CpuSilent,
    InitAfterSipi,
    IpiUnseen,
    KernelGaveUp,
    NeverExecuted,
    PageOverwritten,
    PanicMessage,
    SipiReceived,
    SipiVectorWrong,
    StageReached,
    StartedAgain,
    TrampolineContents,
    WaitingForSipi,
)
from debug.explain.model import CpuState, Explanation, Status
from debug.failures import chapters
from debug.failures.arrivals import apic_is_off, online_late
from debug.failures.row import NOT_UP, WAITED, Match, Place, Row, certain, likely, possible


def _overwritten(evidence: Evidence, explanation: Explanation) -> Optional[Match]:
    """The page served one AP and was a filler for the next."""
    found = explanation.first(PageOverwritten)
    if found is None or explanation.status not in NOT_UP:
        return None
    contents = next((f for f in explanation.all(TrampolineContents) if f.page == found.page), None)
    for view in explanation.cpus:
        if view.arrived is False and not view.stages and _sent_to(explanation, view.index, found):
            return certain(
                contents, found, explanation.first(CpuSilent, view.index), cpu=view.index
            )
    return None


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
        if waiting is not None and explanation.status in WAITED:
            return certain(late, waiting)
    return None


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
    lax, waits = apic_is_off(explanation), explanation.first(WaitingForSipi)
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
        if view is not None and online_late(evidence, view.apic_id):
            text = f"it lit stage {stage.AP_ONLINE:02x}, online, only after that"
            return certain(gave_up, cpu=view.index, extra=(text,))
    return None


ROWS = (
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
        chapters.FINDING_CPUS,
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
        chapters.TOGETHER,
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
)
