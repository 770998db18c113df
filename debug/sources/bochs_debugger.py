# SPDX-License-Identifier: BSD-2-Clause
"""A pasted session with Bochs's debugger: `r`, `sreg`, `creg`, and where each CPU stands.

Pure: text in, CPUs out, never an exception.  Each command shows the CPU that `set $cpu` chose, at
first CPU 0.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Optional

from debug.evidence import Cpu, Registers, Segment, TableRegister
from debug.sources.bochs_dump import flags_of
from debug.x86.descriptors import FLAGS

MAX_CPUS = 256
_TSS_LIMIT, _TSS_FLAGS = 0x67, 0x8B00  # what `info tss` does not show: a busy TSS, present

_CHOOSE = re.compile(r"set \$cpu\s*=\s*([0-9]{1,3})")
_PLACE = re.compile(
    r"\(([0-9]{1,3})\)\.?\s?(?:\[[0-9]+\]\s?)?\[0x[0-9a-f]{6,16}\]\s([0-9a-f]{4}):([0-9a-f]{4,16})\s"
)
_SEGMENT = re.compile(
    r"\b(cs|ds|es|fs|gs|ss|ldtr|tr):\s?(?:s=)?0x([0-9a-f]{4}), dh=0x([0-9a-f]{8}), dl=0x([0-9a-f]{8})"
)
_TASK = re.compile(r"\btr:s=0x([0-9a-f]{1,4}), base=0x([0-9a-f]{8,16}), valid=1")
_TABLE = re.compile(r"\b([gi])dtr:\s?base=0x([0-9a-f]{8,16}), limit=0x([0-9a-f]{1,4})")
_INFO = re.compile(
    r"(Global|Interrupt) Descriptor Table \((?:base=)?0x([0-9a-f]{8,16}), limit=([0-9]{1,5})\)"
)
_GENERAL = re.compile(
    r"\b(r(?:[a-d]x|[sd]i|[bs]p|ip|[89]|1[0-5])|e(?:[a-d]x|[sd]i|[bs]p|ip)):\s?(\S+)"
)
_VALUE = re.compile(r"(?:0x)?([0-9a-f]{8})(?:_([0-9a-f]{8}))?")
_CONTROL = re.compile(r"\b(CR[0-48]|EFER)[=:]\s?0x([0-9a-f]{1,16})")
_PAGE_FAULT = re.compile(r"\bCR2=(?:page fault )?l?addr=0x([0-9a-f]{1,16})")
_FLAGS = re.compile(
    r"^\s*(?:IOPL=[0-3] )?((?:(?:id|vip|vif|ac|vm|rf|nt|IOPL=[0-3]|of|df|if|tf|sf|zf|af|pf|cf)\s*){10,20})$",
    re.I | re.M,
)
_RFLAGS = re.compile(r"\b[er]flags:?\s?0x([0-9a-f]{8,16})", re.I)


@dataclass
class _State:
    rip: Optional[int] = None
    rflags: Optional[int] = None
    general: dict[str, int] = field(default_factory=dict)
    control: dict[str, int] = field(default_factory=dict)
    segments: dict[str, Segment] = field(default_factory=dict)
    tables: dict[str, TableRegister] = field(default_factory=dict)

    def registers(self) -> Registers:
        control, code = dict(self.control), self.segments.get("cs")
        for name in ("fs", "gs"):
            if name in self.segments:
                control.setdefault(name + "_base", self.segments[name].base)
        return Registers(
            rip=self.rip,
            rflags=self.rflags,
            general=self.general,
            control=control,
            segments=self.segments,
            gdtr=self.tables.get("g"),
            idtr=self.tables.get("i"),
            cpl=code.selector & 3 if code is not None and control.get("cr0", 0) & 1 else None,
        )


def unpack(selector: int, high: int, low: int) -> Segment:
    """A segment register from the two dwords of its descriptor, as `sreg` shows them."""
    base = low >> 16 | (high & 0xFF) << 16 | high & 0xFF000000
    limit = low & 0xFFFF | high & 0xF0000
    if high & 1 << 23:
        limit = limit << 12 | 0xFFF
    return Segment(selector, base, limit, high & FLAGS)


def parse_session(text: str) -> tuple[Cpu, ...]:
    """The CPUs in a session; the last value that was shown of each register."""
    states: dict[int, _State] = {}
    chosen = 0
    in_tss = False  # what follows is what the TSS holds, not the CPU
    for line in text.split("\n"):
        line = line[:1024]
        in_tss = in_tss and "<bochs" not in line and "i/o map" not in line
        if found := _CHOOSE.search(line):
            chosen = min(int(found[1]), MAX_CPUS - 1)
        for place in _PLACE.finditer(line):
            index = int(place[1])
            if index < MAX_CPUS:
                states.setdefault(index, _State()).rip = int(place[3], 16)
        if not in_tss:
            _take(states, chosen, line)
        in_tss = in_tss or _TASK.search(line) is not None
    return tuple(
        Cpu(index, registers)
        for index, state in sorted(states.items())
        if (registers := state.registers()) != Registers()
    )


def _take(states: dict[int, _State], chosen: int, line: str) -> None:
    state = states.get(chosen) or _State()
    before = (state.rip, state.rflags, len(state.general), len(state.control), len(state.segments))
    for name, selector, high, low in _SEGMENT.findall(line):
        short = "ldt" if name == "ldtr" else name
        state.segments[short] = unpack(int(selector, 16), int(high, 16), int(low, 16))
    if found := _TASK.search(line):
        state.segments["tr"] = Segment(int(found[1], 16), int(found[2], 16), _TSS_LIMIT, _TSS_FLAGS)
    for table, base, limit in _TABLE.findall(line):
        state.tables[table] = TableRegister(int(base, 16), int(limit, 16))
    for table, base, limit in _INFO.findall(line):
        state.tables.setdefault(table[0].lower(), TableRegister(int(base, 16), int(limit)))
    for name, value in _CONTROL.findall(line):
        state.control[name.lower()] = int(value, 16)
    if found := _PAGE_FAULT.search(line):
        state.control["cr2"] = int(found[1], 16)
    for name, shown in _GENERAL.findall(line):
        if (value := _VALUE.match(shown)) is not None:
            number = int(value[1] + (value[2] or ""), 16)
            if name[1:] == "ip":
                state.rip = number
            else:
                state.general["r" + name[1:]] = number
    if found := _RFLAGS.search(line):
        state.rflags = int(found[1], 16)
    elif found := _FLAGS.match(line):
        state.rflags = flags_of(found[1])
    after = (state.rip, state.rflags, len(state.general), len(state.control), len(state.segments))
    if after != before or state.tables:
        states[chosen] = state
