# SPDX-License-Identifier: BSD-2-Clause
"""What EDK II's exception handler prints before it stops a CPU: text in, registers out.

UEFI defines the registers; their layout in text is EDK II's own, and the same on the serial port,
on the debug port and on the screen.  Text may have been pasted: lines quoted, wrapped or cut.
[UEFI, "EFI_DEBUG_SUPPORT_PROTOCOL": EFI_SYSTEM_CONTEXT_IA32 and EFI_SYSTEM_CONTEXT_X64]
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import islice
from typing import Mapping, Optional

from debug.evidence import GENERAL, EventKind, ExceptionEvent, Registers, Segment, TableRegister
from debug.x86.exceptions import PF, PageFaultCode
from debug.x86.exceptions import vector as vector_row
from debug.x86.registers import Cr4, Efer

MARK = b" Exception Type - "
"""What each dump has, and little else."""

HEAD = re.compile(  # a line of a mail may be wrapped, and quoted then
    r"!!!![\s>|]+(X64|IA32)[\s>|]+Exception[\s>|]+Type[\s>|]+-[\s>|]+([0-9A-Fa-f]{2,16})"
    r"\s*(?:\([^)]{1,40}\))?[\s>|]+CPU[\s>|]+Apic[\s>|]+ID[\s>|]+-[\s>|]+([0-9A-Fa-f]{8})[\s>|]+!!!!"
)
_LENGTH = 4096  # characters of a dump, with whatever an editor put in front of its lines
_DUMPS = 64  # of a text
_QUOTED = re.compile(r"\n[ \t>|]+")
_VALUE = r"([0-9A-Fa-f]{16}|[0-9A-Fa-f]{8})\b"
_FIELD = re.compile(rf"\b([A-Z][A-Z0-9]{{1,5}}|ExceptionData)\s*-\s*{_VALUE}")
_TABLE = re.compile(rf"\b([GI]DTR)\s*-\s*{_VALUE}\s+{_VALUE}")
_CUT = re.compile(r"( - [0-9A-Fa-f]{1,15})\n([0-9A-Fa-f]{1,15})\b")
_BITS = re.compile(r"\bI:([01]) R:([01]) U:([01]) W:([01]) P:([01])")
_IMAGE = re.compile(
    r"Find\s+image\s+based\s+on\s+IP\(0x([0-9A-Fa-f]{1,16})\)\s+(.{0,400}?)\s*"
    r"\(ImageBase=(?:3D)?([0-9A-Fa-f]{8,16}),",
    re.S,
)
_FILE = re.compile(r"([\w.+-]{1,60})$")
_CONTROL = ("cr0", "cr2", "cr3", "cr4", "cr8", "dr6", "dr7")
_FLAT64, _FLAT32, _FLAT_DATA = 0xAF9B00, 0xCF9B00, 0xCF9300  # flags of segments: L, D, data


@dataclass(frozen=True)
class Image:
    """What EDK II says of the image in which it found the address `ip`.

    Of a fetch that failed `ip` is what lies on top of the stack: whence it was called.
    """

    ip: int
    base: int
    file: str = ""  # the name of the file with its debug information


@dataclass(frozen=True)
class UefiDump:
    """One dump.  `fields`: the registers by their lower-case 64-bit names, as far as printed."""

    wide: bool  # 64-bit code took the exception
    vector: int
    apic_id: int
    fields: Mapping[str, int]
    tables: Mapping[str, TableRegister]
    image: Optional[Image]
    contradicts: bool = False  # the error code and its bits in words differ
    end: int = 0  # where in the text it ends

    @property
    def error_code(self) -> Optional[int]:
        """The error code; None where the exception has none, whatever is printed."""
        row = vector_row(self.vector)
        return self.fields.get("exceptiondata") if row.error_code else None

    @property
    def cr2(self) -> Optional[int]:
        """The address of a page fault."""
        return self.fields.get("cr2") if self.vector == PF else None

    def event(self, registers: Registers, cpu: int) -> ExceptionEvent:
        """The exception, raised with these registers; firmware took it, and nothing came behind."""
        return ExceptionEvent(
            EventKind.EXCEPTION,
            self.vector,
            registers,
            self.error_code,
            self.cr2,
            cpu,
            while_delivering=-1,
        )

    @property
    def general(self) -> dict[str, int]:
        return {name: self.fields[name] for name in GENERAL if name in self.fields}

    @property
    def control(self) -> dict[str, int]:
        return {name: self.fields[name] for name in _CONTROL if name in self.fields}

    @property
    def registers(self) -> Registers:
        """The registers of then.  UEFI's code segments are flat and as wide as its handler."""
        code, segments = self.fields.get("cs"), {}
        if code is not None:
            flags = (_FLAT64 if self.wide else _FLAT32) | (code & 3) << 13
            segments["cs"] = Segment(code & 0xFFFF, 0, 0xFFFF_FFFF, flags)
        stack = self.fields.get("ss")
        if stack is not None and not self.wide:
            segments["ss"] = Segment(stack & 0xFFFF, 0, 0xFFFF_FFFF, _FLAT_DATA | (stack & 3) << 13)
        return Registers(
            rip=self.fields.get("rip"),
            rflags=self.fields.get("rflags"),
            general=self.general,
            control={**self.control, "efer": self._efer()},
            segments=segments,
            gdtr=self.tables.get("gdtr"),
            idtr=self.tables.get("idtr"),
            cpl=code & 3 if code is not None else None,
        )

    def _efer(self) -> int:
        """What is proven of EFER: LMA by the handler, NXE by a fetch that only NX can refuse."""
        efer = int(Efer.LME | Efer.LMA) if self.wide else 0
        refused = int(PageFaultCode.P | PageFaultCode.I)
        smep = (self.fields.get("cr4") or 0) & Cr4.SMEP
        if self.vector == PF and (self.error_code or 0) & refused == refused and not smep:
            efer |= int(Efer.NXE)
        return efer


def dumps(text: str) -> tuple[UefiDump, ...]:
    """The dumps in a text, in its order."""
    heads = list(islice(HEAD.finditer(text), _DUMPS))
    ends = [head.start() for head in heads[1:]] + [len(text)]
    return tuple(_dump(text, head, end) for head, end in zip(heads, ends))


def _dump(text: str, head: re.Match[str], end: int) -> UefiDump:
    end = min(end, head.end() + _LENGTH)
    body = _CUT.sub(_whole, _QUOTED.sub("\n", text[head.end() : end]))
    wide, vector = head[1] == "X64", int(head[2], 16) & 0xFF
    fields: dict[str, int] = {}
    for name, value in _FIELD.findall(body):
        fields.setdefault(_wide(name), int(value, 16))
    tables = {
        name.lower(): TableRegister(int(base, 16), int(limit, 16) & 0xFFFF)
        for name, base, limit in _TABLE.findall(body)
    }
    return UefiDump(
        wide,
        vector,
        int(head[3], 16),
        fields,
        tables,
        _image(body),
        vector == PF and _contradicts(body, fields.get("exceptiondata")),
        end,
    )


def _wide(name: str) -> str:
    """The lower-case name of a register, of 32-bit ones that of 64 bits."""
    name = name.lower()
    return f"r{name[1:]}" if name[0] == "e" and len(name) > 2 and name[:2] != "ex" else name


def _whole(cut: re.Match[str]) -> str:
    """A value that was wrapped, whole again."""
    width = len(cut[1]) - len(" - ") + len(cut[2])
    return cut[1] + cut[2] if width in (8, 16) else cut[0]


def _contradicts(body: str, code: Optional[int]) -> bool:
    bits = _BITS.search(body)
    if bits is None or code is None:
        return False
    return int("".join(bits.groups()), 2) != code & 0x1F


def _image(body: str) -> Optional[Image]:
    found = _IMAGE.search(body)
    if found is None:
        return None
    name = _FILE.search(found[2]) if "No PDB" not in found[2] else None
    return Image(int(found[1], 16), int(found[3], 16), name[1] if name is not None else "")
