# SPDX-License-Identifier: BSD-2-Clause
"""Memory at GDTR's base that is no GDT: whether one was ever there.

A wrong base shows at the first selector after LGDT.  A table that lies where somebody else writes,
in a loader's memory or in a .bss that is cleared later, is used before it is lost.
"""

from __future__ import annotations

from typing import Optional

from debug.evidence import Cpu, Registers
from debug.explain.context import Machine
from debug.explain.findings.tables import GdtLost
from debug.x86.modes import Mode, code_width, mode_of

_NEAR = 48  # bytes of code behind LGDT that load the segment registers
_LGDT, _LGDT_REG = b"\x0f\x01", 2  # and bits 5:3 of the next byte


def suspect_base(machine: Machine, registers: Registers) -> str:
    """Why GDTR's base can't be that of a real table, "" if nothing speaks against it.

    The descriptor that CS was loaded from, if it came from this table, must still be there.
    """
    table = registers.gdtr
    if table is None:
        return ""
    if table.base == 0 and table.limit == 0 and mode_of(registers) is Mode.PROTECTED32:
        return "GDTR is null, and CS came from a GDT: a later LGDT read zeros"
    if table.base == 0 and table.limit in (0, 0xFFFF):
        return f"GDTR is {'null' if table.limit == 0 else 'as reset left it'}: no GDT was loaded"
    data = machine.linear(registers).read(table.base, min(max(table.limit, 7) + 1, 64))
    if data is None and not machine.has_memory:
        return ""
    if data is None:
        return f"no memory can be read at the GDT's base {table.base:#x}"
    if len(data) >= 16 and not any(data):
        return f"the memory at the GDT's base {table.base:#x} is all zeros"
    if len(data) >= 16 and set(data) == {0xCC}:
        return f"the memory at the GDT's base {table.base:#x} is 0xCC filler"
    if shifted(machine, registers):
        what = "a code descriptor, and the 8 bytes before it are a null one"
        return f"the first entry at the GDT's base {table.base:#x} is {what}"
    if any(data[:8]) and not _looks_like_gdt(data):
        return f"the memory at the GDT's base {table.base:#x} does not look like descriptors"
    return ""


def shifted(machine: Machine, registers: Registers) -> bool:
    """Whether a code descriptor stands where the null one belongs, right behind 8 bytes of zeros."""
    table = registers.gdtr
    data = machine.linear(registers).read(table.base - 8, 16) if table is not None else None
    if data is None or any(data[:8]):
        return False
    first = data[8:]
    flat = first[:5] == b"\xff\xff\0\0\0" and not first[7]
    return flat and first[5] & 0x98 == 0x98 and first[6] & 0x0F == 0x0F


def _looks_like_gdt(data: bytes) -> bool:
    """At least half of the entries after the first have S=1 and P=1, and one is flat code.

    The BIOS's vectors pass for present segments, but for none whose base is 0.
    """
    entries = [data[at : at + 8] for at in range(8, len(data) - 7, 8)]
    good = [entry for entry in entries if entry[5] & 0x90 == 0x90 or not any(entry)]
    flat = (e for e in entries if e[5] & 0x98 == 0x98 and not any(e[2:5]) and not e[7])
    return len(good) * 2 >= len(entries) and any(flat)


def just_loaded(machine: Machine, registers: Registers) -> bool:
    """Whether LGDT stands in the code right before RIP."""
    rip, width = machine.pc(registers), code_width(registers)
    if rip is None or width is None or rip < _NEAR:
        return False
    code = machine.linear(registers).read(rip - _NEAR, _NEAR) or b""
    at = code.find(_LGDT)
    while 0 <= at < len(code) - 2:
        if code[at + 2] >> 3 & 7 == _LGDT_REG and code[at + 2] >> 6 != 3:
            return True
        at = code.find(_LGDT, at + 1)
    return False


def findings(machine: Machine, cpu: Cpu) -> tuple[GdtLost, ...]:
    """Of a CPU that shut down outside of real mode."""
    registers = cpu.registers
    table, mode = registers.gdtr, mode_of(registers)
    if table is None or not table.base or mode not in (Mode.PROTECTED32, Mode.LONG64):
        return ()
    why = suspect_base(machine, registers)
    if not why or shifted(machine, registers):
        return ()
    return (GdtLost(cpu.index, table.base, table.limit, why, _task(registers)),)


def _task(registers: Registers) -> Optional[int]:
    """TR's selector, where this table is long enough to have had its descriptor."""
    task, table = registers.segments.get("tr"), registers.gdtr
    if task is None or table is None or not task.selector & 0xFFFC or not task.base:
        return None
    return task.selector if task.selector | 7 <= table.limit else None
