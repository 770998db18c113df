# SPDX-License-Identifier: BSD-2-Clause
"""Facts about CPUs that break a rule of the ABI or of SMP, whether or not it has hurt yet."""

from __future__ import annotations

from dataclasses import replace
from typing import Optional

from debug.evidence import Cpu, EventKind, Registers
from debug.explain import trampoline_page
from debug.explain.code import caller, filler, filler_at
from debug.explain.context import LOW_MEMORY, PAGE, SLIDE, VECTORS, Machine
from debug.explain.findings import Laxness
from debug.explain.findings.tables import (
    CalledFrom,
    DirectionFlag,
    LargePageIgnored,
    PaeTablesWithoutPae,
    SharedTss,
    StackOverTable,
    StackZeroed,
    TssTruncated,
    UserBaseSwapped,
)
from debug.explain.model import CpuState, CpuView, Finding
from debug.x86.canonical import is_canonical
from debug.x86.linear import tables_of
from debug.x86.modes import Mode, PagingMode, code_width, mode_of
from debug.x86.paging import translate
from debug.x86.refusals import Check
from debug.x86.registers import Cr4, Rflags

_TO_CR4, _TO_CR0 = b"\x0f\x22\xe0", b"\x0f\x22\xc0"  # mov cr4, eax; mov cr0, eax
_ADDRESS = 0x000F_FFFF_FFFF_F000
_SAME_CODE = 0x10000  # bytes between RIP and what the same kernel returns to
_LOW_HALF, _IMAGE = (1 << 32) - 1, 1 << 24  # a kernel's tables lie within so many bytes
_TSS = 104  # bytes of a 64-bit TSS
_CODE = 16  # bytes of code that tell it from filler
_IST = 36  # offset of the first of seven stacks in a 64-bit TSS
_PUSHED = 32  # bytes that code without a meaning may have pushed meanwhile
_HIGHER_HALF = 1 << 63
_WAITING = (CpuState.FIRMWARE, CpuState.WAITING_FOR_SIPI, CpuState.RESET)


def findings(machine: Machine, views: tuple[CpuView, ...]) -> tuple[Finding, ...]:
    """What the CPUs that run 64-bit code do that they must not."""
    found: list[Finding] = []
    running: list[Cpu] = []
    for view in views:
        cpu = machine.cpu(view.index)
        if cpu is not None and view.state in (CpuState.SHUT_DOWN, CpuState.HALTED):
            found += _page_size_ignored(machine, cpu)
        if cpu is not None and view.state is CpuState.SHUT_DOWN:
            found += _called(machine, cpu) + _pae_tables(machine, cpu)
            found += _task_truncated(machine, cpu) + _overgrown(machine, cpu)
        if cpu is None or view.state in _WAITING or mode_of(cpu.registers) is not Mode.LONG64:
            continue
        running.append(cpu)
        found += _direction(machine, cpu, view)
        found += _bases(cpu)
        found += _zeroed(machine, cpu, view)
    return (*found, *_tasks(machine, running), *_large_pages(machine), *_early_pcide(machine))


def _page_size_ignored(machine: Machine, cpu: Cpu) -> list[Finding]:
    """[SDM 3A "32-Bit Paging"]: with CR4.PSE=0, bit 7 of a directory entry is ignored."""
    tables = tables_of(cpu.registers)
    if tables is None or tables.mode is not PagingMode.PAGING32 or tables.cr4 & Cr4.PSE:
        return []
    for name in ("rip", "rsp", "cr2"):
        address = machine.pc(cpu.registers) if name == "rip" else cpu.registers.get(name)
        walk = machine.linear(cpu.registers).walk(address) if address is not None else None
        if address is None or walk is None or not walk.entries:
            continue
        raw = walk.entries[0].raw
        if raw & 0x81 == 0x81:
            return [LargePageIgnored(cpu.index, address, address >> 22, raw)]
    return []


def _pae_tables(machine: Machine, cpu: Cpu) -> list[Finding]:
    """[SDM 3A "PAE Paging"]: 32-bit paging reads the halves of an entry as two."""
    tables, rip = tables_of(cpu.registers), machine.pc(cpu.registers)
    if tables is None or tables.mode is not PagingMode.PAGING32 or rip is None:
        return []
    memory, meant = machine.evidence.memory, replace(tables, cr4=tables.cr4 | int(Cr4.PAE))
    walk, taken = translate(memory, meant, rip), translate(memory, tables, rip)
    if walk.physical is None or walk.physical == taken.physical:
        return []
    code = machine.physical(walk.physical, _CODE)
    if code is None or filler(code) is not None:
        return []
    return [PaeTablesWithoutPae(cpu.index, tables.cr3, rip, walk.entries[0].raw)]


def _task_truncated(machine: Machine, cpu: Cpu) -> list[Finding]:
    """[SDM 3A "TSS Descriptor in 64-bit mode"]: bits 63:32 of the base are in the second half."""
    base = _base(cpu.registers)
    if base is None or base >> 32 or mode_of(cpu.registers) is not Mode.LONG64:
        return []
    memory = machine.linear(cpu.registers)
    if not machine.has_memory:
        table = cpu.registers.gdtr
        high = table.base & ~_LOW_HALF if table is not None else 0
        near = table is not None and abs((table.base & _LOW_HALF) - base) < _IMAGE
        return [TssTruncated(cpu.index, base, high | base)] if high and near else []
    there = memory.read(base, _TSS)
    if there is not None and any(there):
        return []
    for upper in (0xFFFF_FFFF << 32, 0xFFFF_8000 << 32):
        data = memory.read(upper | base, _TSS)
        if data is not None and any(data[4:12]):  # RSP0
            return [TssTruncated(cpu.index, base, upper | base)]
    return []


def _overgrown(machine: Machine, cpu: Cpu) -> list[Finding]:
    """Tables that hold return addresses: no descriptor or 64-bit gate looks like one."""
    registers, rip, width = cpu.registers, cpu.registers.rip, code_width(cpu.registers)
    if rip is None or width not in (32, 64) or rip < LOW_MEMORY:
        return []
    tables = [("GDT", registers.gdtr)] + ([("IDT", registers.idtr)] if width == 64 else [])
    for name, table in tables:
        if table is None or not 7 < table.limit < 0xFFFF:
            continue
        data = machine.linear(registers).read(table.base, min(table.limit + 1, 4096)) or b""
        count = _returns(data, rip, width // 8)
        if count >= 2:
            return [StackOverTable(cpu.index, name, table.base, count)]
    return _over_page_tables(machine, cpu, rip, width // 8)


def _over_page_tables(machine: Machine, cpu: Cpu, rip: int, size: int) -> list[Finding]:
    """RSP is no longer mapped, and by the BSP's tables its frame is a table of this CPU's."""
    rsp, bsp = cpu.registers.get("rsp"), machine.bsp
    if rsp is None or bsp is None or bsp.index == cpu.index:
        return []
    walk, theirs = (machine.linear(one.registers).walk(rsp) for one in (cpu, bsp))
    if walk is None or walk.present or theirs is None or theirs.physical is None:
        return []
    frame = theirs.physical & -PAGE
    entry = next((one for one in walk.entries if one.address & -PAGE == frame), None)
    count = _returns(machine.physical(frame, PAGE) or b"", rip, size) if entry is not None else 0
    if entry is None or count < 2:
        return []
    return [StackOverTable(cpu.index, f"page table ({entry.level})", frame, count)]


def _returns(data: bytes, rip: int, size: int) -> int:
    """How many words are addresses of the code around RIP."""
    words = (int.from_bytes(data[at : at + size], "little") for at in range(0, len(data), size))
    return sum(abs(word - rip) < _SAME_CODE for word in words)


def _called(machine: Machine, cpu: Cpu) -> list[Finding]:
    """The call that led to where no code is, while its return address is still on top."""
    at = machine.pc(cpu.registers)
    if at is None or machine.linear(cpu.registers).read(at, 1) is not None and at >= VECTORS:
        return []
    call = caller(machine, cpu.registers)
    if call is None:
        return []
    low = call.address < LOW_MEMORY
    return [CalledFrom(cpu.index, at, machine.where(call.address), call.text, low)]


def _is_tcg(machine: Machine) -> bool:
    return machine.evidence.emulator == "qemu" and machine.evidence.accelerator != "kvm"


def _large_pages(machine: Machine) -> list[Finding]:
    """Pages of 1 GiB, which QEMU takes from any CPU model; no evidence has CPUID."""
    bsp = machine.bsp
    tables = tables_of(bsp.registers) if bsp is not None and _is_tcg(machine) else None
    if tables is None or tables.mode is not PagingMode.LEVEL4:
        return []
    root = machine.physical(tables.root, PAGE) or b""
    for index in range(len(root) // 8):
        raw = int.from_bytes(root[index * 8 : index * 8 + 8], "little")
        data = machine.physical(raw & _ADDRESS, PAGE) if raw & 0x81 == 1 else None
        for slot in range(0, len(data or b""), 8):
            if (data or b"")[slot] & 0x81 == 0x81:
                sentence = (
                    f"PDPT[{slot // 8}] under PML4[{index}] maps a page of 1 GiB, which QEMU takes"
                    " from every CPU model: a CPU without them (CPUID 80000001H EDX bit 26) raises"
                    " #PF with RSVD"
                )
                return [Laxness(None, sentence)]
    return []


def _early_pcide(machine: Machine) -> list[Finding]:
    """`mov eax, imm; mov cr4, eax` with PCIDE in a page that turns paging on later."""
    if not _is_tcg(machine):
        return []
    for page in trampoline_page.pages(machine):
        data = machine.physical(page, PAGE) or b""
        at = data.find(_TO_CR4)
        while at >= 5:
            value = int.from_bytes(data[at - 4 : at], "little")
            paging = data.find(_TO_CR0, at)
            if data[at - 5] == 0xB8 and value & Cr4.PCIDE and paging >= 0:
                sentence = (
                    f"QEMU let this pass: the mov to CR4 at {page + at:#x} sets PCIDE before long"
                    " mode is active; a real CPU raises #GP(0) there"
                )
                return [Laxness(None, sentence, Check.PCIDE)]
            at = data.find(_TO_CR4, at + 1)
    return []


def _direction(machine: Machine, cpu: Cpu, view: CpuView) -> list[Finding]:
    """Idle with DF=1, or dead with it: where it runs on, it may be in a copy that goes down.

    Of a CPU that goes on after its exceptions, the first one tells.
    """
    own = [e for e in machine.last_events if e.cpu == cpu.index]
    first = next((e.registers for e in own if e.kind is EventKind.EXCEPTION), None)
    if first is not None and (first.rflags or 0) & Rflags.DF and first.cpl in (0, None):
        where = machine.where(first.rip)
        if mode_of(first) is Mode.LONG64 and machine.symbol(first.rip) is not None:
            return [DirectionFlag(cpu.index, where, False)]
    still = view.state in (CpuState.IDLE, CpuState.HALTED, CpuState.SHUT_DOWN)
    if (
        not still
        or not (cpu.registers.rflags or 0) & Rflags.DF
        or cpu.registers.cpl not in (0, None)
    ):
        return []
    return [DirectionFlag(cpu.index, view.where or "RIP", view.state is CpuState.IDLE)]


def _bases(cpu: Cpu) -> list[Finding]:
    """At CPL 0 GS base is the kernel's; the other one's is waiting in the MSR."""
    registers = cpu.registers
    mine, other = registers.get("gs_base"), registers.get("kernel_gs_base")
    if mine is None or other is None or registers.cpl not in (0, None):
        return []
    if mine < _HIGHER_HALF <= other:
        return [UserBaseSwapped(cpu.index, mine, other)]
    return []


def _zeroed(machine: Machine, cpu: Cpu, view: CpuView) -> list[Finding]:
    registers, rsp = cpu.registers, cpu.registers.get("rsp")
    if view.state is not CpuState.SHUT_DOWN or rsp is None or rsp < LOW_MEMORY:
        return []
    rip = registers.rip
    if rip is None or rip >= SLIDE or machine.symbol(rip) is not None:
        return []  # it runs code that has a name, or is where no return to 0 leads
    if rip >= VECTORS and machine.linear(registers).read(rip, 1) is not None:
        # Our BSP has no code below 640 KiB: whatever runs there was left by the loader.
        astray = machine.traced and cpu.index == machine.bsp_index and rip < LOW_MEMORY
        if not astray and filler_at(machine, registers) is None:
            return []  # it may be code
    for above in range(-8, _PUSHED + 1, 8):  # below: what was popped last
        at = replace(registers, general={**registers.general, "rsp": rsp + above})
        if caller(machine, at) is not None:
            return []  # there is a return address: the stack is fresh, its first call went astray
    data = machine.linear(registers).read(rsp + _PUSHED, 128)
    return [StackZeroed(cpu.index, rsp)] if data is not None and not any(data) else []


def _tasks(machine: Machine, cpus: list[Cpu]) -> list[Finding]:
    """TSSes that two CPUs share, and stacks that two TSSes name."""
    found: list[Finding] = []
    tasks: dict[tuple[Optional[int], int], int] = {}
    stacks: dict[tuple[Optional[int], int], tuple[int, str]] = {}
    for cpu in cpus[:256]:
        base = _base(cpu.registers)
        if base is None:
            continue
        task = machine.identity(cpu.registers, base)
        if task in tasks:
            found.append(SharedTss(cpu.index, tasks[task], "TSS", base))
            continue
        tasks[task] = cpu.index
        data = machine.linear(cpu.registers).read(base + _IST, 56)
        for slot in range(7) if data is not None else ():
            stack = int.from_bytes((data or b"")[slot * 8 : slot * 8 + 8], "little")
            if stack < LOW_MEMORY or not is_canonical(stack):
                continue  # unused, or poisoned so that its use is noticed
            # An IST names the end of a stack: its last byte is what is mapped.
            place = machine.identity(cpu.registers, stack - 1)
            if place in stacks and stacks[place][0] != cpu.index:
                found.append(SharedTss(cpu.index, stacks[place][0], stacks[place][1], stack))
                break
            stacks.setdefault(place, (cpu.index, f"IST {slot + 1}"))
    return found[:8]


def _base(registers: Registers) -> Optional[int]:
    task = registers.segments.get("tr")
    if task is None or not task.selector & 0xFFFC or not task.base:
        return None
    return task.base
