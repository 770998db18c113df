# SPDX-License-Identifier: BSD-2-Clause
"""`lamp mode`, `lamp cpus`, `lamp stages`: where the CPUs are and how they got there."""

from __future__ import annotations

import argparse
from typing import Optional

from debug.evidence import Registers
from debug.gdb.block import codes, cpu_name, instructions, place, stage_lines, wrapped
from debug.gdb.context import Lamp
from debug.report.safe import safe
from debug.sources.qemu_evidence import in_reset
from debug.x86.modes import describe_mode, mode_of, paging_mode_of
from debug.x86.registers import Rflags, describe_register


def configure_one(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("cpu", nargs="?", type=int, help="CPU index (default: the selected one)")


def mode(lamp: Lamp, options: argparse.Namespace) -> str:
    """The mode, the registers that prove it, and the code that stands there in that mode."""
    snapshot = lamp.snapshot
    cpu = snapshot.chosen(options.cpu)
    registers = snapshot.registers(cpu)
    lines = [f"{cpu_name(snapshot, cpu)}: {describe_mode(registers)}"]
    for name in ("cr0", "cr3", "cr4", "efer", "rflags"):
        value = registers.get(name)
        if value is not None:
            lines.append(f"  {name.upper():<6} {describe_register(name, value)}")
    code = registers.segments.get("cs")
    if code is not None:
        lines.append(
            f"  CS     {code.selector:04x} base {code.base:#x} limit {code.limit:#x}"
            f" L={int(code.long)} D={int(code.big)} DPL={code.dpl}"
        )
    paging = paging_mode_of(registers)
    lines.append(f"  paging {paging.value if paging is not None else 'not known'}")
    lines.append(f"  at {place(registers)}")
    return "\n".join([*lines, *instructions(snapshot, cpu)]) + "\n"


def configure_cpus(parser: argparse.ArgumentParser) -> None:
    del parser  # no arguments


def cpus(lamp: Lamp, options: argparse.Namespace) -> str:
    """One line for each CPU; a star at the selected one."""
    snapshot = lamp.snapshot
    rows = [("", "CPU", "APIC", "mode", "doing", "last stage", "at")]
    selected = lamp.debugger.selected()
    for cpu in snapshot.cpus():
        registers, halted = snapshot.registers(cpu), snapshot.halted(cpu)
        apic_id = snapshot.apic_id(cpu)
        events = snapshot.stages(cpu)
        last = f"{events[-1].code:02x} {lamp.places.table.name(events[-1].code)}" if events else "-"
        pc = snapshot.pc(cpu)
        symbol = snapshot.symbols.lookup(pc) if pc is not None else None
        rows.append(
            (
                "*" if cpu == selected else "",
                str(cpu),
                "?" if apic_id is None else str(apic_id),
                mode_of(registers).value,
                "shut down" if cpu == lamp.culprit else _doing(registers, halted),
                last,
                safe(str(symbol)) if symbol is not None else place(registers),
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(word.ljust(width) for word, width in zip(row, widths)) for row in rows]
    return "\n".join(line.rstrip() for line in lines) + "\n"


def _doing(registers: Registers, halted: Optional[bool]) -> str:
    if halted:
        if in_reset(registers):
            return "waits for SIPI"
        flags = registers.rflags
        return "halted" if flags is None or flags & Rflags.IF else "halted, IF=0"
    return "runs" if halted is not None else "?"


def configure_stages(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("cpu", nargs="?", type=int, help="CPU index: its stages in words")


def stages(lamp: Lamp, options: argparse.Namespace) -> str:
    """The stages of every CPU in codes, or of one in words with the time between them."""
    snapshot, table = lamp.snapshot, lamp.places.table
    lines = []
    if options.cpu is None:
        for cpu in snapshot.cpus():
            shown = codes(snapshot.stages(cpu)) or "none"
            lines.append(cpu_name(snapshot, cpu))
            lines += wrapped(shown)
        ids = set(snapshot.apic_ids().values())
        for record in snapshot.trace().cpus:
            if record.apic_id not in ids:
                lines.append(f"APIC ID {record.apic_id}, which is no CPU's")
                lines += wrapped(codes(record.events))
    else:
        cpu = snapshot.chosen(options.cpu)
        events = snapshot.stages(cpu)
        lines.append(cpu_name(snapshot, cpu))
        before: Optional[int] = None
        for event in events:
            stage = table.get(event.code)
            later = event.tsc - before if event.tsc is not None and before is not None else 0
            before = event.tsc
            value = f"={event.argument:x}" if event.argument is not None else ""
            name = (stage.name if stage is not None else "?") + value
            words = safe(stage.became) if stage is not None else "not in the table"
            lines.append(f"  {event.code:02x} {name:<24} +{later:<12} {words}")
        lines += stage_lines(events, table)[-1:]
    lines += [f"note: {safe(problem)}" for problem in snapshot.trace().problems]
    return "\n".join(lines) + "\n"
