# SPDX-License-Identifier: BSD-2-Clause
"""Where each CPU stands, and what it does there."""

from __future__ import annotations

from dataclasses import replace
from typing import Optional

from debug.evidence import Cpu, Ending, EventKind, IpiKind, Registers
from debug.explain import deaf, stack_origin
from debug.explain import stages as stage
from debug.explain import trampoline_page, uefi_report
from debug.explain.callers import caller_of
from debug.explain.clocks import clock_of
from debug.explain.code import filler_at, in_wait_loop
from debug.explain.context import LOW_MEMORY, PAGE, VECTORS, VIDEO_MEMORY, Machine
from debug.explain.findings import (
    BspInFirmware,
    Clock,
    Contents,
    ExecutingFiller,
    HaltedForever,
    OutsideMemory,
    SharedStack,
    Spinning,
    StackState,
)
from debug.explain.findings.handlers import ProgramLoops
from debug.explain.firmware import in_rom
from debug.explain.interrupted import frame_of
from debug.explain.lcpu import block_of
from debug.explain.model import CpuState, CpuView, Finding
from debug.explain.reached import reached
from debug.explain.waiting import loop_body, steps
from debug.x86.canonical import MASK64, is_canonical
from debug.x86.instruction import Kind
from debug.x86.modes import Mode, code_width, mode_of
from debug.x86.registers import Cr0, Rflags

MASK32 = (1 << 32) - 1
_RESET_VECTOR = (0xFFFFFFF0, 0xFFFF0)
_PARKING_STAGES = (stage.AP_ABANDONED, stage.AP_UNKNOWN, stage.STOPPED)


def describe(machine: Machine, cpu: Cpu, shut_down: bool) -> tuple[CpuView, tuple[Finding, ...]]:
    """One CPU in words, and the facts about its place."""
    registers = cpu.registers
    rip = machine.pc(registers)
    state = _state(machine, cpu, rip, shut_down)
    findings: list[Finding] = []
    where = machine.where(rip)
    if state in (CpuState.RUNNING, CpuState.SHUT_DOWN, CpuState.SPINNING):
        findings += _place(machine, cpu, rip)
    counts = state is CpuState.SPINNING and bool(steps(loop_body(machine, registers)))
    if counts and not any(in_wait_loop(machine, registers)):
        state = CpuState.RUNNING  # the samples met it in the same round of its loop by chance
    if state is CpuState.SPINNING and cpu.served:
        state = CpuState.RUNNING
    program = _program(machine, cpu, where) if state is not CpuState.SHUT_DOWN else None
    if program is not None and not findings:
        if state is CpuState.SPINNING or any(in_wait_loop(machine, registers)):
            state = CpuState.RUNNING
            findings.append(program)
    if _may_spin(cpu, state) and rip is not None and not findings and program is None:
        pause, self_jump = in_wait_loop(machine, registers)
        if self_jump or pause or cpu.moved is False and not counts:
            state = CpuState.SPINNING
    waiting = _waits_with_calls(machine, registers) if state is CpuState.RUNNING else None
    if waiting is not None and not findings:
        state = CpuState.SPINNING
        findings.append(_spinning(machine, cpu, waiting, True, False))
    elif state is CpuState.SPINNING and rip is not None:
        pause, self_jump = in_wait_loop(machine, registers)
        findings.append(_spinning(machine, cpu, registers, pause, self_jump))
    if state is CpuState.HALTED:
        findings.append(HaltedForever(cpu.index, rip, where))
    codes = tuple(event.code for event in machine.stages_of(cpu))
    view = CpuView(
        cpu.index,
        cpu.apic_id if cpu.apic_id is not None else None,
        _mode(registers),
        state,
        _doing(state, where, cpu.halted is not False),
        rip,
        where,
        codes,
        _arrived(machine, cpu, state),
        reached(machine, cpu, state),
    )
    return view, tuple(findings)


def _may_spin(cpu: Cpu, state: CpuState) -> bool:
    return state is CpuState.RUNNING and not cpu.served


def _program(machine: Machine, cpu: Cpu, where: str) -> Optional[ProgramLoops]:
    """Of a CPU at CPL 3: that the kernel gets its interrupts there; None if it does not."""
    registers = cpu.registers
    if registers.cpl != 3 or not (registers.rflags or 0) & Rflags.IF:
        return None
    own = [event for event in machine.last_events if event.cpu == cpu.index]
    taken = sum(event.kind is EventKind.HARDWARE_INTERRUPT for event in own)
    if not taken and (not machine.evidence.pics or deaf.masked(machine, cpu)):
        return None
    if any(event.kind is EventKind.EXCEPTION for event in own[-1:]):
        return None
    return ProgramLoops(cpu.index, where, taken)


def _spinning(
    machine: Machine, cpu: Cpu, loop: Registers, pause: bool, self_jump: bool
) -> Spinning:
    """`loop`: the CPU's registers, or those that it has in the loop that called where it stands."""
    at = machine.pc(loop) or 0
    allowed = bool((cpu.registers.rflags or 0) & Rflags.IF)
    clock = clock_of(machine, loop)
    # With all registers as they were, what was read of a clock is in one of them.
    stands = clock not in (None, Clock.TSC) and cpu.moved is False
    return Spinning(cpu.index, at, machine.where(at), pause, self_jump, allowed, clock, stands)


_NESTED = 2  # a loop may call a function that calls another one to look


def _waits_with_calls(machine: Machine, registers: Registers) -> Optional[Registers]:
    """The registers in the loop with PAUSE that called the function which a CPU stands in."""
    at: Optional[Registers] = registers
    for _ in range(_NESTED):
        at = caller_of(machine, at) if at is not None else None
        if at is not None and any(one.kind is Kind.PAUSE for one in loop_body(machine, at)):
            return at
    return None


def _mode(registers: Registers) -> str:
    mode = mode_of(registers)
    return mode.value + (", in SMM" if registers.smm else "")


def _state(machine: Machine, cpu: Cpu, rip: Optional[int], shut_down: bool) -> CpuState:
    registers = cpu.registers
    if shut_down:
        return CpuState.SHUT_DOWN
    if cpu.waiting_for_sipi:
        return CpuState.WAITING_FOR_SIPI
    is_bsp = cpu.index == machine.bsp_index
    at_reset = rip in _RESET_VECTOR and mode_of(registers) is Mode.REAL
    if cpu.halted and at_reset and not is_bsp:
        return CpuState.WAITING_FOR_SIPI
    if machine.last_stage(cpu) in _PARKING_STAGES:
        return CpuState.PARKED
    if cpu.halted:
        if _in_firmware(machine, cpu, rip) or _parked_by_firmware(machine, cpu):
            return CpuState.FIRMWARE
        if not is_bsp and not machine.stages_of(cpu) and machine.in_uefi(cpu):
            return CpuState.FIRMWARE
        if registers.rflags is None:
            return CpuState.IDLE if cpu.halted else CpuState.UNKNOWN
        if not registers.rflags & Rflags.IF and not is_bsp and _parked_by_kernel(machine, cpu):
            return CpuState.PARKED
        return CpuState.IDLE if registers.rflags & Rflags.IF else CpuState.HALTED
    if at_reset:
        return CpuState.RESET
    if any(one.mnemonic == "mwait" for one in loop_body(machine, registers)):
        return CpuState.IDLE  # some emulators execute it as a pause
    if rip is None:
        return CpuState.UNKNOWN
    if not is_bsp and _in_firmware(machine, cpu, rip) and not _was_started(machine, cpu):
        return CpuState.FIRMWARE
    return CpuState.SPINNING if cpu.moved is False else CpuState.RUNNING


def _parked_by_kernel(machine: Machine, cpu: Cpu) -> bool:
    """An AP without lamps that halts for good where no handler is, while the BSP is idle.

    The BSP misses nothing: it has interrupts on, and nothing to do.
    """
    bsp = machine.bsp
    if bsp is None or not bsp.halted or machine.traced:
        return False
    if not (bsp.registers.rflags or 0) & Rflags.IF or not machine.has_memory:
        return False
    modes = (Mode.LONG64, Mode.PROTECTED32)
    if mode_of(cpu.registers) not in modes or mode_of(bsp.registers) not in modes:
        return False
    own = [event for event in machine.last_events if event.cpu == cpu.index]
    if any(event.kind is EventKind.EXCEPTION for event in own[-1:]):
        return False
    return frame_of(machine, cpu.registers) is None


def _parked_by_firmware(machine: Machine, cpu: Cpu) -> bool:
    """It halts in the page that the firmware started it at, and no SIPI came after."""
    page = machine.sipi_page(cpu)
    if page is None or _was_started(machine, cpu) or machine.stages_of(cpu):
        return False
    sent = [ipi for ipi in machine.evidence.ipis if ipi.kind is IpiKind.SIPI and ipi.by_firmware]
    return any(ipi.vector == page >> 12 for ipi in sent)


def _was_started(machine: Machine, cpu: Cpu) -> bool:
    """INIT and SIPI of the kernel's were sent to it: what it runs now, it came to by itself.

    A SIPI alone is ignored by a CPU that is not waiting for one.
    """
    kinds = [ipi.kind for ipi in machine.ipis_for(cpu)]
    return IpiKind.INIT in kinds and IpiKind.SIPI in kinds


def bsp_in_firmware(machine: Machine) -> tuple[BspInFirmware, ...]:
    """The BSP of a machine that was stopped, or could not go on, had not left the firmware: no kernel
    misses a CPU."""
    bsp, evidence = machine.bsp, machine.evidence
    if bsp is None or machine.traced:
        return ()
    if evidence.ending not in (Ending.STOPPED, Ending.EMULATOR_DIED):
        return ()
    rip = machine.pc(bsp.registers)
    if rip is None or machine.kernel_ipis and not _all_in_real_mode(machine):
        return ()
    long = mode_of(bsp.registers).long
    if not (machine.in_uefi(bsp) if long else _in_firmware(machine, bsp, rip)):
        return ()
    last = machine.screen.rpartition("\n")[2].strip()
    return (BspInFirmware(bsp.index, rip, machine.where(rip), _mode(bsp.registers), last),)


def _all_in_real_mode(machine: Machine) -> bool:
    """Every AP halts in real mode, as some firmware parks them, and the BSP is in real mode too."""
    real = all(mode_of(cpu.registers) is Mode.REAL for cpu in machine.cpus)
    return real and all(cpu.halted for cpu in machine.aps)


def _in_firmware(machine: Machine, cpu: Cpu, rip: Optional[int]) -> bool:
    if rip is None or machine.symbol(rip) is not None or machine.stages_of(cpu):
        return False
    if machine.sipi_page(cpu) is not None:
        return False  # it came from a SIPI and ran on to where the BIOS lies
    return in_rom(rip)


def _doing(state: CpuState, where: str, halted: bool) -> str:
    place = f" at {where}" if where else ""
    return {
        CpuState.RUNNING: f"running{place}",
        CpuState.IDLE: f"idle: {'HLT' if halted else 'MWAIT'}{place}, interrupts on",
        CpuState.HALTED: f"halted{place} with interrupts off",
        CpuState.PARKED: f"parked{place}",
        CpuState.FIRMWARE: f"where the firmware left it{place}",
        CpuState.WAITING_FOR_SIPI: "waiting for a SIPI",
        CpuState.SPINNING: f"spinning{place}",
        CpuState.SHUT_DOWN: f"shut down{place}",
        CpuState.RESET: "at the reset vector",
        CpuState.UNKNOWN: "unknown",
    }[state]


def _arrived(machine: Machine, cpu: Cpu, state: CpuState) -> Optional[bool]:
    """Whether the CPU came up: by its stages; else by where it stands."""
    if cpu.index == machine.bsp_index:
        return True
    if machine.reached(cpu, stage.AP_ONLINE):
        return True
    if state in (CpuState.WAITING_FOR_SIPI, CpuState.FIRMWARE, CpuState.RESET):
        return False
    if machine.tells_arrival:
        return False
    mode = mode_of(cpu.registers)
    if mode in (Mode.LONG64, Mode.PROTECTED32) and state is CpuState.IDLE:
        return True
    return False if mode is Mode.REAL else None


def _place(machine: Machine, cpu: Cpu, rip: Optional[int]) -> list[Finding]:
    registers = cpu.registers
    if rip is None:
        return []
    contents = filler_at(machine, registers)
    if contents is not None:
        return [ExecutingFiller(cpu.index, rip, contents, code_width(registers) or 0)]
    if not machine.has_memory and rip in VIDEO_MEMORY and registers.cpl in (0, None):
        return [OutsideMemory(cpu.index, rip, video=True)]
    walk = machine.linear(registers).walk(rip)
    if walk is not None and walk.physical is not None:
        if _in_vectors(machine, registers, walk.physical):
            width = code_width(registers) or 0
            return [ExecutingFiller(cpu.index, rip, Contents.VECTORS, width)]
        if machine.physical(walk.physical, 1) is None and machine.has_memory:
            return [OutsideMemory(cpu.index, rip)]
    return []


def reported(machine: Machine) -> tuple[Finding, ...]:
    """Where a CPU was when it raised what firmware took: it stands in the firmware's handler now."""
    dump = uefi_report.printed(machine.evidence.console)
    events = machine.last_events[-1:] if machine.has_memory else ()
    if dump is None or [e.registers.rip for e in events] != [dump.fields.get("rip")]:
        return ()
    cpu = machine.cpu(events[0].cpu)
    if cpu is None:
        return ()
    return tuple(_place(machine, replace(cpu, registers=events[0].registers), dump.fields["rip"]))


def _in_vectors(machine: Machine, registers: Registers, physical: int) -> bool:
    """In the first bytes of memory no kernel has code, unless it starts its APs there."""
    if physical >= VECTORS or mode_of(registers) not in (Mode.LONG64, Mode.PROTECTED32):
        return False
    return 0 not in trampoline_page.pages(machine) and machine.has_memory


def stack_state(machine: Machine, cpu: Cpu, registers: Registers) -> Optional[StackState]:
    """The stack pointer against the page tables; None where there are none to ask."""
    rsp, mode, stack = registers.get("rsp"), mode_of(registers), registers.segments.get("ss")
    if rsp is None or mode not in (Mode.LONG64, Mode.PROTECTED32, Mode.COMPAT32):
        return None
    wide = mode is Mode.LONG64
    paging = (registers.get("cr0") or 0) & Cr0.PG
    if not wide and (stack is None or stack.base or not paging):
        return None
    if not wide and rsp and not machine.has_memory:
        return None  # the clues tell more
    top = rsp - 8 & MASK64 if wide else rsp - 4 & MASK32
    canonical = is_canonical(rsp)
    mapped = machine.maps(registers, top) if canonical else None
    block = block_of(machine, cpu)
    source = ""
    if block is not None and block.stack and 0 <= block.stack - rsp <= 0x40:
        source = f"lcpus[{block.index}].stack"
    elif block is not None and block.stack == 0 and rsp == 0:
        source = f"lcpus[{block.index}].stack"
    given = block is not None and rsp in (block.stack, block.stack - 8)
    guard = bottom = False
    if mapped is False:
        bottom = rsp % PAGE == 0 and bool(machine.maps(registers, rsp))
        bottom = bottom and (given or not _used(machine, registers, rsp))
    if mapped is False and not given:
        guard = not bottom and any(
            machine.maps(registers, (rsp & -PAGE) + step * PAGE & MASK64) for step in range(4)
        )
    grown = stack_origin.taken(machine, registers) if mapped is False and not given else 0
    told = mapped is False and stack_origin.loaded(machine, registers)
    guard = guard or bool(grown)
    rip = machine.pc(registers)
    code_lost = mapped is False and rip is not None and machine.maps(registers, rip) is False
    return StackState(
        cpu.index, rsp, rsp == 0, canonical, mapped, guard, bottom, source, grown, told, code_lost
    )


def _used(machine: Machine, registers: Registers, rsp: int) -> bool:
    """Whether the words above RSP are frames: return addresses into named code."""
    data = machine.linear(registers).read(rsp, 512) or b""
    words = (int.from_bytes(data[at : at + 8], "little") for at in range(0, len(data), 8))
    named = (machine.symbol(word) for word in words if word >= LOW_MEMORY)
    return sum(1 for symbol in named if symbol is not None and symbol.offset and symbol.line) >= 3


def shared_stacks(machine: Machine, views: tuple[CpuView, ...]) -> tuple[SharedStack, ...]:
    """Pairs of CPUs whose stack pointers lie in one page; each pair once."""
    waiting = (CpuState.WAITING_FOR_SIPI, CpuState.FIRMWARE, CpuState.RESET)
    seen: dict[tuple[Optional[int], int], tuple[int, int, Optional[int]]] = {}
    found = []
    for view in views:
        cpu = machine.cpu(view.index)
        if cpu is None or view.state in waiting or mode_of(cpu.registers) is not Mode.LONG64:
            continue
        rsp = cpu.registers.get("rsp")
        if rsp is None or rsp < LOW_MEMORY // 16:
            continue
        # A full-descending stack ends below its first address.
        page = machine.identity(cpu.registers, rsp - 1 & -PAGE)
        if page in seen:
            other, other_rsp, place = seen[page]
            if place == view.rip and rsp != other_rsp:
                continue  # the same code at another depth: small stacks beside each other
            found.append(SharedStack(view.index, other, rsp, other_rsp))
        else:
            seen[page] = (view.index, rsp, view.rip)
    return tuple(found)
