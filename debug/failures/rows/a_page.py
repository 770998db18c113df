# SPDX-License-Identifier: BSD-2-Clause
"""An AP is to be started: which page the SIPI names, and what lies in it."""

from __future__ import annotations

from dataclasses import replace
from typing import Optional

from debug.evidence import Evidence
from debug.explain import stages as stage
from debug.explain.findings import (
    BspRestarted,
    Contents,
    CpuSilent,
    ExecutingFiller,
    PageOverwritten,
    SipiReceived,
    SipiVectorWrong,
    StageReached,
    TrampolineContents,
)
from debug.explain.model import Explanation, Status
from debug.failures import chapters
from debug.failures.row import NOT_UP, Match, Place, Row, certain, likely, possible


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
        view = explanation.view(cpu)
        left = view is not None and view.mode in ("32-bit protected mode", "64-bit mode")
        if left and running is None:
            continue  # it came through the page: that was cleared or freed later
        if page.contents is Contents.UNIFORM:  # as an allocator fills a page that it got back
            return likely(page, received, silent, running, cpu=cpu)
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
        over=("executing-zeros", "endless-jump", "real-mode-fault-loop"),
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
)
