# SPDX-License-Identifier: BSD-2-Clause
"""An AP that runs, and is not seen, not reached or not alone."""

from __future__ import annotations

from typing import Optional

from debug.evidence import Evidence
from debug.explain import stages as stage
from debug.explain.findings import (
    CpuSilent,
    IpiUnseen,
    KernelGaveUp,
    PageAltered,
    PageFault,
    SharedStack,
    StageReached,
    StartedAgain,
    WaitingForSipi,
    WaitsFor,
)
from debug.explain.findings.fault import Role
from debug.explain.findings.waits import IpiLost
from debug.explain.model import CpuState, Explanation, Status
from debug.failures import chapters
from debug.failures.arrivals import apic_is_off, online_late
from debug.failures.row import NOT_UP, WAITED, Match, Place, Row, certain, likely, possible
from debug.x86.page_entries import Reason

_SVR_ENABLE = 1 << 8


def _altered(evidence: Evidence, explanation: Explanation) -> Optional[Match]:
    found = explanation.first(PageAltered)
    if found is None or explanation.status not in NOT_UP:
        return None
    missing = next((v.index for v in explanation.cpus if v.arrived is False), None)
    return certain(found, explanation.first(CpuSilent, missing), cpu=missing)


def _unsent(evidence: Evidence, explanation: Explanation) -> Optional[Match]:
    found = explanation.first(IpiUnseen)
    if found is None or explanation.status not in WAITED or apic_is_off(explanation):
        return None
    waiting = explanation.first(WaitingForSipi)
    return certain(found, waiting, cpu=waiting.cpu) if waiting is not None else None


def _software_off(evidence: Evidence, explanation: Explanation) -> Optional[Match]:
    """An AP that is up and whose local APIC is off by software, while another CPU's is on."""
    lost = explanation.first(IpiLost)
    if lost is not None and lost.off and explanation.status in WAITED:
        return likely(lost, explanation.first(WaitsFor, lost.cpu), cpu=lost.off[0])
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


def _apic_unmapped(evidence: Evidence, explanation: Explanation) -> Optional[Match]:
    """A page fault at an address that ends like the local APIC's registers."""
    for fault in explanation.all(PageFault):
        absent = fault.reason in (None, Reason.NOT_PRESENT)
        if fault.address & 0xFFFF_F000 == 0xFEE0_0000 and fault.role is Role.DATA and absent:
            return certain(fault)
    return None


def _not_seen(evidence: Evidence, explanation: Explanation) -> Optional[Match]:
    """A CPU says that it is online, and the BSP that it is missing."""
    for gave_up in explanation.all(KernelGaveUp):
        view = explanation.view(gave_up.cpu)
        if view is not None and stage.AP_ONLINE in view.stages:
            if online_late(evidence, view.apic_id):
                continue
            reached = explanation.first(StageReached, view.index)
            text = f"it lit stage {stage.AP_ONLINE:02x}: it is online"
            return certain(gave_up, reached, cpu=view.index, extra=(text,))
    return None


def _block_taken(evidence: Evidence, explanation: Explanation) -> Optional[Match]:
    """It found its block in use although nobody had given it up."""
    if explanation.first(SharedStack) is not None:
        return None  # which of the two spoiled the other is not known
    if _not_seen(evidence, explanation) is not None:
        return None  # CPUs use blocks that are not theirs, perhaps this one, too
    given_up = {found.cpu for found in explanation.all(KernelGaveUp)}
    for reached in explanation.all(StageReached):
        if reached.code == stage.AP_ABANDONED and reached.cpu not in given_up:
            if explanation.first(StartedAgain, reached.cpu) is None:
                parks = f"its last stage is {reached.code:02x}: it found its block in use and parks"
                text = "the BSP did not give this CPU up: another CPU had taken its block"
                return likely(cpu=reached.cpu, extra=(parks, text))
    return None


ROWS = (
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
        chapters.FINDING_CPUS,
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
        chapters.TOGETHER,
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
        chapters.WORKING,
        ("AP4-12", "AP4-18"),
        _software_off,
        ("ap-apic-not-enabled",),
        over=("cpu-there-not-seen", "endless-loop", "flag-never-set", "cpus-wait-for-each-other"),
    ),
)
