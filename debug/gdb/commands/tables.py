# SPDX-License-Identifier: BSD-2-Clause
"""`lamp walk`, `lamp gdt`, `lamp idt`: the tables that a CPU is using."""

from __future__ import annotations

import argparse
from typing import Optional

from debug.evidence import Registers, Segment, TableRegister
from debug.gdb.block import cpu_name
from debug.gdb.context import Lamp
from debug.gdb.debugger import DebuggerError
from debug.report.safe import safe
from debug.x86.descriptors import Gate
from debug.x86.exceptions import vector as vector_row
from debug.x86.linear import LinearMemory
from debug.x86.modes import Mode, mode_of
from debug.x86.paging import Access, Walk
from debug.x86.tables import TableEntry, gate_entry, read_gdt, read_idt, real_vector

EXCEPTIONS = 32


def _cpu_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--cpu", type=int, metavar="N", help="CPU index (default: the selected)")


def configure_walk(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "address", nargs="+", metavar="ADDR", help="linear address: any GDB expression"
    )
    parser.add_argument("--write", action="store_true", help="walk for a write")
    parser.add_argument("--fetch", action="store_true", help="walk for an instruction fetch")
    parser.add_argument("--user", action="store_true", help="walk as CPL 3")
    _cpu_option(parser)


def walk(lamp: Lamp, options: argparse.Namespace) -> str:
    """Every entry on the way, then the physical address or what hardware refuses."""
    cpu = lamp.snapshot.chosen(options.cpu)
    address = lamp.debugger.evaluate(" ".join(options.address))
    access = Access(write=options.write, fetch=options.fetch, user=options.user)
    found = lamp.snapshot.linear(cpu).walk(address, access)
    if found is None:
        raise DebuggerError(f"the control registers of CPU {cpu} are not known")
    head = f"{cpu_name(lamp.snapshot, cpu)}: {access.describe()} of {address:#x}"
    cr3 = lamp.snapshot.registers(cpu).get("cr3")
    root = f" from CR3 {cr3:#x}" if found.entries and cr3 is not None else ""
    lines = [f"{head}, {found.mode.value}{root}", *(f"  {line}" for line in found.describe())]
    rights = _rights(found)
    if rights:
        lines.append(f"  {rights}")
    if found.fault is not None and found.fault.vector is not None:
        code = found.fault.error_code
        number = f", error code {code:#x}" if code is not None else ""
        lines.append(f"  raises {vector_row(found.fault.vector)}{number}")
    return "\n".join(lines) + "\n"


def _rights(found: Walk) -> str:
    if found.writable is None:
        return ""
    return ", ".join(
        (
            "writable" if found.writable else "read-only",
            "user" if found.user else "supervisor",
            "executable" if found.executable else "not executable",
        )
    )


def configure_gdt(parser: argparse.ArgumentParser) -> None:
    _cpu_option(parser)


def gdt(lamp: Lamp, options: argparse.Namespace) -> str:
    """Each entry within the limit, with the segment registers that hold its selector."""
    cpu = lamp.snapshot.chosen(options.cpu)
    registers = lamp.snapshot.registers(cpu)
    lines = [_register_line(lamp, cpu, "GDTR", registers.gdtr)]
    holders: dict[int, list[str]] = {}
    if mode_of(registers).protected:
        for name, segment in registers.segments.items():
            if segment.selector & 0xFFFC and not segment.selector & 4:
                holders.setdefault(segment.selector >> 3, []).append(name.upper())
    entries = read_gdt(lamp.snapshot.linear(cpu), registers)
    for entry in entries:
        held = holders.pop(entry.index, [])
        mark = f"  <- {' '.join(held)}" if held else ""
        lines.append(f"  {entry.index * 8:04x} {entry.describe()}{mark}")
    for index, names in sorted(holders.items()):
        shown = " ".join(names)
        if all(_from_real_mode(registers.segments[name.lower()]) for name in names):
            lines.append(f"  {index * 8:04x} is in {shown}: a segment loaded in real mode")
        else:
            lines.append(f"  {index * 8:04x} is in {shown}, but not in this table")
    return "\n".join(lines) + "\n"


def _from_real_mode(segment: Segment) -> bool:
    return segment.base == segment.selector << 4


def _register_line(lamp: Lamp, cpu: int, name: str, table: Optional[TableRegister]) -> str:
    if table is None:
        raise DebuggerError(f"{name} of CPU {cpu} is not known")
    who = cpu_name(lamp.snapshot, cpu)
    return f"{who}: {name} base {table.base:#x} limit {table.limit:#x}"


def configure_idt(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("vector", nargs="*", type=_vector, help="vectors (default: 0 to 31)")
    parser.add_argument("--all", action="store_true", help="all vectors")
    _cpu_option(parser)


def _vector(text: str) -> int:
    value = int(text, 0)
    if not 0 <= value < 256:
        raise argparse.ArgumentTypeError(f"{text}: a vector is 0 to 255")
    return value


def idt(lamp: Lamp, options: argparse.Namespace) -> str:
    """Gates, or in real mode the vector table, with the names of the handlers."""
    cpu = lamp.snapshot.chosen(options.cpu)
    registers = lamp.snapshot.registers(cpu)
    memory = lamp.snapshot.linear(cpu)
    lines = [_register_line(lamp, cpu, "IDTR", registers.idtr)]
    if mode_of(registers) is Mode.REAL:
        lines += _real(registers, memory, options.vector or range(256 if options.all else 32))
        return "\n".join(lines) + "\n"
    if options.vector:
        asked = [gate_entry(memory, registers, number) for number in options.vector]
        entries = tuple(entry for entry in asked if entry is not None)
    else:
        entries = read_idt(memory, registers, 256 if options.all else EXCEPTIONS)
    if not entries:
        lines.append("  holds no gate: an exception can't be delivered and shuts the CPU down")
    lines += [_gate(lamp, entry) for entry in entries]
    return "\n".join(lines) + "\n"


def _gate(lamp: Lamp, entry: TableEntry) -> str:
    name = str(vector_row(entry.index)) if entry.index < EXCEPTIONS else ""
    gate, handler = entry.descriptor, ""
    if isinstance(gate, Gate):
        symbol = lamp.snapshot.symbols.lookup(gate.offset)
        handler = f"  {safe(str(symbol))}" if symbol is not None else ""
    return f"  {entry.describe()}{handler}" + (f"  {name}" if name else "")


def _real(registers: Registers, memory: LinearMemory, numbers: object) -> list[str]:
    lines = []
    assert registers.idtr is not None
    for number in numbers if isinstance(numbers, (list, range)) else ():
        found = real_vector(memory, registers.idtr, number)
        if found is None:
            lines.append(f"  {number:02x} beyond the limit, or can't be read")
            break
        lines.append(f"  {number:02x} {found.segment:04x}:{found.offset:04x} = {found.linear:#x}")
    return lines
