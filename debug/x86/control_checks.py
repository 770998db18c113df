# SPDX-License-Identifier: BSD-2-Clause
"""What a CPU checks before it writes a control register, an MSR or a table register.

Every refusal is #GP(0).  A bit that only some CPUs have is not refused here: CPUID is not known.
[SDM 2 "MOV—Move to/from Control Registers", "WRMSR", "LGDT/LIDT", "XSETBV"; SDM 3A "Control
Registers", "Initializing IA-32e Mode", "PAE Paging"; SDM 4 "IA32_EFER"]
"""

from __future__ import annotations

from typing import Optional

from debug.evidence import Memory, Registers, TableRegister
from debug.x86.canonical import is_canonical
from debug.x86.exceptions import GP
from debug.x86.modes import Mode, PagingMode, mode_of, paging_mode
from debug.x86.paging import Tables, translate
from debug.x86.refusals import Check, Refusal, Verdict
from debug.x86.registers import (
    EFER_MSR,
    Cr0,
    Cr4,
    Efer,
    Xcr0,
    describe_msr,
    describe_register,
    named_bits,
)
from debug.x86.segment_checks import linear_bits


def _refuse(check: Check, sentence: str) -> Refusal:
    return Refusal(check, sentence, GP, 0)


def check_control_write(
    registers: Registers, name: str, value: int, memory: Optional[Memory] = None
) -> Verdict:
    """MOV of `value` to control register `name` (cr0 cr3 cr4 cr8) at CPL 0.

    Registers that a check needs and that are unknown count as innocent.  `memory` lets PAE's
    directory pointers be checked.
    """
    if name == "cr0":
        return _check_cr0(registers, value) or _check_pointers(registers, memory, cr0=value)
    if name == "cr4":
        return _check_cr4(registers, value) or _check_pointers(registers, memory, cr4=value)
    if name == "cr3":
        beyond = value & ~(1 << 63) & ~((1 << 52) - 1)
        if beyond:
            return _refuse(Check.RESERVED_BITS, f"CR3 {value:#x} has bits above 51 set")
        return _check_pointers(registers, memory, cr3=value)
    if name == "cr8" and value > 0xF:
        return _refuse(Check.RESERVED_BITS, f"CR8 {value:#x} has bits above 3 set")
    return None


def _check_cr0(registers: Registers, value: int) -> Verdict:
    new, old = Cr0(value & 0xFFFF_FFFF), registers.get("cr0") or 0
    efer, cr4 = registers.get("efer") or 0, registers.get("cr4")
    if value >> 32:
        return _refuse(Check.RESERVED_BITS, f"CR0 {value:#x} has bits above 31 set")
    if new & Cr0.PG and not new & Cr0.PE:
        return _refuse(Check.PG_WITHOUT_PE, "CR0.PG is set without CR0.PE")
    if new & Cr0.NW and not new & Cr0.CD:
        return _refuse(Check.NW_WITHOUT_CD, "CR0.NW is set without CR0.CD")
    if cr4 is not None and cr4 & Cr4.CET and not new & Cr0.WP:
        return _refuse(Check.RESERVED_BITS, "CR0.WP is cleared while CR4.CET=1")
    if new & Cr0.PG and not old & Cr0.PG and efer & Efer.LME:
        return _check_entry(registers)
    if old & Cr0.PG and not new & Cr0.PG:
        if mode_of(registers) is Mode.LONG64:
            sentence = "CR0.PG is cleared in 64-bit mode, which compatibility mode alone may"
            return _refuse(Check.LEAVES_LONG_MODE, sentence)
        if cr4 is not None and cr4 & Cr4.PCIDE:
            return _refuse(Check.PCIDE, "CR0.PG is cleared while CR4.PCIDE=1")
    return None


def _check_entry(registers: Registers) -> Verdict:
    """CR0.PG is set with EFER.LME=1: long mode is entered."""
    cr4, code = registers.get("cr4"), registers.segments.get("cs")
    task = registers.segments.get("tr")
    if cr4 is not None and not cr4 & Cr4.PAE:
        return _refuse(Check.PAE_MISSING, "CR0.PG is set with EFER.LME=1 while CR4.PAE=0")
    if code is not None and code.long:
        return _refuse(Check.LONG_CODE, "CR0.PG is set with EFER.LME=1 while CS.L=1")
    if task is not None and task.selector & 0xFFFC and task.type in (1, 3):
        return _refuse(Check.TSS16, "CR0.PG is set with EFER.LME=1 while TR holds a 16-bit TSS")
    return None


_CR4_KNOWN = sum(int(flag) for flag in Cr4) | 1 << 28 | 1 << 32  # LAM_SUP, FRED


def _check_cr4(registers: Registers, value: int) -> Verdict:
    old, efer = registers.get("cr4") or 0, registers.get("efer") or 0
    cr0, cr3 = registers.get("cr0"), registers.get("cr3") or 0
    unknown = value & ~_CR4_KNOWN
    if unknown:
        bits = named_bits(unknown, Cr4)
        return _refuse(Check.RESERVED_BITS, f"CR4 {value:#x} has reserved bits set: {bits}")
    if efer & Efer.LMA:
        if not value & Cr4.PAE:
            return _refuse(Check.LEAVES_LONG_MODE, "CR4.PAE is cleared while EFER.LMA=1")
        if (value ^ old) & Cr4.LA57:
            return _refuse(Check.LA57_CHANGED, "CR4.LA57 is changed while EFER.LMA=1")
    if value & Cr4.PCIDE and not old & Cr4.PCIDE:
        if registers.get("efer") is not None and not efer & Efer.LMA:
            return _refuse(Check.PCIDE, "CR4.PCIDE is set while EFER.LMA=0")
        if cr3 & 0xFFF:
            return _refuse(Check.PCIDE, f"CR4.PCIDE is set while CR3[11:0] is {cr3 & 0xFFF:#x}")
    if value & Cr4.CET and cr0 is not None and not cr0 & Cr0.WP:
        return _refuse(Check.RESERVED_BITS, "CR4.CET is set while CR0.WP=0")
    return None


def _check_pointers(
    registers: Registers,
    memory: Optional[Memory],
    cr0: Optional[int] = None,
    cr3: Optional[int] = None,
    cr4: Optional[int] = None,
) -> Verdict:
    """PAE's four directory pointers, which a CPU reads when CR0, CR3 or CR4 turns them on."""
    cr0 = registers.get("cr0") if cr0 is None else cr0
    cr3 = registers.get("cr3") if cr3 is None else cr3
    cr4 = registers.get("cr4") if cr4 is None else cr4
    efer = registers.get("efer")
    if memory is None or cr0 is None or cr3 is None or cr4 is None or efer is None:
        return None
    # LMA follows LME when PG is set.
    active = efer & Efer.LMA or efer & Efer.LME
    if active or paging_mode(cr0, cr4, efer) is not PagingMode.PAE:
        return None
    tables = Tables(cr0, cr3, cr4, efer)
    for index in range(4):
        fault = translate(memory, tables, index << 30).fault
        if fault is not None and fault.vector == GP:
            sentence = f"PAE directory pointer: {fault.sentence}"
            return _refuse(Check.PDPTE_RESERVED, sentence)
    return None


_CANONICAL_MSRS = (0x175, 0x176, 0xC0000082, 0xC0000083, 0xC0000100, 0xC0000101, 0xC0000102)
_APIC_BASE = 0x1B


def check_wrmsr(registers: Registers, number: int, value: int) -> Verdict:
    """WRMSR of `value` to MSR `number` at CPL 0; MSRs not modelled pass."""
    if number == EFER_MSR:
        return _check_efer(registers, value)
    if number in _CANONICAL_MSRS and not is_canonical(value, linear_bits(registers)):
        sentence = f"{describe_msr(number)} is given {value:#x}, which is not canonical"
        return _refuse(Check.NON_CANONICAL, sentence)
    if number == _APIC_BASE:
        old = registers.get("apic_base")
        if value >> 10 & 3 == 1:
            return _refuse(Check.RESERVED_BITS, "IA32_APIC_BASE: EXTD is set without EN")
        if old is not None and old >> 10 & 3 == 3 and value >> 10 & 3 == 2:
            return _refuse(Check.RESERVED_BITS, "IA32_APIC_BASE: from x2APIC back to xAPIC")
        if value & 0x2FF:
            return _refuse(Check.RESERVED_BITS, f"IA32_APIC_BASE {value:#x} has reserved bits set")
    return None


def _check_efer(registers: Registers, value: int) -> Verdict:
    reserved = value & ~sum(int(flag) for flag in Efer)
    if reserved:
        bits = named_bits(reserved, Efer)
        return _refuse(Check.RESERVED_BITS, f"EFER {value:#x} has reserved bits set: {bits}")
    old, cr0 = registers.get("efer"), registers.get("cr0")
    if old is None or cr0 is None:
        return None
    if cr0 & Cr0.PG and (value ^ old) & Efer.LME:
        text = describe_register("efer", value)
        return _refuse(Check.LME_CHANGED, f"EFER.LME is changed while CR0.PG=1: {text}")
    return None


def check_table_load(registers: Registers, table: TableRegister) -> Verdict:
    """LGDT or LIDT of `table` in 64-bit mode: the base must be canonical."""
    if mode_of(registers) is Mode.LONG64 and not is_canonical(table.base, linear_bits(registers)):
        return _refuse(Check.NON_CANONICAL, f"the base {table.base:#x} is not canonical")
    return None


def check_xsetbv(number: int, value: int) -> Verdict:
    """XSETBV of `value` to extended control register `number`."""
    if number != 0:
        return _refuse(Check.RESERVED_BITS, f"XCR{number} does not exist")
    if not value & Xcr0.X87:
        return _refuse(Check.RESERVED_BITS, f"XCR0 {value:#x} has bit 0 (x87) clear")
    if value & Xcr0.AVX and not value & Xcr0.SSE:
        return _refuse(Check.RESERVED_BITS, f"XCR0 {value:#x} enables AVX without SSE")
    wide = Xcr0.OPMASK | Xcr0.ZMM_HI256 | Xcr0.HI16_ZMM
    if value & wide and (value & wide != int(wide) or not value & Xcr0.AVX):
        sentence = f"XCR0 {value:#x} enables a part of AVX-512, or AVX-512 without AVX"
        return _refuse(Check.RESERVED_BITS, sentence)
    return None
