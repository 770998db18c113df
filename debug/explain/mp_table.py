# SPDX-License-Identifier: BSD-2-Clause
"""The MP table of the firmware (Intel's MultiProcessor Specification): how many CPUs it lists.

Kernels that read it, and not ACPI's MADT, start no others.  SeaBIOS lists one CPU of each socket.
"""

from __future__ import annotations

from typing import Optional

from debug.explain.context import Machine
from debug.explain.findings import ShortMpTable
from debug.x86.patterns import occurrences

_ROM, _ROM_SIZE = 0xF0000, 0x10000  # where a PC's firmware keeps the floating pointer
_EBDA, _EBDA_SIZE = 0x9FC00, 0x400  # or there
_HEADER, _PROCESSOR, _OTHER = 44, 20, 8  # bytes of the table's header and of its entries
_ENABLED = 1
_MOST = 1024  # entries: a damaged table has no end


def findings(machine: Machine) -> tuple[ShortMpTable, ...]:
    """Whether the table lists fewer CPUs than the machine has."""
    if not machine.has_memory or len(machine.cpus) < 2:
        return ()
    listed = _listed(machine)
    if listed is None or not 0 < listed < len(machine.cpus):
        return ()
    return (ShortMpTable(None, listed, len(machine.cpus)),)


def _listed(machine: Machine) -> Optional[int]:
    """How many enabled CPUs the table has; None if there is no whole table."""
    for start, size in ((_ROM, _ROM_SIZE), (_EBDA, _EBDA_SIZE)):
        data = machine.physical(start, size) or b""
        for at in occurrences(data, b"_MP_"):
            pointer = data[at : at + 16]
            if at % 16 == 0 and len(pointer) == 16 and sum(pointer) & 0xFF == 0:
                return _entries(machine, int.from_bytes(pointer[4:8], "little"))
    return None


def _entries(machine: Machine, table: int) -> Optional[int]:
    header = machine.physical(table, _HEADER)
    if header is None or header[:4] != b"PCMP":
        return None
    length, count = (int.from_bytes(header[at : at + 2], "little") for at in (4, 34))
    data = machine.physical(table, length) if length > _HEADER else None
    if data is None or sum(data) & 0xFF:
        return None
    at, found = _HEADER, 0
    for _ in range(min(count, _MOST)):
        if at >= len(data):
            return None
        if data[at]:
            at += _OTHER
            continue
        found += data[at + 3] & _ENABLED if at + 3 < len(data) else 0
        at += _PROCESSOR
    return found
