# SPDX-License-Identifier: BSD-2-Clause
"""Segment descriptors, system descriptors and gates, from their bytes.

[SDM 3A "Segment Descriptors", "System Descriptor Types", "IDT Descriptors", "64-Bit Mode IDT",
"TSS Descriptor in 64-bit mode"]
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Union

from debug.evidence import Segment

FLAGS = 0x00F0_FF00  # of the second dword: what Segment.flags keeps


@dataclass(frozen=True)
class SegmentDescriptor:
    """A code or data segment (S=1).  `limit` is in bytes, granularity applied."""

    raw: int  # 8 bytes
    base: int
    limit: int
    flags: int  # as in debug.evidence.Segment

    @property
    def type(self) -> int:
        return self.flags >> 8 & 0xF

    @property
    def dpl(self) -> int:
        return self.flags >> 13 & 3

    @property
    def present(self) -> bool:
        return bool(self.flags & 1 << 15)

    @property
    def long(self) -> bool:
        return bool(self.flags & 1 << 21)

    @property
    def big(self) -> bool:
        return bool(self.flags & 1 << 22)

    @property
    def code(self) -> bool:
        return bool(self.type & 8)

    @property
    def conforming(self) -> bool:
        return self.code and bool(self.type & 4)

    @property
    def readable(self) -> bool:
        return not self.code or bool(self.type & 2)

    @property
    def writable(self) -> bool:
        return not self.code and bool(self.type & 2)

    @property
    def expand_down(self) -> bool:
        return not self.code and bool(self.type & 4)

    def kind(self) -> str:
        """`64-bit code`, `32-bit data, read-only` …"""
        if self.code:
            width = "64-bit" if self.long and not self.big else "32-bit" if self.big else "16-bit"
            text = f"{width} code"
            text += " with both L and D set" if self.long and self.big else ""
            text += ", conforming" if self.conforming else ""
            return text if self.readable else text + ", execute-only"
        text = "data" if self.writable else "data, read-only"
        return text + (", expand-down" if self.expand_down else "")

    def describe(self) -> str:
        """The descriptor in one line."""
        state = "present" if self.present else "not present"
        place = f"base {self.base:#x}, limit {self.limit:#x}"
        return f"{self.kind()}, {place}, DPL {self.dpl}, {state}"

    def segment(self, selector: int) -> Segment:
        """The segment register after `selector` was loaded from this descriptor."""
        return Segment(selector, self.base, self.limit, self.flags)


class SystemType(Enum):
    """What a system descriptor (S=0) is; the value is its name in a report."""

    TSS16 = "16-bit TSS"
    LDT = "LDT"
    TSS32 = "32-bit TSS"
    TSS64 = "64-bit TSS"


@dataclass(frozen=True)
class SystemDescriptor:
    """A TSS or an LDT.  `limit` is in bytes, granularity applied."""

    raw: int  # 8 bytes, 16 in long mode
    system: SystemType
    base: int
    limit: int
    flags: int
    upper_type: int = 0  # long mode: bits 12:8 of the fourth dword, which must be 0

    @property
    def type(self) -> int:
        return self.flags >> 8 & 0xF

    @property
    def busy(self) -> bool:
        return self.system is not SystemType.LDT and bool(self.type & 2)

    @property
    def dpl(self) -> int:
        return self.flags >> 13 & 3

    @property
    def present(self) -> bool:
        return bool(self.flags & 1 << 15)

    def kind(self) -> str:
        return f"busy {self.system.value}" if self.busy else self.system.value

    def describe(self) -> str:
        """The descriptor in one line."""
        state = "present" if self.present else "not present"
        place = f"base {self.base:#x}, limit {self.limit:#x}"
        return f"{self.kind()}, {place}, DPL {self.dpl}, {state}"

    def segment(self, selector: int) -> Segment:
        """LDTR or TR after `selector` was loaded from this descriptor."""
        return Segment(selector, self.base, self.limit, self.flags)


class GateType(Enum):
    """What a gate is; the value is its name in a report."""

    CALL16 = "16-bit call gate"
    TASK = "task gate"
    INTERRUPT16 = "16-bit interrupt gate"
    TRAP16 = "16-bit trap gate"
    CALL32 = "32-bit call gate"
    INTERRUPT32 = "32-bit interrupt gate"
    TRAP32 = "32-bit trap gate"
    CALL64 = "64-bit call gate"
    INTERRUPT64 = "64-bit interrupt gate"
    TRAP64 = "64-bit trap gate"

    @property
    def width(self) -> int:
        """The width of the frame that the gate pushes, in bits; 0 for a task gate."""
        return int(self.value[:2]) if self is not GateType.TASK else 0

    @property
    def delivers(self) -> bool:
        """Whether it is an interrupt or trap gate."""
        return "interrupt" in self.value or "trap" in self.value


@dataclass(frozen=True)
class Gate:
    """A call, task, interrupt or trap gate."""

    raw: int  # 8 bytes, 16 in long mode
    gate: GateType
    selector: int
    offset: int
    flags: int  # the access byte in bits 15:8
    ist: int = 0  # long mode; 0: none
    parameters: int = 0  # call gates outside long mode
    upper_type: int = 0  # long mode: bits 12:8 of the fourth dword

    @property
    def type(self) -> int:
        return self.flags >> 8 & 0xF

    @property
    def dpl(self) -> int:
        return self.flags >> 13 & 3

    @property
    def present(self) -> bool:
        return bool(self.flags & 1 << 15)

    def kind(self) -> str:
        return self.gate.value

    def describe(self) -> str:
        """The gate in one line."""
        state = "present" if self.present else "not present"
        ist = f", IST {self.ist}" if self.ist else ""
        return (
            f"{self.kind()} to {self.selector:#06x}:{self.offset:#x}{ist}, DPL {self.dpl}, {state}"
        )


@dataclass(frozen=True)
class ReservedDescriptor:
    """A system descriptor of a type that does not exist in this mode; all zeros is type 0."""

    raw: int
    flags: int

    @property
    def type(self) -> int:
        return self.flags >> 8 & 0xF

    @property
    def dpl(self) -> int:
        return self.flags >> 13 & 3

    @property
    def present(self) -> bool:
        return bool(self.flags & 1 << 15)

    def kind(self) -> str:
        return "empty descriptor" if self.raw == 0 else f"reserved type {self.type:#x}"

    def describe(self) -> str:
        """The descriptor in one line."""
        return "all zero" if self.raw == 0 else f"reserved type {self.type:#x}, raw {self.raw:#x}"


Descriptor = Union[SegmentDescriptor, SystemDescriptor, Gate, ReservedDescriptor]

_SYSTEM = {
    0x1: SystemType.TSS16,
    0x2: SystemType.LDT,
    0x3: SystemType.TSS16,
    0x9: SystemType.TSS32,
    0xB: SystemType.TSS32,
}
_SYSTEM_LONG = {0x2: SystemType.LDT, 0x9: SystemType.TSS64, 0xB: SystemType.TSS64}
_GATES = {
    0x4: GateType.CALL16,
    0x5: GateType.TASK,
    0x6: GateType.INTERRUPT16,
    0x7: GateType.TRAP16,
    0xC: GateType.CALL32,
    0xE: GateType.INTERRUPT32,
    0xF: GateType.TRAP32,
}
_GATES_LONG = {0xC: GateType.CALL64, 0xE: GateType.INTERRUPT64, 0xF: GateType.TRAP64}


def is_system(low: int) -> bool:
    """Whether the first 8 bytes of a descriptor, as an integer, have S=0."""
    return not low >> 44 & 1


def descriptor_size(low: int, long_mode: bool) -> int:
    """How many bytes of the GDT a descriptor takes: 16 for a TSS, LDT or gate in long mode."""
    kind = low >> 40 & 0xF
    return 16 if long_mode and is_system(low) and (kind in _SYSTEM_LONG or kind == 0xC) else 8


def decode_descriptor(data: bytes, long_mode: bool = False) -> Descriptor:
    """The descriptor in `data`: 8 bytes, or 16 for a system descriptor or gate in long mode.

    Fewer bytes than that are filled up with zeros, more are ignored.
    """
    low = int.from_bytes(data[:8], "little")
    high = int.from_bytes(data[8:16], "little") if long_mode else 0
    flags = low >> 32 & FLAGS
    if not is_system(low):
        return SegmentDescriptor(low, low_base(low), _limit(low), flags)
    kind = low >> 40 & 0xF
    raw = low | high << 64 if long_mode else low
    system = (_SYSTEM_LONG if long_mode else _SYSTEM).get(kind)
    if system is not None:
        base = low_base(low) | (high & 0xFFFF_FFFF) << 32
        return SystemDescriptor(raw, system, base, _limit(low), flags, high >> 40 & 0x1F)
    gate = (_GATES_LONG if long_mode else _GATES).get(kind)
    if gate is None:
        return ReservedDescriptor(raw, flags)
    return _gate(raw, gate, flags & 0xFF00, long_mode)


def _gate(raw: int, gate: GateType, access: int, long_mode: bool) -> Gate:
    offset = raw & 0xFFFF
    if gate.width >= 32:
        offset |= raw >> 32 & 0xFFFF_0000
    if long_mode:
        offset |= raw >> 32 & 0xFFFF_FFFF_0000_0000
    call = gate in (GateType.CALL16, GateType.CALL32)
    return Gate(
        raw,
        gate,
        raw >> 16 & 0xFFFF,
        offset,
        access,
        ist=raw >> 32 & 7 if long_mode and gate.delivers else 0,
        parameters=raw >> 32 & 0x1F if call else 0,
        upper_type=raw >> 104 & 0x1F,
    )


def low_base(low: int) -> int:
    """Bits 31:0 of the base in a segment's or a TSS's descriptor, of which these are the first 8 bytes."""
    return low >> 16 & 0xFF_FFFF | low >> 32 & 0xFF00_0000


def _limit(low: int) -> int:
    limit = low & 0xFFFF | low >> 32 & 0xF_0000
    return limit << 12 | 0xFFF if low >> 55 & 1 else limit
