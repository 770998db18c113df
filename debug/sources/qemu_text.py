# SPDX-License-Identifier: BSD-2-Clause
"""Readers of QEMU's register text: `info registers [-a]`, the dumps in `-d` logs, `info lapic`.

Pure: text in, dataclasses out, never an exception.  Fields are found by name wherever they stand,
so that text which was wrapped or lost lines on its way still gives what is left of it.
"""

from __future__ import annotations

import re
from typing import Optional

from debug.evidence import LocalApic, Pic, Registers, Segment, TableRegister
from debug.x86.descriptors import FLAGS

_FIELD = re.compile(
    r"(?<![A-Z0-9])(?:"
    r"(?P<segment>ES|CS|SS|DS|FS|GS|LDT|TR)\s*=\s*(?P<selector>[0-9a-f]{4})\s+"
    r"(?P<base>[0-9a-f]{16}|[0-9a-f]{8})\s+(?P<limit>[0-9a-f]{8})\s+(?P<flags>[0-9a-f]{8})\b"
    r"|(?P<table>GDT|IDT)\s*=\s+(?P<tbase>[0-9a-f]{16}|[0-9a-f]{8})\s+(?P<tlimit>[0-9a-f]{8})\b"
    r"|(?P<name>[RE](?:AX|BX|CX|DX|SI|DI|BP|SP|IP|FL)|R8|R9|R1[0-5]|CR[0-48]|DR[0-367]|EFER)"
    r"\s*=\s*(?P<value>[0-9a-f]{16}|[0-9a-f]{8})\b"
    r"|(?P<small>CPL|A20|SMM|HLT)=(?P<digit>[0-9])"
    r")"
)
_CPU = re.compile(r"^\s*CPU#(\d{1,5})\s*$", re.MULTILINE)
_NAMES = {
    wide + name: "r" + name.lower()
    for wide in "RE"
    for name in ("AX", "BX", "CX", "DX", "SI", "DI", "BP", "SP")
}
_NAMES.update({f"R{n}": f"r{n}" for n in range(8, 16)})
_NAMES.update({"RIP": "rip", "EIP": "rip", "RFL": "rflags", "EFL": "rflags"})


def parse_registers(text: str) -> tuple[Registers, Optional[bool]]:
    """The registers in one dump, 32-bit or 64-bit layout, and HLT (None if it is not there).

    A field that occurs twice counts the first time; a field that is missing is None or absent.
    """
    general: dict[str, int] = {}
    control: dict[str, int] = {}
    segments: dict[str, Segment] = {}
    tables: dict[str, TableRegister] = {}
    small: dict[str, int] = {}
    special: dict[str, int] = {}
    wide = False
    for found in _FIELD.finditer(text):
        kind = found.lastgroup
        if kind == "value":
            name = found["name"]
            ours = _NAMES.get(name)
            if ours is None:
                control.setdefault(name.lower(), int(found["value"], 16))
            elif ours in ("rip", "rflags"):
                special.setdefault(ours, int(found["value"], 16))
            else:
                general.setdefault(ours, int(found["value"], 16))
        elif kind == "flags":
            name = found["segment"].lower()
            wide = wide or len(found["base"]) == 16
            segments.setdefault(
                name,
                Segment(
                    int(found["selector"], 16),
                    int(found["base"], 16),
                    int(found["limit"], 16),
                    int(found["flags"], 16) & FLAGS,
                ),
            )
        elif kind == "tlimit":
            tables.setdefault(
                found["table"], TableRegister(int(found["tbase"], 16), int(found["tlimit"], 16))
            )
        elif kind == "digit":
            small.setdefault(found["small"], int(found["digit"]))
    if wide:
        for name in ("fs", "gs"):
            if name in segments:
                control[name + "_base"] = segments[name].base
    registers = Registers(
        rip=special.get("rip"),
        rflags=special.get("rflags"),
        general=general,
        control=control,
        segments=segments,
        gdtr=tables.get("GDT"),
        idtr=tables.get("IDT"),
        cpl=small.get("CPL"),
        a20=_flag(small.get("A20")),
        smm=_flag(small.get("SMM")),
    )
    return registers, _flag(small.get("HLT"))


def _flag(value: Optional[int]) -> Optional[bool]:
    return None if value is None else bool(value)


def is_blank(registers: Registers) -> bool:
    """True for a dump that holds nothing, or only the zeros of a CPU not yet powered on."""
    if registers.rip or any(registers.general.values()) or any(registers.control.values()):
        return False
    return not any(segment.flags for segment in registers.segments.values())


def split_cpus(text: str) -> dict[int, str]:
    """`info registers -a` cut into one text per CPU index; without any `CPU#n` line, CPU 0."""
    marks = list(_CPU.finditer(text))
    if not marks:
        return {0: text} if _FIELD.search(text) else {}
    parts: dict[int, str] = {}
    for mark, following in zip(marks, [*marks[1:], None]):
        parts.setdefault(int(mark[1]), text[mark.end() : following.start() if following else None])
    return parts


_PIC = re.compile(
    r"^pic([01]): irr=([0-9a-f]{2}) imr=([0-9a-f]{2}) isr=([0-9a-f]{2}) .*\birq_base=([0-9a-f]{2})\b",
    re.M,
)


def parse_pics(text: str) -> tuple[Pic, ...]:
    """The two PICs in the text of `info pic`, the first one first; () if it holds none."""
    found = {}
    for number, *values in _PIC.findall(text):
        irr, imr, isr, base = (int(value, 16) for value in values)
        found[number] = Pic(base, imr, isr, irr)
    return tuple(found[number] for number in sorted(found))


_IO_APIC = re.compile(r"^ioapic[0-9]{1,3}: ", re.M)
_PIN = re.compile(r"^\s*pin (\d{1,3})\s+0x([0-9a-f]{16})\b", re.M)


def parse_io_apics(text: str) -> Optional[tuple[tuple[int, ...], ...]]:
    """The redirection entries of each I/O APIC in the same text; None if it is not that text."""
    if not parse_pics(text):
        return None
    begins = [found.start() for found in _IO_APIC.finditer(text)]
    parts = [text[start:end] for start, end in zip(begins, [*begins[1:], len(text)])]
    return tuple(tuple(int(value, 16) for _, value in _PIN.findall(part)) for part in parts)


_LVT = {
    **{"LVT0": "lint0", "LVT1": "lint1", "LVTT": "timer"},
    **{"LVTPC": "performance", "LVTERR": "error", "LVTTHMR": "thermal"},
}
_TIMER = re.compile(r"^Timer\s.*initial_count = (\d{1,10}) current_count = (\d{1,10})", re.M)
_LAPIC = re.compile(
    r"^(LVT0|LVT1|LVTPC|LVTERR|LVTTHMR|LVTT|SPIV|ICR2?|ESR)\s+0x([0-9a-f]{2,8})\b", re.M
)
_PRIORITY = re.compile(
    r"^APR 0x[0-9a-f]{1,8} TPR 0x([0-9a-f]{1,8}) DFR 0x([0-9a-f]{1,8}) LDR 0x([0-9a-f]{1,8})\b",
    re.M,
)
_VECTORS = re.compile(r"^(ISR|IRR)[ \t]+(.*)$", re.M)
_NUMBER = re.compile(r"\b(\d{1,3})\b")


def parse_lapic(text: str, apic_id: Optional[int] = None) -> Optional[LocalApic]:
    """The local APIC in the text of `info lapic`; None if it holds no local APIC.

    IA32_APIC_BASE is not in that text: base, enabled and x2apic stay None.
    """
    values = {name: int(value, 16) for name, value in _LAPIC.findall(text)}
    if not values:
        return None
    vectors: dict[str, tuple[int, ...]] = {}
    for name, rest in _VECTORS.findall(text):
        numbers = (int(number) for number in _NUMBER.findall(rest))
        vectors.setdefault(name, tuple(number for number in numbers if number < 256))
    low, timer = values.get("ICR"), _TIMER.search(text)
    priority = _PRIORITY.search(text)
    tpr, dfr, ldr = (int(v, 16) for v in priority.groups()) if priority else (None,) * 3
    return LocalApic(
        apic_id=apic_id,
        svr=values.get("SPIV"),
        esr=values.get("ESR"),
        icr=None if low is None else values.get("ICR2", 0) << 32 | low,
        isr=vectors.get("ISR", ()),
        irr=vectors.get("IRR", ()),
        lvt={ours: values[name] for name, ours in _LVT.items() if name in values},
        timer_initial=int(timer[1]) if timer is not None else None,
        timer_current=int(timer[2]) if timer is not None else None,
        tpr=tpr,
        ldr=ldr,
        dfr=dfr,
    )
