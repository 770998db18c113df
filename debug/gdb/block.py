# SPDX-License-Identifier: BSD-2-Clause
"""The block that is shown at each stop: CPU, mode, next instructions, stages so far.

Pure but for what the snapshot fetches.
"""

from __future__ import annotations

import textwrap
from typing import Iterable, Optional

from debug.evidence import Registers, StageEvent, Symbols
from debug.gdb.places import Places
from debug.gdb.snapshot import Snapshot
from debug.report.safe import safe
from debug.stages.model import StageTable
from debug.x86.decode import MAX_LENGTH, decode_many
from debug.x86.modes import Mode, code_width, describe_mode, mode_of, segment_base
from debug.x86.patterns import describe_bytes

INSTRUCTIONS = 4
SHOWN_STAGES = 40
WIDTH = 96
_PAGE = 4096


def cpu_name(snapshot: Snapshot, cpu: int) -> str:
    """`CPU 1 (APIC ID 1)`."""
    apic_id = snapshot.apic_id(cpu)
    return f"CPU {cpu}" + (f" (APIC ID {apic_id})" if apic_id is not None else "")


def place(registers: Registers) -> str:
    """Where the CPU stands: `0800:0021 = 0x8021`, or the address alone where CS has no base."""
    code, base = registers.segments.get("cs"), segment_base(registers, "cs")
    if registers.rip is None:
        return "nowhere known"
    if code is None or base is None:
        return f"{registers.rip:#x}"
    if base == 0 and mode_of(registers) is not Mode.REAL:
        return f"{registers.rip:#x}"
    return f"{code.selector:04x}:{registers.rip:04x} = {base + registers.rip & 0xFFFFFFFF:#x}"


def stop_block(snapshot: Snapshot, places: Places, cpu: int) -> str:
    """The whole block, ending with a newline."""
    registers = snapshot.registers(cpu)
    pc = snapshot.pc(cpu)
    lines = [f"{cpu_name(snapshot, cpu)} in {describe_mode(registers)}"]
    where = [place(registers)]
    symbol = snapshot.symbols.lookup(pc) if pc is not None else None
    if symbol is not None:
        where.append(safe(str(symbol)))
    stage = places.at(pc)
    if stage is not None:
        where.append(f"about to light {stage.code:02x} {stage.name}")
    lines.append("  at " + ", ".join(where))
    lines += instructions(snapshot, cpu)
    lines += stage_lines(snapshot.stages(cpu), places.table)
    return "\n".join(lines) + "\n"


def code_at(snapshot: Snapshot, cpu: int, length: int) -> bytes:
    """Up to `length` bytes at the CPU's instruction pointer, fewer where the mapping ends."""
    pc = snapshot.pc(cpu)
    if pc is None:
        return b""
    memory = snapshot.linear(cpu)
    data = memory.read(pc, length)
    within = _PAGE - pc % _PAGE
    if data is None and within < length:
        data = memory.read(pc, within)
    return data or b""


def instructions(snapshot: Snapshot, cpu: int, count: int = INSTRUCTIONS) -> list[str]:
    """The next instructions, decoded for the CPU's mode, each with its source line."""
    registers = snapshot.registers(cpu)
    width, rip, pc = code_width(registers), registers.rip, snapshot.pc(cpu)
    if width is None or rip is None or pc is None:
        return ["  => the registers that select the code are not known"]
    data = code_at(snapshot, cpu, count * MAX_LENGTH)
    if not data:
        return [f"  => the code at {pc:#x} can't be read"]
    found = decode_many(data, rip, width, count)
    if not found:
        what = describe_bytes(data[:16]) or "no instruction"
        return [f"  => {pc:#x}  {data[:8].hex(' ')}  ({what})"]
    lines = []
    for number, one in enumerate(found):
        address = pc + (one.address - rip)
        mark = "=>" if number == 0 else "  "
        source = _line(snapshot.symbols, address)
        text = f"  {mark} {address:#x}  {one.data.hex(' '):<23} {one.text:<32} {source}"
        lines.append(text.rstrip())
    return lines


def _line(symbols: Symbols, address: int) -> str:
    symbol = symbols.lookup(address)
    if symbol is None or not symbol.file:
        return ""
    return safe(f"{symbol.file}:{symbol.line}")


def codes(events: Iterable[StageEvent]) -> str:
    """`10 11 12=3 | 30 31`: the codes in order, a bar where the high digit changes."""
    words: list[str] = []
    group: Optional[int] = None
    for event in events:
        if group is not None and event.code >> 4 != group:
            words.append("|")
        group = event.code >> 4
        argument = f"={event.argument:x}" if event.argument is not None else ""
        words.append(f"{event.code:02x}{argument}")
    return " ".join(words)


def wrapped(text: str, label: str = "  ") -> list[str]:
    """`text` behind `label` in lines of no more than WIDTH columns."""
    return textwrap.wrap(text, WIDTH, initial_indent=label, subsequent_indent=" " * len(label)) or [
        label.rstrip()
    ]


def stage_lines(events: tuple[StageEvent, ...], table: StageTable) -> list[str]:
    """The stages so far and the last one in words."""
    if not events:
        return ["  stages  none yet"]
    earlier = len(events) - SHOWN_STAGES
    head = f"({earlier} before) " if earlier > 0 else ""
    lines = wrapped(head + codes(events[-SHOWN_STAGES:]), "  stages  ")
    stage = table.get(events[-1].code)
    if stage is not None:
        lines.append(f"          last: {stage.name}: {safe(stage.became)}")
        lines.append(f"          next: {safe(stage.needs)}")
    return lines
