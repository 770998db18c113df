# SPDX-License-Identifier: BSD-2-Clause
"""How the APs were woken, and why one did not come [SDM 3A "MP Initialization"]."""

from __future__ import annotations

from typing import Optional

from debug.evidence import Cpu, Ending, IpiKind
from debug.explain import mp_table
from debug.explain import stages as stage
from debug.explain.code import filler, filler_at
from debug.explain.context import BROADCAST, LOW_MEMORY, PAGE, Machine
from debug.explain.findings import (
    BspRestarted,
    Contents,
    CpuSilent,
    InitAfterSipi,
    InitMissing,
    IpiToNobody,
    IpiUnseen,
    KernelGaveUp,
    NeverExecuted,
    PageOverwritten,
    SipiMissing,
    SipiReceived,
    SipiVectorWrong,
    StageReached,
    StartedAgain,
    TrampolineContents,
    WaitingForSipi,
)
from debug.explain.model import CpuState, CpuView, Finding
from debug.explain.trampoline_search import is_firmwares, linked_for, reads_disk, search
from debug.x86.modes import Mode, mode_of
from debug.x86.patterns import uniform
from debug.x86.registers import Cr0

_FROM_PAGE = (stage.AP_REAL16, stage.AP_PROT32, stage.AP_LONG64)  # lit from the page itself
_SOME = 256  # bytes of an image: more than parameters have
_NOP = 0x90
_GAP = 16  # bytes of filler that part one thing from the next
_ROM = range(0xC0, 0x100)  # SIPI vectors of the firmware's ROM
_RESERVED = range(0xA0, 0xC0)  # SIPI vectors that no BIOS area or RAM answers


def machine_findings(machine: Machine) -> tuple[Finding, ...]:
    """Facts about the IPIs and the trampoline page that belong to no single CPU."""
    found: list[Finding] = []
    known = machine.apic_ids
    ours = machine.kernel_ipis
    for ipi in ours:
        if ipi.kind in (IpiKind.INIT, IpiKind.SIPI) and ipi.destination is not None:
            nobody = ipi.shorthand is None and ipi.destination not in (*known, *BROADCAST)
            if nobody and known:
                found.append(IpiToNobody(None, ipi.destination, known))
    if not machine.cpus:  # the emulator died with its registers: the IPIs are all there is
        sent = [ipi.vector for ipi in ours if ipi.kind is IpiKind.SIPI and ipi.vector is not None]
        found += [wrong for vector in sent if (wrong := _wrong_vector(machine, None, vector))]
    pages = [ipi.vector << 12 for ipi in ours if ipi.kind is IpiKind.SIPI and ipi.vector]
    if machine.trampoline is not None:
        pages.append(machine.trampoline)
    for page in dict.fromkeys(pages):
        contents = _contents(machine, None, page)
        if contents is not None:
            found.append(contents)
            ran = _ran_through(machine, page)
            if ran is not None and contents.begins is None:
                found.append(PageOverwritten(None, page, ran))
    again = restarted(machine)
    if again is not None:
        found.append(again)
    if not any(ipi.kind is IpiKind.SIPI for ipi in ours):
        found += mp_table.findings(machine)
    said = stage.arguments(machine.evidence, stage.BSP_SIPI_SENT)
    if said and watched(machine) and not any(ipi.kind is IpiKind.SIPI for ipi in ours):
        found.append(IpiUnseen(None, said))
    for apic_id in stage.arguments(machine.evidence, stage.BSP_AP_MISSING):
        cpu = next((c for c in machine.cpus if machine.apic_id(c) == apic_id), None)
        found.append(KernelGaveUp(cpu.index if cpu is not None else None, apic_id))
    return tuple(dict.fromkeys(found))


def left_behind(machine: Machine) -> tuple[int, ...]:
    """APIC IDs that the stages say were started and never seen, where no registers are left.

    A kernel that counted its CPUs gave the missing ones up by name: that is `KernelGaveUp`.
    """
    evidence = machine.evidence
    if machine.cpus or stage.argument(evidence, stage.BSP_ALL_ONLINE) is not None:
        return ()
    seen = set(stage.arguments(evidence, stage.BSP_AP_SEEN))
    seen |= {event.apic_id for event in evidence.stages if event.code == stage.AP_ONLINE}
    return tuple(i for i in stage.arguments(evidence, stage.BSP_SIPI_SENT) if i not in seen)


def accounted_for(machine: Machine) -> bool:
    """Whether something tells that the CPUs which must come up did: registers or a count."""
    expected = machine.evidence.expected_cpus
    if machine.cpus or expected is None or expected <= 1:
        return True
    online = stage.argument(machine.evidence, stage.BSP_ALL_ONLINE)
    if online is not None:
        return online >= expected
    return 1 + len(seen_at_work(machine)) >= expected


def seen_at_work(machine: Machine) -> frozenset[int]:
    """The APs that took an interrupt or exception in 64-bit code, or in code that has a name."""
    return frozenset(
        event.cpu
        for event in machine.evidence.events
        if event.cpu not in (None, machine.bsp_index or 0)
        and (mode_of(event.registers).long or machine.symbol(event.registers.rip) is not None)
        and event.cpu is not None
    )


def uncounted(machine: Machine) -> tuple[str, ...]:
    """What to say where the machine took its CPUs with it before they were counted."""
    left = left_behind(machine)
    if left:
        names = ", ".join(str(apic_id) for apic_id in left)
        return (
            f"the machine ended while APs were being started; not seen by then: APIC ID {names}",
        )
    if accounted_for(machine):
        return ()
    return (
        f"the machine is gone: whether {machine.evidence.expected_cpus} CPUs came up is not known;"
        " a guest that stays, or --until, would show it",
    )


def watched(machine: Machine) -> bool:
    """Whether the source sees IPIs at all: the firmware's are always the first."""
    return any(ipi.by_firmware for ipi in machine.evidence.ipis)


def nothing_sent(machine: Machine) -> bool:
    """No INIT or SIPI of the kernel's in the log; without one, the firmware's is the ICR's last."""
    if watched(machine):
        return not any(i.kind in (IpiKind.INIT, IpiKind.SIPI) for i in machine.kernel_ipis)
    apic = machine.bsp.apic if machine.bsp is not None else None
    return apic is not None and apic.icr is not None and is_firmwares(apic.icr)


def restarted(machine: Machine) -> Optional[BspRestarted]:
    """The BSP had reached 64-bit code, and executes the firmware now."""
    bsp = machine.bsp
    if bsp is None or machine.evidence.ending is Ending.RESET and not _before_reset(bsp):
        return None
    last = machine.last_stage(bsp)
    if last is None or not any(event.code == stage.BSP_C for event in machine.stages_of(bsp)):
        return None
    rip, mode = machine.pc(bsp.registers), mode_of(bsp.registers)
    if rip is None or mode.long or machine.symbol(rip) is not None:
        return None
    return BspRestarted(bsp.index, last, rip, mode.value)


def _before_reset(bsp: Cpu) -> bool:
    """Whether these are the registers with which the reset was asked for, not those after it: the
    firmware has come to protected mode."""
    return mode_of(bsp.registers) is Mode.PROTECTED32


def _ran_through(machine: Machine, page: int) -> Optional[int]:
    """The APIC ID of a CPU that was started at this page and lit stages from it."""
    for cpu in machine.aps:
        sent = [ipi for ipi in machine.ipis_for(cpu) if ipi.kind is IpiKind.SIPI]
        through = any(event.code in _FROM_PAGE for event in machine.stages_of(cpu))
        if not machine.traced and sent:
            through = mode_of(cpu.registers).long
        if through and (sent and sent[0].vector == page >> 12 or machine.trampoline == page):
            return machine.apic_id(cpu)
    return None


def page_contents(machine: Machine, page: int) -> Optional[Contents]:
    """A filler at the start of a page, or a boot loader; None where it holds anything else.

    Eight bytes of zeros, 0xCC or 0xFF decide: what follows may be parameters that were written into
    an empty page.  Of another byte it takes more, and of NOP the whole page: code may begin with some.
    """
    if not 0 <= page < 1 << 20:
        return None
    data = machine.physical(page, 8)
    if data is None:
        return None
    if (contents := filler(data)) is not None:
        return contents
    whole = machine.physical(page, PAGE) or data
    if uniform(whole if data[0] == _NOP else whole[:_SOME]) is not None and len(whole) == PAGE:
        return Contents.UNIFORM
    return Contents.LOADER if reads_disk(whole) else None


def _contents(machine: Machine, cpu: Optional[int], page: int) -> Optional[TrampolineContents]:
    """What the page holds, if it is no trampoline."""
    contents = page_contents(machine, page)
    if contents is None:
        return None
    if contents is Contents.UNIFORM:
        return TrampolineContents(cpu, page, contents, None, (machine.physical(page, 1) or b"?")[0])
    return TrampolineContents(cpu, page, contents, _begins(machine, page))


def _begins(machine: Machine, page: int) -> Optional[int]:
    """The offset at which a page that begins with a filler begins to hold something else.

    Parameters that were written into an empty page do not count, nor what a trampoline that runs
    at the wrong place writes there: they are few.
    """
    data = machine.physical(page, PAGE)
    if not data:
        return None
    gap = data[:1] * _GAP
    if not data.startswith(gap):
        return None
    at = len(data) - len(data.lstrip(data[:1]))
    while at < len(data):
        rest = data[at : at + _SOME]
        different = sum(byte not in (0, 0xCC, 0xFF) for byte in rest)
        if different * 2 > len(rest) == _SOME:
            return at
        empty = data.find(gap, at)
        if empty < 0:
            return None
        at = len(data) - len(data[empty:].lstrip(data[:1]))
    return None


def cpu_findings(machine: Machine, cpu: Cpu, view: CpuView) -> tuple[Finding, ...]:
    """Why one AP is where it is: its IPIs, its SIPI page, its last stage."""
    found: list[Finding] = []
    if view.state in (CpuState.WAITING_FOR_SIPI, CpuState.FIRMWARE):
        firmware = view.state is CpuState.FIRMWARE
        found.append(WaitingForSipi(cpu.index, view.apic_id, firmware))
    found += _ipis_for(machine, cpu, view)
    found += _again(machine, cpu, view)
    found += _start_page(machine, cpu)
    last = machine.last_stage(cpu)
    if last is not None:
        name, became, needs = stage.describe(last, machine.evidence.stage_table)
        found.append(StageReached(cpu.index, last, name, became, needs))
    elif machine.traced and cpu.index != machine.bsp_index:
        found.append(CpuSilent(cpu.index, view.apic_id))
    return tuple(found)


def _again(machine: Machine, cpu: Cpu, view: CpuView) -> list[Finding]:
    """A CPU that was sent back: it began a second time, or waits again."""
    found: list[Finding] = []
    codes = [event.code for event in machine.stages_of(cpu)]
    starts = [at for at, code in enumerate(codes) if code == stage.AP_REAL16]
    inits = sum(1 for i in machine.ipis_for(cpu) if i.kind is IpiKind.INIT and not i.by_firmware)
    # With one INIT seen, a CPU that is in the trampoline again has run there by mistake.
    if len(starts) > 1 and (inits > 1 or not watched(machine)):
        before = codes[starts[1] - 1]
        found.append(StartedAgain(cpu.index, view.apic_id, len(starts), before))
    kinds = [i.kind for i in machine.ipis_for(cpu) if i.kind in (IpiKind.INIT, IpiKind.SIPI)]
    if IpiKind.SIPI in kinds and kinds[-1] is IpiKind.INIT:
        found.append(InitAfterSipi(cpu.index, view.apic_id))
    return found


def _ipis_for(machine: Machine, cpu: Cpu, view: CpuView) -> list[Finding]:
    ours, apic_id = machine.kernel_ipis, machine.apic_id(cpu)
    mine = machine.ipis_for(cpu)
    inits = [ipi for ipi in mine if ipi.kind is IpiKind.INIT]
    sipis = [ipi for ipi in mine if ipi.kind is IpiKind.SIPI]
    if sipis:
        first = sipis[0]
        vector = first.vector or 0
        found: list[Finding] = []
        found.append(SipiReceived(cpu.index, apic_id, vector, len(inits), len(sipis)))
        if not inits:
            found.append(InitMissing(cpu.index, apic_id))
        wrong = _wrong_vector(machine, cpu.index, vector)
        return found + ([wrong] if wrong is not None else [])
    if view.arrived:
        return []
    targets = [i.destination for i in ours if i.kind is IpiKind.SIPI and i.destination is not None]
    if machine.evidence.ipis:
        found = [] if inits else [InitMissing(cpu.index, apic_id)]
        sent = tuple(dict.fromkeys(targets))
        return [*found, SipiMissing(cpu.index, apic_id, sent)]
    sent_by_stage = stage.arguments(machine.evidence, stage.BSP_SIPI_SENT)
    through = stage.arguments(machine.evidence, stage.BSP_ALL_ONLINE) or sent_by_stage
    if machine.traced and through and apic_id not in sent_by_stage:
        return [SipiMissing(cpu.index, apic_id, sent_by_stage)]
    return []


def _runs_from_there(machine: Machine) -> bool:
    """Whether an AP that was started came to kernel code: no firmware turns paging on for it."""
    paging = any((cpu.registers.get("cr0") or 0) & Cr0.PG for cpu in machine.aps)
    return paging or bool(seen_at_work(machine))


def _wrong_vector(machine: Machine, cpu: Optional[int], vector: int) -> Optional[SipiVectorWrong]:
    if vector == 0 and _runs_from_there(machine):
        return None
    expected = machine.trampoline >> 12 if machine.trampoline is not None else None
    if expected is not None and vector != expected:
        how = "zero" if vector == 0 else "reserved" if vector in _RESERVED else "other"
        return SipiVectorWrong(cpu, vector, expected, how)
    if vector in _RESERVED:
        return SipiVectorWrong(cpu, vector, None, "reserved")
    if vector == 0:
        return SipiVectorWrong(cpu, vector, None, "zero")
    if vector in _ROM:
        return SipiVectorWrong(cpu, vector, None, "rom")
    empty = page_contents(machine, vector << 12) is not None
    if expected is None and (empty or _slides(machine, cpu)):
        there = search(machine)
        page = there if there is not None else linked_for(machine)
        if page is not None and page != vector << 12:
            return SipiVectorWrong(cpu, vector, page >> 12, "other", True, there is None)
    return None


def _slides(machine: Machine, index: Optional[int]) -> bool:
    """Whether a CPU executes a filler in real mode: what it ran over since, it may have changed."""
    cpu = machine.cpu(index)
    if cpu is None or mode_of(cpu.registers) is not Mode.REAL:
        return False
    return filler_at(machine, cpu.registers) is not None


def _start_page(machine: Machine, cpu: Cpu) -> list[Finding]:
    """What the page in CS says where no IPI was observed."""
    page = machine.sipi_page(cpu)
    if page is None or machine.stages_of(cpu):
        return []
    contents = _contents(machine, cpu.index, page)
    filled = contents is not None and contents.contents is Contents.UNIFORM
    if cpu.halted and page < LOW_MEMORY and cpu.registers.rip not in (0, None) and not filled:
        return []  # code that halts in real mode ran there: nothing wrong with the page
    found: list[Finding] = []
    if contents is not None:
        found.append(contents)
    seen = any(ipi.kind is IpiKind.SIPI for ipi in machine.kernel_ipis)
    if not seen and (page or cpu.executed is not False):
        wrong = _wrong_vector(machine, cpu.index, page >> 12)
        if wrong is not None:
            found.append(wrong)
    if cpu.registers.rip == 0 and cpu.executed is False:
        found.append(NeverExecuted(cpu.index, page))
    return found
