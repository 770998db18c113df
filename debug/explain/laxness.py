# SPDX-License-Identifier: BSD-2-Clause
"""Where the emulator is laxer than hardware, and modes that code was not written for.

A state that hardware could not have reached was let pass by the emulator; these are the states
that can be read off the registers.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Optional

from debug.evidence import Registers, Segment
from debug.explain.code import SEVERAL_REX, code_bytes, rex_count, starts_with_rex
from debug.explain.context import Machine
from debug.explain.findings import Laxness, ModeTrap, ModeTrapKind
from debug.explain.model import Finding
from debug.explain.trampoline_page import is_64_bit_target
from debug.x86.canonical import is_canonical
from debug.x86.decode import MAX_LENGTH, decode, decode_many
from debug.x86.instruction import Kind
from debug.x86.modes import Mode, mode_of
from debug.x86.refusals import Check
from debug.x86.registers import Cr0, Cr4, Efer

_SELECTORS = 0x100  # a boot GDT's are below
_ENABLE = 1 << 11  # IA32_APIC_BASE.EN


def impossible_state(
    machine: Machine, cpu: Optional[int], registers: Registers
) -> tuple[Laxness, ...]:
    """What hardware would have refused on the way to these registers."""
    who = {"qemu": "QEMU", "bochs": "Bochs"}.get(machine.evidence.emulator, "the emulator")
    if machine.evidence.accelerator == "kvm":
        who = "the hypervisor"
    found = _offences(registers)
    if _after_mov_cr4(machine, registers):
        what = "CR4.PAE was cleared in long mode; a real CPU raises #GP(0) at that mov to CR4"
        found = [item for item in found if item[1] is not Check.PAE_MISSING]
        found.insert(0, (what, Check.LEAVES_LONG_MODE))
    lax = [Laxness(cpu, f"{who} let this pass: {what}", check) for what, check in found]
    if who == "QEMU" and (sign := _paging_ignored(registers)):
        sentence = (
            f"EFER.LME=1, CR4.PAE=0 and paging is off, yet {sign}: QEMU ignores a mov to CR0 that"
            " sets PG then; a real CPU raises #GP(0) there"
        )
        lax.append(Laxness(cpu, sentence, Check.PAE_MISSING))
    return tuple(lax)


def _paging_ignored(registers: Registers) -> str:
    """What shows that the code went on as if a mov to CR0 had turned paging on, "" if nothing."""
    code, efer = registers.segments.get("cs"), registers.get("efer") or 0
    cr0, cr4 = registers.get("cr0"), registers.get("cr4")
    if code is None or cr0 is None or cr4 is None or not efer & Efer.LME:
        return ""
    if cr0 & Cr0.PG or cr4 & Cr4.PAE:
        return ""
    if cr0 & Cr0.PE:
        return "a 64-bit code segment is loaded" if code.long else ""
    if registers.rip is not None and registers.rip > 0xFFFF:
        return f"it is in real mode at offset {registers.rip:#x}, where no code is"
    # A SIPI leaves a multiple of 0x100 in CS; the far jump meant a descriptor.
    descriptor = 0 < code.selector < _SELECTORS and not code.selector & 7
    return f"a far jump loaded CS with {code.selector:#06x} in real mode" if descriptor else ""


def _after_mov_cr4(machine: Machine, registers: Registers) -> bool:
    """Whether long mode has lost CR4.PAE by the instruction before RIP."""
    cr4, efer, rip = registers.get("cr4"), registers.get("efer"), registers.rip
    if cr4 is None or efer is None or rip is None or rip < 3:
        return False
    if cr4 & Cr4.PAE or not efer & Efer.LMA:
        return False
    before = replace(registers, control={**registers.control, "cr4": cr4 | int(Cr4.PAE)})
    data = machine.linear(before).read(rip - 3, 3)
    return data is not None and data[:2] == b"\x0f\x22" and data[2] & 0xF8 == 0xE0


def _offences(registers: Registers) -> list[tuple[str, Optional[Check]]]:
    cr0, cr4, efer = (registers.get(name) for name in ("cr0", "cr4", "efer"))
    found: list[tuple[str, Optional[Check]]] = []
    if cr0 is not None and cr0 & Cr0.PG and not cr0 & Cr0.PE:
        what = "CR0.PG=1 with PE=0; a real CPU raises #GP(0) at the mov to CR0"
        found.append((what, Check.PG_WITHOUT_PE))
    long_mode = bool((cr0 or 0) & Cr0.PG and (efer or 0) & Efer.LME)
    if long_mode and cr4 is not None and not cr4 & Cr4.PAE:
        what = "CR0.PG=1, EFER.LME=1 with CR4.PAE=0; a real CPU raises #GP(0) at the mov to CR0"
        found.append((what, Check.PAE_MISSING))
    if long_mode is False and cr0 is not None and cr0 & Cr0.PG and (efer or 0) & Efer.LMA:
        what = "EFER.LMA=1 with LME=0: LME was cleared under paging; a real CPU raises #GP(0) at"
        found.append((f"{what} that wrmsr", Check.LME_CHANGED))
    if cr4 is not None and cr4 & Cr4.PCIDE and efer is not None and not efer & Efer.LMA:
        what = "CR4.PCIDE=1 with EFER.LMA=0; a real CPU raises #GP(0) at the mov to CR4"
        found.append((what, Check.PCIDE))
    if efer is not None and efer & ~sum(int(flag) for flag in Efer):
        what = f"EFER {efer:#x} has reserved bits set; a real CPU raises #GP(0) at wrmsr"
        found.append((what, Check.RESERVED_BITS))
    code = registers.segments.get("cs")
    if mode_of(registers).long and code is not None and code.long and code.big:
        what = f"CS {code.selector:#06x} has L and D set; a real CPU raises #GP at the far jump"
        found.append((what, Check.LONG_AND_BIG))
    table = registers.gdtr
    if mode_of(registers) is Mode.LONG64 and table is not None and not is_canonical(table.base):
        what = f"GDTR base {table.base:#x} is not canonical; a real CPU raises #GP(0) at lgdt"
        found.append((what, Check.NON_CANONICAL))
    base = registers.get("apic_base")
    if base is not None and not base & _ENABLE:
        what = "IA32_APIC_BASE.EN=0; a real CPU's local APIC then neither sends nor takes IPIs"
        found.append((what, None))
    return found


def mode_traps(machine: Machine, cpu: Optional[int], registers: Registers) -> tuple[Finding, ...]:
    """A code or data segment whose hidden bits do not fit the code that runs."""
    mode, code = mode_of(registers), registers.segments.get("cs")
    if code is None:
        return ()
    found: list[Finding] = []
    selector = code.selector
    loaded = code.base == 0 and 0 < selector < 0x100  # by a far jump, not left from real mode
    if mode is Mode.COMPAT32 and _rex_code(machine, registers):
        sentence = (
            f"CS {selector:#06x} has L=0 while EFER.LMA=1: 64-bit code runs in compatibility mode"
        )
        found.append(ModeTrap(cpu, ModeTrapKind.COMPAT_NOT_64, selector, sentence))
    if mode is Mode.COMPAT16 and not loaded and _jumps_no_more(machine, registers):
        sentence = (
            f"EFER.LMA=1, and CS {selector:#06x} is still real mode's: what follows on the MOV to CR0 is"
            " decoded as 16-bit code"
        )
        found.append(ModeTrap(cpu, ModeTrapKind.NO_FAR_JUMP, selector, sentence))
    if (
        mode in (Mode.COMPAT16, Mode.COMPAT32)
        and loaded
        and not _has_long_segment(machine, registers)
    ):
        sentence = (
            f"EFER.LMA=1, CS {selector:#06x} has L=0, and no code segment in the GDT has L=1: 64-bit mode"
            " can't be entered"
        )
        found.append(ModeTrap(cpu, ModeTrapKind.NO_LONG_SEGMENT, selector, sentence))
    if mode is Mode.PROTECTED16 and not loaded and (jump := _near_jump(machine, registers)):
        sentence = (
            f"CR0.PE was set before {jump:#x}, where a near jump follows: CS {selector:#06x} is still"
            " real mode's, and 32-bit code is decoded as 16-bit code"
        )
        found.append(ModeTrap(cpu, ModeTrapKind.NO_FAR_JUMP, selector, sentence))
    if mode is Mode.PROTECTED16 and loaded:
        if code.long:
            kind = ModeTrapKind.LONG_BEFORE_LMA
            sentence = f"CS {selector:#06x} has L=1, D=0 while EFER.LMA=0: it is a 16-bit segment"
        else:
            kind = ModeTrapKind.CODE16_NOT_32
            sentence = f"CS {selector:#06x} has D=0: 32-bit code is decoded as 16-bit code"
        found.append(ModeTrap(cpu, kind, selector, sentence))
    if mode is Mode.PROTECTED32:
        stale = [n for n in ("ds", "ss", "es") if _real_mode_segment(registers.segments.get(n))]
        if stale:
            names = ", ".join(name.upper() for name in stale)
            sentence = f"{names} still hold real-mode segments: base selector*16, limit 64 KiB"
            found.append(ModeTrap(cpu, ModeTrapKind.STALE_SEGMENTS, selector, sentence))
    return tuple(found)


_NEARBY = 96  # bytes on each side of RIP
_MOV_CR0, _BACK, _BETWEEN = b"\x0f\x22\xc0", 256, 8  # mov cr0, eax; bytes; instructions
_AHEAD = 16  # instructions
_BEFORE = 1024  # bytes: a boot sector lies between its switch and what it loaded
_REX_W, _WITH_IMMEDIATE = 0x48, range(0xB8, 0xC0)  # mov r64, imm64


def _rex_code(machine: Machine, registers: Registers) -> bool:
    """Whether the code around RIP, or where the trampoline jumped with this CS, is 64-bit code."""
    if starts_with_rex(code_bytes(machine, registers)):
        return True
    at, code = machine.pc(registers), registers.segments.get("cs")
    if at is None or code is None or (registers.cpl or 0) != 0:
        return False
    symbol = machine.symbol(at)
    if symbol is not None and "64" in symbol.name:
        return True  # its author says so
    if starts_with_rex(machine.linear(registers).read(at - 1, 3) or b""):
        return True  # the prefix was executed: in 32-bit code it is a DEC
    if _split_instruction(machine, registers):
        return True
    data = machine.linear(registers).read(max(at - _NEARBY, 0), 2 * _NEARBY) or b""
    return rex_count(data) >= SEVERAL_REX or is_64_bit_target(machine, code.selector)


def _split_instruction(machine: Machine, registers: Registers) -> bool:
    """Whether RIP stands within a 64-bit instruction of which the CPU took the start for others.

    Such as MOV RAX, imm64: in 32-bit code that is DEC EAX, MOV EAX, imm32 and the immediate's rest.
    """
    at, rip = machine.pc(registers), registers.rip
    if at is None or rip is None:
        return False
    memory = machine.linear(registers)
    for back in range(2, MAX_LENGTH):
        data = memory.read(at - back, back) if at >= back else None
        if data is None or data[0] & 0xF8 != _REX_W or data[1] not in _WITH_IMMEDIATE:
            continue
        whole = decode(data + memory.some(at, MAX_LENGTH), rip - back, 64)
        parts = decode_many(data, rip - back, 32, back)
        if whole is not None and whole.length > back and parts and parts[-1].next == rip:
            return True
    return False


def _near_jump(machine: Machine, registers: Registers) -> Optional[int]:
    """Where a near jump follows on the MOV to CR0 that set PE, with RIP behind its target."""
    at, rip = machine.pc(registers), registers.rip
    if at is None or rip is None or registers.segments["cs"].base != at - rip:
        return None
    start = max(rip - _BEFORE, 0)
    data = machine.linear(registers).some(at - rip + start, rip - start) if rip else b""
    place = data.find(_MOV_CR0)
    while place >= 0:
        for one in decode_many(data[place + 3 :], start + place + 3, 16, _BETWEEN):
            if one.kind is Kind.NEAR_JUMP and one.target is not None:
                if one.next <= one.target <= rip < one.target + _BACK:
                    behind = machine.linear(registers).some(at - rip + one.target, _NEARBY)
                    return None if _far_jump_ahead(behind, one.target) else one.address
                break
            if one.kind is not Kind.OTHER and one.kind is not Kind.LOAD_SEGMENT:
                break
        place = data.find(_MOV_CR0, place + 1)
    return None


def _jumps_no_more(machine: Machine, registers: Registers) -> bool:
    """Whether 16-bit code stands at RIP that does not come to a far jump."""
    at, rip = machine.pc(registers), registers.rip
    data = machine.linear(registers).some(at, _NEARBY) if at is not None else b""
    return bool(data) and rip is not None and not _far_jump_ahead(data, rip)


def _has_long_segment(machine: Machine, registers: Registers) -> bool:
    """Whether the GDT has a code segment of 64-bit mode, or can't be read."""
    table = registers.gdtr
    data = machine.linear(registers).read(table.base, _SELECTORS) if table is not None else None
    if table is None or data is None:
        return True
    entries = (data[at : at + 8] for at in range(8, min(table.limit + 1, _SELECTORS) - 7, 8))
    return any(entry[5] & 0x18 == 0x18 and entry[6] & 0x20 for entry in entries)


def _far_jump_ahead(data: bytes, address: int) -> bool:
    """A near jump may empty the prefetch queue in front of the far jump, as old manuals have it."""
    for one in decode_many(data, address, 16, _AHEAD):
        if one.far_immediate is not None:
            return True
        if one.kind in (Kind.NEAR_JUMP, Kind.NEAR_RETURN):
            break
    return False


def _real_mode_segment(segment: Optional[Segment]) -> bool:
    if segment is None or segment.selector & 0xFFFC == 0:
        return False
    return segment.limit == 0xFFFF and segment.base == segment.selector << 4
