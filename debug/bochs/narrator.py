# SPDX-License-Identifier: BSD-2-Clause
"""A stop in words: which CPU, in which mode, where, why, and the stages it has been through.

Pure: a Stop, the CPU's registers and the stages so far in, text out.
"""

from __future__ import annotations

from typing import Optional, Sequence

from debug.bochs.script import Breakpoint, numbered
from debug.bochs.stop_text import Place, Reason
from debug.evidence import Cpu, StageEvent, Symbols
from debug.report.safe import safe
from debug.x86.modes import Mode, describe_mode, linear_pc, mode_of

LAST_STAGES = 12


def describe(
    reason: Optional[Reason],
    cpu: Cpu,
    place: Optional[Place],
    points: Sequence[Breakpoint],
    symbols: Symbols,
    stages: Sequence[StageEvent],
) -> str:
    """The block for one CPU, lines ending with a newline.

    `points` is in the order of Bochs's breakpoint numbers, which begin at 1.
    """
    apic = f" (APIC ID {cpu.apic_id})" if cpu.apic_id is not None else ""
    lines = [f"CPU {cpu.index}{apic} in {describe_mode(cpu.registers)}"]
    lines.append("  at " + _where(cpu, symbols))
    lines += ["  " + why for why in _why(reason, linear_pc(cpu.registers), points)]
    if place is not None:
        lines.append(f"  next: {safe(place.instruction)}")
    lines.append("  stages: " + _stages(cpu, stages))
    return "\n".join(lines) + "\n"


def _where(cpu: Cpu, symbols: Symbols) -> str:
    registers = cpu.registers
    pc = linear_pc(registers)
    if pc is None:
        return "nowhere known"
    code = registers.segments.get("cs")
    shown = f"{pc:#x}"
    if code is not None and mode_of(registers) is Mode.REAL:
        shown = f"{code.selector:04x}:{registers.rip or 0:04x} = {shown}"
    symbol = symbols.lookup(pc)
    return f"{shown}, {safe(str(symbol))}" if symbol is not None else shown


def _why(reason: Optional[Reason], pc: Optional[int], points: Sequence[Breakpoint]) -> list[str]:
    if reason is None:
        return []
    why = []
    if reason.switched_to:
        why.append(f"mode switch: entered {safe(reason.switched_to)}")
    # A mode switch at a breakpoint is told first, and then both are.
    here = [point for point in points if point.address == pc]
    for point in here:
        why.append(f"reached {point.name}" + (f", {point.note}" if point.note else ""))
    if reason.breakpoint is not None and not here:
        why.append(_passed(reason.breakpoint, points))
    if reason.other:
        why.append(safe(reason.other))
    return why


def _passed(number: int, points: Sequence[Breakpoint]) -> str:
    known = numbered(points)
    if not 1 <= number <= len(known):
        return f"breakpoint {number}"
    point = known[number - 1].point
    return f"reached {point.name}: Bochs passed over its first instruction"


def _stages(cpu: Cpu, stages: Sequence[StageEvent]) -> str:
    own = [f"{event.code:02x}" for event in stages if event.apic_id == cpu.apic_id]
    if not own:
        return "none yet"
    return ("… " if len(own) > LAST_STAGES else "") + " · ".join(own[-LAST_STAGES:])
