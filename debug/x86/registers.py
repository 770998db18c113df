# SPDX-License-Identifier: BSD-2-Clause
"""Names of register bits, and registers by the names that instructions use.

[SDM 3A "Control Registers", "System Flags and Fields in the EFLAGS Register"; SDM 4
"IA32_EFER"; SDM 1 "Basic Program Execution Registers"]
"""

from __future__ import annotations

from enum import IntFlag
from typing import Mapping, Optional, Type

from debug.evidence import Registers


class Cr0(IntFlag):
    PE = 1 << 0
    MP = 1 << 1
    EM = 1 << 2
    TS = 1 << 3
    ET = 1 << 4
    NE = 1 << 5
    WP = 1 << 16
    AM = 1 << 18
    NW = 1 << 29
    CD = 1 << 30
    PG = 1 << 31


class Cr4(IntFlag):
    VME = 1 << 0
    PVI = 1 << 1
    TSD = 1 << 2
    DE = 1 << 3
    PSE = 1 << 4
    PAE = 1 << 5
    MCE = 1 << 6
    PGE = 1 << 7
    PCE = 1 << 8
    OSFXSR = 1 << 9
    OSXMMEXCPT = 1 << 10
    UMIP = 1 << 11
    LA57 = 1 << 12
    VMXE = 1 << 13
    SMXE = 1 << 14
    FSGSBASE = 1 << 16
    PCIDE = 1 << 17
    OSXSAVE = 1 << 18
    KL = 1 << 19
    SMEP = 1 << 20
    SMAP = 1 << 21
    PKE = 1 << 22
    CET = 1 << 23
    PKS = 1 << 24
    UINTR = 1 << 25


class Efer(IntFlag):
    SCE = 1 << 0
    LME = 1 << 8
    LMA = 1 << 10
    NXE = 1 << 11
    SVME = 1 << 12
    LMSLE = 1 << 13
    FFXSR = 1 << 14
    TCE = 1 << 15


class Rflags(IntFlag):
    CF = 1 << 0
    PF = 1 << 2
    AF = 1 << 4
    ZF = 1 << 6
    SF = 1 << 7
    TF = 1 << 8
    IF = 1 << 9
    DF = 1 << 10
    OF = 1 << 11
    NT = 1 << 14
    RF = 1 << 16
    VM = 1 << 17
    AC = 1 << 18
    VIF = 1 << 19
    VIP = 1 << 20
    ID = 1 << 21


class Xcr0(IntFlag):
    X87 = 1 << 0
    SSE = 1 << 1
    AVX = 1 << 2
    BNDREGS = 1 << 3
    BNDCSR = 1 << 4
    OPMASK = 1 << 5
    ZMM_HI256 = 1 << 6
    HI16_ZMM = 1 << 7
    PKRU = 1 << 9
    TILECFG = 1 << 17
    TILEDATA = 1 << 18


BITS: Mapping[str, Type[IntFlag]] = {
    "cr0": Cr0,
    "cr4": Cr4,
    "efer": Efer,
    "rflags": Rflags,
    "xcr0": Xcr0,
}

EFER_MSR = 0xC0000080

MSR_NAMES: Mapping[int, str] = {
    0x10: "IA32_TIME_STAMP_COUNTER",
    0x1B: "IA32_APIC_BASE",
    0x174: "IA32_SYSENTER_CS",
    0x175: "IA32_SYSENTER_ESP",
    0x176: "IA32_SYSENTER_EIP",
    0x277: "IA32_PAT",
    0x2FF: "IA32_MTRR_DEF_TYPE",
    0x6E0: "IA32_TSC_DEADLINE",
    0x802: "IA32_X2APIC_APICID",
    0x80B: "IA32_X2APIC_EOI",
    0x80D: "IA32_X2APIC_LDR",
    0x80F: "IA32_X2APIC_SIVR",
    0x828: "IA32_X2APIC_ESR",
    0x830: "IA32_X2APIC_ICR",
    EFER_MSR: "IA32_EFER",
    0xC0000081: "IA32_STAR",
    0xC0000082: "IA32_LSTAR",
    0xC0000083: "IA32_CSTAR",
    0xC0000084: "IA32_FMASK",
    0xC0000100: "IA32_FS_BASE",
    0xC0000101: "IA32_GS_BASE",
    0xC0000102: "IA32_KERNEL_GS_BASE",
    0xC0000103: "IA32_TSC_AUX",
}

_LEGACY = {"ax": "rax", "cx": "rcx", "dx": "rdx", "bx": "rbx"}
_LEGACY |= {"sp": "rsp", "bp": "rbp", "si": "rsi", "di": "rdi", "ip": "rip"}


def _aliases() -> dict[str, tuple[str, int, int]]:
    """Every name of a part of a register: (full register, shift, width in bits)."""
    parts: dict[str, tuple[str, int, int]] = {}
    for short, full in _LEGACY.items():
        parts[full] = (full, 0, 64)
        parts["e" + short] = (full, 0, 32)
        parts[short] = (full, 0, 16)
        if short != "ip":
            parts[short[0] + "l" if short[1] == "x" else short + "l"] = (full, 0, 8)
        if short[1] == "x":
            parts[short[0] + "h"] = (full, 8, 8)
    for number in range(8, 16):
        full = f"r{number}"
        parts[full] = (full, 0, 64)
        parts[full + "d"] = (full, 0, 32)
        parts[full + "w"] = (full, 0, 16)
        parts[full + "b"] = (full, 0, 8)
    return parts


_PARTS = _aliases()


def register_bits(name: str) -> Optional[int]:
    """The width in bits of a general register or instruction pointer; None for other names."""
    part = _PARTS.get(name)
    return part[2] if part else None


def register_value(registers: Registers, name: str) -> Optional[int]:
    """The value of a register by the name an instruction uses (`eax`, `dl`, `ds`, `cr4` …).

    None when the register is unknown or has no such name.
    """
    part = _PARTS.get(name)
    if part is None:
        segment = registers.segments.get(name)
        return segment.selector if segment is not None else registers.get(name)
    full, shift, bits = part
    value = registers.get(full)
    return None if value is None else value >> shift & (1 << bits) - 1


def named_bits(value: int, flags: Type[IntFlag]) -> str:
    """The set bits of `value` by name, lowest first; `bit N` for one without a name."""
    names = {int(flag): flag.name or "" for flag in flags}
    words = []
    for bit in range(value.bit_length()):
        if value >> bit & 1:
            words.append(names.get(1 << bit, f"bit {bit}"))
    return " ".join(words)


def iopl(rflags: int) -> int:
    """The privilege level up to which CLI, STI, IN and OUT are allowed."""
    return rflags >> 12 & 3


def describe_flags(value: int) -> str:
    """RFLAGS by name: bit 1, which is always set, left out and IOPL as a number."""
    text = named_bits(value & ~0x3002, Rflags)
    level = iopl(value)
    return " ".join(filter(None, (text, f"IOPL={level}" if level else "")))


def describe_register(name: str, value: int) -> str:
    """A register's value in hex, with its bits by name where they have names."""
    if name == "rflags":
        text = describe_flags(value)
    elif name in BITS:
        text = named_bits(value, BITS[name])
    else:
        return f"{value:#x}"
    return f"{value:#x} ({text})" if text else f"{value:#x}"


def describe_msr(number: int) -> str:
    """An MSR by number, with its name if it has one here."""
    name = MSR_NAMES.get(number)
    return f"{name} ({number:#x})" if name else f"MSR {number:#x}"
