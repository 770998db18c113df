# SPDX-License-Identifier: BSD-2-Clause
"""Memory at IDTR's base that holds something, and no gates: another address, or overwritten."""

from __future__ import annotations

from debug.evidence import Cpu
from debug.explain.context import Machine
from debug.explain.findings.tables import IdtLost
from debug.x86.modes import Mode, mode_of

_LEGACY = 0x800  # bytes that a table of 8-byte gates has at most
_TYPES = (0x5, 0x6, 0x7, 0xC, 0xE, 0xF)  # of gates, the 16-bit ones and a task gate among them
_SELECTORS = 0x200  # no GDT of a small kernel has more
_FILLED = 4  # one of so many entries, at least, is something: an IDT that nobody filled is zeros


def findings(machine: Machine, cpu: Cpu) -> tuple[IdtLost, ...]:
    """Of a CPU that shut down outside of real mode."""
    registers, mode = cpu.registers, mode_of(cpu.registers)
    table = registers.idtr
    if table is None or not table.base or mode not in (Mode.PROTECTED32, Mode.LONG64):
        return ()
    size = 16 if mode is Mode.LONG64 else 8
    length = min(table.limit + 1, _LEGACY * size // 8)
    data = machine.linear(registers).read(table.base, length) or b""
    entries = [data[at : at + size] for at in range(0, len(data) - size + 1, size)]
    filled = [entry for entry in entries if any(entry)]
    if len(entries) < _FILLED or len(filled) * _FILLED < len(entries):
        return ()
    if any(_like_a_gate(entry) for entry in filled):
        return ()
    return (IdtLost(cpu.index, table.base, table.limit, filled[0][:8].hex(" ")),)


def _like_a_gate(entry: bytes) -> bool:
    """What somebody meant for a gate: perhaps not present, or with a selector of a loader's."""
    selector = int.from_bytes(entry[2:4], "little")
    known = entry[5] & 0x1F in _TYPES and selector < _SELECTORS
    return known or not entry[5] and selector < _SELECTORS
