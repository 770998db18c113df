# SPDX-License-Identifier: BSD-2-Clause
"""A BSP that waits for APs to which it never sent anything: its trampoline lies ready, unused.

Many kernels use one CPU, and hang alone.  This one has a trampoline in low memory, and the word that
it waits for is one that only the code behind the trampoline writes, or nobody.
"""

from __future__ import annotations

import struct
from typing import Iterator, Optional

from debug.evidence import Registers
from debug.explain import arrival
from debug.explain.context import PAGE, Machine
from debug.explain.findings import WaitsFor
from debug.explain.findings.waits import NeverStarted
from debug.explain.model import UNBEGUN, CpuState, CpuView, Finding
from debug.explain.trampoline_page import LOWEST_ENTRY
from debug.explain.trampoline_search import far_jumps, search
from debug.explain.writers import code_around
from debug.x86.decode import MAX_LENGTH, decode
from debug.x86.instruction import Kind
from debug.x86.modes import code_width
from debug.x86.patterns import occurrences

_NEAR = 1 << 20  # bytes between an entry of the kernel's and what it calls
_STEPS, _ENTRIES = 512, 8  # instructions that are followed, and addresses in the page
_LOW_HALF = (1 << 32) - 1
_ICR, _WRMSR = b"\x30\x08\x00\x00", b"\x0f\x30"  # 830H, which a MOV brings to ECX
_MOV = range(0xB8, 0xC0)  # mov REGISTER, imm32
_PAGE_OF_APIC = 0xFEE00000
_XAPIC_ICR = struct.pack("<I", 0xFEE00300)
_BETWEEN = 96  # bytes between the two instructions


def findings(
    machine: Machine, views: tuple[CpuView, ...], waits: tuple[Finding, ...]
) -> tuple[NeverStarted, ...]:
    """Of a BSP that spins: that what it waits for is what nobody was started to do."""
    bsp = machine.bsp
    others = [view for view in views if view.index != machine.bsp_index]
    if bsp is None or not others or machine.tells_arrival or not arrival.nothing_sent(machine):
        return ()
    if not all(view.state in UNBEGUN for view in others):
        return ()
    wait = next((f for f in waits if isinstance(f, WaitsFor) and f.cpu == bsp.index), None)
    page = search(machine) if wait is not None else None
    if wait is None or page is None:
        return ()
    code = machine.physical(page, PAGE) or b""
    reached = _reached(machine, bsp.registers, code, page) if wait.writers else frozenset()
    if any(address not in reached for address, _, _ in wait.writers):
        return ()  # something else writes there
    by_aps = tuple(f"{place or hex(at)}: {text}" for at, place, text in wait.writers)
    if not wait.writers and struct.pack("<I", wait.address & _LOW_HALF) in code:
        by_aps = (f"the trampoline names {wait.address:#x}",)
    if not by_aps and not wait.alone:
        return ()  # a handler may write there
    waiting = tuple(view.index for view in others)
    msr = _x2apic_write(machine, bsp.registers)
    if bsp.apic is not None and bsp.apic.x2apic:
        msr = ""
    icr = bsp.apic.icr if bsp.apic is not None else None
    walk = machine.linear(bsp.registers).walk(_PAGE_OF_APIC)
    mapped = walk.physical if walk is not None else None
    mapped = None if mapped == _PAGE_OF_APIC else mapped
    return (NeverStarted(bsp.index, page, waiting, wait.address, by_aps, msr, icr, mapped),)


def _reached(machine: Machine, registers: Registers, page: bytes, at: int) -> frozenset[int]:
    """Addresses of the instructions that the trampoline's code leads to, by an address in its page."""
    found: set[int] = set()
    width, rip = code_width(registers), machine.pc(registers)
    if width not in (32, 64) or rip is None:
        return frozenset()
    jumps = [jump.target for jump in far_jumps(page, at) if not at <= jump.target < at + PAGE]
    for entry in dict.fromkeys([*jumps, *_entries(page, rip)][:_ENTRIES]):
        found |= _followed(machine, registers, entry, width)
    return frozenset(found)


def _entries(page: bytes, rip: int) -> Iterator[int]:
    """Numbers in the page that are addresses of the kernel's code."""
    seen = set()
    for offset in range(len(page) - 3):
        low = struct.unpack_from("<I", page, offset)[0]
        value = rip & ~_LOW_HALF | low  # the upper half is what the kernel's code has
        if low < LOWEST_ENTRY or abs(value - rip) > _NEAR or value in seen:
            continue
        seen.add(value)
        yield value


def _followed(machine: Machine, registers: Registers, entry: int, width: int) -> set[int]:
    """The instructions from an entry on: jumps and calls are followed, returns end it."""
    memory = machine.linear(registers)
    found: set[int] = set()
    ahead = [entry]
    while ahead and len(found) < _STEPS:
        at = ahead.pop()
        while at not in found and len(found) < _STEPS:
            data = memory.some(at, MAX_LENGTH)
            one = decode(data, at, width) if data else None
            if one is None or one.kind is Kind.INVALID:
                break
            found.add(at)
            if one.kind in (Kind.NEAR_CALL, Kind.CONDITIONAL_JUMP) and one.target is not None:
                ahead.append(one.target)
            if one.kind in (Kind.NEAR_RETURN, Kind.FAR_RETURN, Kind.FAR_JUMP, Kind.IRET):
                break
            if one.kind is Kind.NEAR_JUMP and one.target is None:
                break
            at = one.target if one.kind is Kind.NEAR_JUMP and one.target is not None else one.next
    return found


def _x2apic_write(machine: Machine, registers: Registers) -> str:
    """Where code near the loop writes x2APIC mode's ICR, if none there writes the other one."""
    at = machine.pc(registers)
    place: Optional[int] = None
    for start, data in code_around(machine, registers, at) if at is not None else ():
        if _XAPIC_ICR in data:
            return ""
        for offset in occurrences(data, _ICR):
            behind = data.find(_WRMSR, offset, offset + len(_ICR) + _BETWEEN)
            if place is None and behind >= 0 and offset and data[offset - 1] in _MOV:
                place = start + behind
    return machine.where(place) if place is not None else ""
