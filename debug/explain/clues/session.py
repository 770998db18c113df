# SPDX-License-Identifier: BSD-2-Clause
"""What the tables that a debugger session shows prove by themselves, without a moment of death."""

from __future__ import annotations

import re
from typing import Iterator, Optional

from debug.evidence import Cpu
from debug.explain.code import instruction_at
from debug.explain.context import Machine
from debug.explain.findings.evident import Clue, Evident, Proof
from debug.x86.modes import Mode, mode_of, stack_width

_ENTRY = re.compile(r"^page (0x[0-9a-f]+): (PML[45]|PDPT?E|PDE|PTE) (0x[0-9a-f]+)$")
_PUSHES = ("push", "pusha", "pushf", "call")
_IVT_SEGMENTS = (0xF000, 0xC000)  # of the BIOS and of the video BIOS
_FEW = 32  # bytes: a GDT without one descriptor in its first four entries serves nobody


def findings(machine: Machine) -> Iterator[Evident]:
    """The facts in the tables, CPU by CPU."""
    walks = list(_tables_at_zero(machine))
    if walks:  # what was read through these tables is no table
        yield from walks
        return
    for cpu in machine.cpus:
        for fact in (_push, _empty_tss, _empty_gdt, _absent):
            one = fact(machine, cpu)
            if one is not None:
                yield one


def _push(machine: Machine, cpu: Cpu) -> Optional[Evident]:
    """The CPU stands at a push, and the last page fault was in the slot that it writes."""
    rsp, address = cpu.registers.get("rsp"), cpu.registers.get("cr2")
    instruction = instruction_at(machine, cpu.registers)
    if not rsp or not address or instruction is None or instruction.mnemonic not in _PUSHES:
        return None
    slot = (stack_width(cpu.registers) or 32) // 8
    if address != rsp - slot:
        return None
    line = (
        f"CR2 {address:#x} is the slot below RSP {rsp:#x}, which this {instruction.mnemonic} writes"
    )
    return Evident(cpu.index, Clue.STACK_UNMAPPED, Proof.HINT, (line,))


def _empty_tss(machine: Machine, cpu: Cpu) -> Optional[Evident]:
    """SS0 of the TSS is null [SDM 3A "32-Bit Task-State Segment (TSS)"]."""
    task = cpu.registers.segments.get("tr")
    if task is None or not task.selector & 0xFFFC or mode_of(cpu.registers).long:
        return None
    data = machine.linear(cpu.registers).read(task.base + 4, 8)
    if data is None or int.from_bytes(data[4:6], "little") & 0xFFFC:
        return None
    stack = int.from_bytes(data[:4], "little")
    line = (
        f"the TSS that TR {task.selector:#06x} names at {task.base:#x} holds SS0 0 and ESP0"
        f" {stack:#x}: no exception or interrupt can come in from ring 3"
    )
    return Evident(cpu.index, Clue.STACK_OF_TSS, Proof.HINT, (line,))


def _empty_gdt(machine: Machine, cpu: Cpu) -> Optional[Evident]:
    table = cpu.registers.gdtr
    if table is None or table.limit < _FEW - 1:
        return None
    data = machine.linear(cpu.registers).read(table.base, _FEW)
    if data is None or any(data):
        return None
    line = f"the GDT at {table.base:#x} holds zeros: every selector but null is refused"
    return Evident(cpu.index, Clue.GDT_EMPTY, Proof.HINT, (line,))


def _absent(machine: Machine, cpu: Cpu) -> Optional[Evident]:
    """The address of the last page fault has no page in the tables that were shown."""
    address = cpu.registers.get("cr2")
    if not address or cpu.registers.get("cr3") is None or cpu.registers.rip is not None:
        return None
    if mode_of(cpu.registers) is Mode.REAL or machine.maps(cpu.registers, address) is not False:
        return None
    line = f"CR2 {address:#x} has no page in the tables of CR3 {cpu.registers.get('cr3'):#x}"
    return Evident(cpu.index, Clue.POINTER, Proof.HINT, (line,))


def _tables_at_zero(machine: Machine) -> Iterator[Evident]:
    """A paging entry that is an entry of the interrupt vector table: the walk began at page 0."""
    for message in machine.evidence.messages[-256:]:
        found = _ENTRY.match(message)
        entry = int(found[3], 16) if found is not None else 0
        if found is not None and found[2] != "PTE" and entry >> 16 in _IVT_SEGMENTS:
            line = (
                f"the {found[2]} of {found[1]} is {entry:#010x}, which is the interrupt vector"
                f" {entry >> 16:04x}:{entry & 0xFFFF:04x}: the walk goes through physical page 0"
            )
            yield Evident(None, Clue.TABLES_AT_ZERO, Proof.HINT, (line,))
            return
