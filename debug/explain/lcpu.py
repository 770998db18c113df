# SPDX-License-Identifier: BSD-2-Clause
"""The lcpu blocks of a kernel that has them: what the BSP handed to each AP (src/smp/lcpu.h).

Found through the symbol `lcpus`; a block counts only if its APIC ID is the CPU's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

from debug.evidence import Cpu
from debug.explain import kernel
from debug.explain.context import Machine

SIZE = kernel.LCPU_SIZE
_MAX_BLOCKS = 256


@dataclass(frozen=True)
class LcpuBlock:
    """One block."""

    index: int
    apic_id: int
    state: int
    entry: int  # linear address
    stack: int  # linear address just above the stack


def block_of(machine: Machine, cpu: Cpu) -> Optional[LcpuBlock]:
    """The block with this CPU's APIC ID; None if there is none, or nothing to find it by."""
    table = machine.evidence.symbols.address("lcpus")
    if table is None:
        return None
    apic_id = machine.apic_id(cpu)
    for reader in (machine.bsp, cpu):
        if reader is None:
            continue
        data = machine.linear(reader.registers).read(table, SIZE * _MAX_BLOCKS)
        if data is None:
            data = machine.linear(reader.registers).read(table, SIZE * 8)
        found = _search(data or b"", apic_id)
        if found is not None:
            return found
    return None


def _search(data: bytes, apic_id: int) -> Optional[LcpuBlock]:
    for index in range(len(data) // SIZE):
        block = data[index * SIZE : (index + 1) * SIZE]
        number = int.from_bytes(block[kernel.LCPU_APIC_ID :][:4], "little")
        known = (
            int.from_bytes(block[kernel.LCPU_INDEX :][:4], "little") == index
        )  # an unused block is all zeros
        if number == apic_id and known and (any(block[:32]) or index == 0):
            return LcpuBlock(
                index,
                number,
                int.from_bytes(block[kernel.LCPU_STATE :][:4], "little"),
                int.from_bytes(block[kernel.LCPU_ENTRY :][:8], "little"),
                int.from_bytes(block[kernel.LCPU_STACK :][:8], "little"),
            )
    return None
