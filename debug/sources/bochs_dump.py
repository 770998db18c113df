# SPDX-License-Identifier: BSD-2-Clause
"""Reader of the register dump that Bochs writes to its log for each CPU when it dies.

Pure.  The dump has no access bytes, GDTR, IDTR, LDTR or TR: see DUMP_LIMITS.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Optional

from debug.evidence import Registers, Segment

DUMP_LIMITS = (
    "a Bochs log shows no GDTR, IDTR, TR and LDTR",
    "a Bochs log shows no access bytes of segments: present code and data are assumed",
)

_CODE, _DATA = 0x9B, 0x93  # present, accessed, readable code and writable data
_HEAD = re.compile(r"^CPU is in ([a-z0-9 -]{1,40}) \(([a-z -]{1,40})\)")
_MODE = re.compile(r"^CS\.mode = (16|32|64) bit")
_EFER = re.compile(r"^EFER\s*= 0x([0-9a-f]{1,16})")
_GENERAL = re.compile(r"\b([ER][A-Z]{2}|R[0-9]{1,2})=([0-9a-f]{8,16})\b")
_SEGMENT = re.compile(
    r"^\|\s*(CS|DS|SS|ES|FS|GS):([0-9a-f]{4})\([^)]{1,40}\)"
    r"\s+([0-9a-f]{8,16})\s+([0-9a-f]{8})\s+([01])\s+([01])"
)
_BASE = re.compile(r"^\|\s*MSR_(FS|GS)_BASE:([0-9a-f]{8,16})")
_CONTROL = re.compile(r"\b(CR[0-4])=0x([0-9a-f]{1,16})\b")
_FLAGS = re.compile(
    r"^\|\s*IOPL=([0-3])((?: (?:id|vip|vif|ac|vm|rf|nt|of|df|if|tf|sf|zf|af|pf|cf)){5,20})\s*$",
    re.IGNORECASE,
)
_EFLAGS = re.compile(r"^\|\s*[ER]?FLAGS=(?:0x)?([0-9a-f]{8,16})\b")  # Bochs 3
_STARTS = re.compile(r"^(?:CPU is in |CS\.mode = |EFER\s*= 0x|\| [ER]AX=)")
_FLAG_BITS = {
    "cf": 0, "pf": 2, "af": 4, "zf": 6, "sf": 7, "tf": 8, "if": 9, "df": 10, "of": 11,
    "nt": 14, "rf": 16, "vm": 17, "ac": 18, "vif": 19, "vip": 20, "id": 21,
}  # fmt: skip


def flags_of(words: str, iopl: int = 0) -> int:
    """RFLAGS from Bochs's list of names, in which a set flag stands in capitals."""
    value = 2 | iopl << 12
    for word in words.split():
        bit = _FLAG_BITS.get(word.lower())
        if bit is not None and word.isupper():
            value |= 1 << bit
    return value


def starts_dump(text: str) -> bool:
    """Whether a dump begins with this line: people often leave out the first ones."""
    return _STARTS.match(text) is not None


@dataclass(frozen=True)
class Dump:
    """One CPU's dump.  `state` in Bochs's words: active, halted, in shutdown, wait for SIPI …"""

    cpu: int
    tick: int
    mode: str
    state: str
    registers: Registers

    @property
    def after_reset(self) -> bool:
        """The CPU stands where a reset or INIT puts it."""
        code = self.registers.segments.get("cs")
        return self.registers.rip == 0xFFF0 and code is not None and code.selector == 0xF000


@dataclass
class DumpBuilder:
    """Takes the lines of one CPU's dump, the log's prefix removed, in order."""

    cpu: int
    tick: int
    mode: str = ""
    state: str = ""
    _bits: int = 0
    _rip: Optional[int] = None
    _rflags: Optional[int] = None
    _general: dict[str, int] = field(default_factory=dict)
    _control: dict[str, int] = field(default_factory=dict)
    _segments: dict[str, tuple[int, int, int, int, int]] = field(default_factory=dict)

    def add(self, text: str) -> bool:
        """Take one line; False if it is no part of a dump."""
        if found := _HEAD.match(text):
            self.mode, self.state = found[1], found[2]
        elif found := _MODE.match(text):
            self._bits = int(found[1])
        elif text.startswith("SS.mode"):
            pass
        elif found := _EFER.match(text):
            self._control["efer"] = int(found[1], 16)
        elif not text.startswith("|"):
            return False
        elif found := _SEGMENT.match(text):
            self._segments[found[1].lower()] = (
                *(int(part, 16) for part in found.group(2, 3, 4)),
                int(found[5]),
                int(found[6]),
            )  # type: ignore[assignment]
        elif found := _BASE.match(text):
            self._control[found[1].lower() + "_base"] = int(found[2], 16)
        elif found := _FLAGS.match(text):
            self._rflags = flags_of(found[2], int(found[1]))
        elif found := _EFLAGS.match(text):
            self._rflags = int(found[1], 16)
        else:
            for name, value in _CONTROL.findall(text):
                self._control[name.lower()] = int(value, 16)
            for name, value in _GENERAL.findall(text):
                self._take(name, int(value, 16))
        return True

    def _take(self, name: str, value: int) -> None:
        if name in ("EIP", "RIP"):
            self._rip = value
        elif name[0] == "E":
            self._general["r" + name[1:].lower()] = value
        else:
            self._general[name.lower()] = value

    @property
    def complete(self) -> bool:
        """The last line of a dump has been seen."""
        return "cr4" in self._control

    def dump(self) -> Dump:
        control = dict(self._control)
        segments = {name: self._segment(name, *raw) for name, raw in self._segments.items()}
        if "cr0" in control and "efer" in control:
            for name in ("fs", "gs"):
                if name in segments:
                    control.setdefault(name + "_base", segments[name].base)
        code = segments.get("cs")
        cpl = None
        if code is not None and "cr0" in control:
            cpl = code.selector & 3 if control["cr0"] & 1 else 0
        return Dump(
            cpu=self.cpu,
            tick=self.tick,
            mode=self.mode,
            state=self.state,
            registers=Registers(
                rip=self._rip,
                rflags=self._rflags,
                general=self._general,
                control=control,
                segments=segments,
                cpl=cpl,
            ),
        )

    def _segment(
        self, name: str, selector: int, base: int, limit: int, granular: int, big: int
    ) -> Segment:
        access = _CODE if name == "cs" else _DATA
        protected = self._control.get("cr0", 0) & 1
        if protected and name != "cs" and selector & ~3 == 0 and not base and not limit:
            access = 0  # a null selector: the register is unusable
        elif protected and access:
            access |= (selector & 3) << 5
        long = name == "cs" and self._bits == 64
        return Segment(
            selector, base, limit, access << 8 | granular << 23 | big << 22 | int(long) << 21
        )
