# SPDX-License-Identifier: BSD-2-Clause
"""What the page that an AP starts in says itself: its far jumps, and the GDT that it loads.

Found by the encodings of `ljmp ptr16:32` and 16-bit `lgdt [disp16]` [SDM 2 "JMP-Jump", "LGDT/LIDT"];
bytes that only look like one are sorted out by what their operands name.
"""

from __future__ import annotations

from typing import Optional

from debug.evidence import Cpu, IpiKind, Registers
from debug.explain.code import SEVERAL_REX, filler, filler_at, in_wait_loop, rex_count
from debug.explain.context import PAGE, SLIDE, VECTORS, Machine
from debug.explain.findings import (
    FarJumpAstray,
    JumpInRealMode,
    Laxness,
    PageAltered,
    PageEndsEarly,
    SentAstray,
)
from debug.explain.model import FarJump
from debug.explain.trampoline_search import far_jumps, short_jump
from debug.explain.waiting import loop_body
from debug.x86.modes import Mode, code_width, linear_pc, mode_of
from debug.x86.patterns import occurrences
from debug.x86.refusals import Check
from debug.x86.registers import Efer

_LGDT = b"\x0f\x01\x16"
_MOV_TO_CR0, _JUMP_NEAR = b"\x0f\x22\xc0", 12  # bytes behind it that the jump is within
_LONG, _BIG = 1 << 5, 1 << 6  # in byte 6 of a descriptor
_LOW = 0x1000  # the interrupt vector table and the BIOS's data: no kernel has code there
_LOW_HALF = (1 << 32) - 1
LOWEST_ENTRY = 0x10000  # smaller numbers in a trampoline are offsets, limits and selectors
_ROMS, _BEHIND = 0xC0000, 128  # where ROMs begin; bytes of code before a far jump
_POINTER, _DESCRIPTORS = 6, 16  # bytes of a pseudo-descriptor; of a null entry and one more
_FIELDS = 64  # bytes that a kernel fills in behind a short copy; more is the image itself
_STARTUP, _RESET_LIMIT = 0x10000, 0xFFFF  # more than the code before the stack; IDTR after INIT
_NEAR = 8  # bytes before a pseudo-descriptor that are not there either


def pages(machine: Machine) -> tuple[int, ...]:
    """The pages that the kernel starts its APs in, as far as it or anything else says so."""
    found = [machine.trampoline] if machine.trampoline is not None else []
    found += [i.vector << 12 for i in machine.kernel_ipis if i.kind is IpiKind.SIPI and i.vector]
    if not found and machine.likely_trampoline is not None:
        found.append(machine.likely_trampoline.page)
    return tuple(dict.fromkeys(found))[:4]


def astray(machine: Machine, cpu: int, registers: Registers) -> tuple[FarJumpAstray, ...]:
    """A far jump of the trampoline's that led this CPU to where there is no code."""
    rip = linear_pc(registers)
    if rip is None or mode_of(registers) is Mode.REAL:
        return ()
    memory = machine.linear(registers)
    lost = memory.read(rip, 1) is None or filler_at(machine, registers) is not None
    for page in pages(machine):
        data = machine.physical(page, PAGE) or b""
        short = short_jump(data, page)
        if short is not None and short.target <= rip < VECTORS and code_width(registers) == 32:
            relocated = _within(machine, short, page)
            return (FarJumpAstray(cpu, short.at, short.target, page, relocated),)
        for jump in far_jumps(data, page):
            if not jump.target <= rip < jump.target + SLIDE or page <= jump.target < page + PAGE:
                continue
            there = memory.read(jump.target, 16) or machine.physical(jump.target, 16)
            empty = there is None or filler(there) is not None
            relocated = _within(machine, jump, page)
            if empty and lost or relocated is not None and rip < _LOW:
                return (FarJumpAstray(cpu, jump.at, jump.target, page, relocated),)
            if _adrift(machine, registers, rip - jump.target):
                return (FarJumpAstray(cpu, jump.at, jump.target, page, relocated, empty, True),)
    return ()


def _adrift(machine: Machine, registers: Registers, far: int) -> bool:
    """Long behind the jump, in no loop, with no stack and the IDT that INIT left.

    What it slides over may have been written since: a memory test does.  No kernel has so much code
    that needs neither; one that parks a CPU without them keeps it in a loop, or halted.
    """
    table = registers.idtr
    if far < _STARTUP or registers.get("rsp") != 0 or code_width(registers) not in (32, 64):
        return False
    if table is None or (table.base, table.limit) != (0, _RESET_LIMIT):
        return False
    return not loop_body(machine, registers) and not any(in_wait_loop(machine, registers))


def sent(machine: Machine, cpu: int, registers: Registers) -> tuple[SentAstray, ...]:
    """The parameter that sent a CPU without lamps to where it executes what is no code."""
    rip = linear_pc(registers)
    if rip is None or machine.traced or mode_of(registers) is Mode.REAL:
        return ()
    memory = machine.linear(registers)
    if memory.read(rip, 1) is not None and filler_at(machine, registers) is None:
        return ()
    for page in pages(machine):
        data = machine.physical(page, PAGE) or b""
        for at in range(0, len(data) - 7, 4):
            value = int.from_bytes(data[at : at + 8], "little")
            low = value & _LOW_HALF
            if low < LOWEST_ENTRY or page <= low < page + PAGE:
                continue
            whole = memory.read(value, 16)
            if value != low and low <= rip < low + SLIDE and whole is not None:
                if filler(whole) is None and not memory.read(low, 16):
                    return (SentAstray(cpu, page + at, value, True),)
            there = memory.read(value, 16)
            lost = there is None or filler(there) is not None
            if lost and value <= rip < value + SLIDE:
                return (SentAstray(cpu, page + at, value, False),)
    return ()


def unprotected(machine: Machine, cpu: Cpu) -> tuple[JumpInRealMode, ...]:
    """A CPU in real mode, away from its page, with the GDT that it loaded there for a far jump.

    With CR0.PE=0 the jump takes the selector for a segment: it leads into the vector table or the
    BIOS, and to whatever that code does.
    """
    registers, table = cpu.registers, cpu.registers.gdtr
    at = linear_pc(registers)
    if mode_of(registers) is not Mode.REAL or table is None or at is None:
        return ()
    if not 7 < table.limit < 0xFFFF or (registers.get("efer") or 0) & Efer.LME:
        return ()  # reset's, or what QEMU ignores without PAE
    segment = registers.segments.get("cs")
    for page in pages(machine):
        for jump in far_jumps(machine.physical(page, PAGE) or b"", page):
            jumped = segment is not None and segment.selector == jump.selector
            if page <= at < page + PAGE and not jumped:
                continue  # it has not come to the jump
            entry = machine.physical(table.base + jump.selector, 8)
            code = entry is not None and entry[5] & 0x18 == 0x18
            if code and jump.selector and jump.selector | 7 <= table.limit:
                wrong = (jump.selector << 4) + (jump.target & 0xFFFF)
                return (JumpInRealMode(cpu.index, jump.at, jump.selector, jump.target, wrong),)
    return ()


def _within(machine: Machine, jump: FarJump, page: int) -> Optional[int]:
    """Where the jump leads once the page's address is added, if there is code."""
    if jump.target >= PAGE:
        return None
    data = machine.physical(page + jump.target, 8)
    return page + jump.target if data is not None and filler(data) is None else None


def bsp_unprotected(machine: Machine) -> tuple[JumpInRealMode, ...]:
    """The BSP in real mode with a GDT that no BIOS loads, and beside it a far jump into that GDT."""
    bsp = machine.bsp
    table = bsp.registers.gdtr if bsp is not None else None
    if bsp is None or table is None or mode_of(bsp.registers) is not Mode.REAL or machine.traced:
        return ()
    at = linear_pc(bsp.registers)
    if not 7 < table.limit < 0xFFFF or table.limit & 7 != 7 or not VECTORS <= table.base < _ROMS:
        return ()
    start = max(table.base - PAGE, 0)
    data = machine.physical(start, 2 * PAGE) or b""
    if _goes_back(data):
        return ()
    place = data.find(b"\xea")
    while 0 <= place < len(data) - 7:
        wide = place > 0 and data[place - 1] == 0x66
        size = 4 if wide else 2
        target = int.from_bytes(data[place + 1 : place + 1 + size], "little")
        selector = int.from_bytes(data[place + 1 + size : place + 3 + size], "little")
        entry = machine.physical(table.base + selector, 8) if selector | 7 <= table.limit else None
        behind = at is None or not start + place - _BEHIND <= at < start + place
        if selector & 0xFFF8 == selector and selector and entry is not None and behind:
            if entry[5] & 0x98 == 0x98 and target >= VECTORS:
                wrong = (selector << 4) + (target & 0xFFFF)
                return (JumpInRealMode(bsp.index, start + place, selector, target, wrong),)
        place = data.find(b"\xea", place + 1)
    return ()


def _goes_back(data: bytes) -> bool:
    """Whether the code leaves protected mode on purpose: MOV to CR0, then a far jump to segment 0.

    A loader that calls the BIOS between its own steps is in real mode with its GDT loaded.
    """
    for at in occurrences(data, _MOV_TO_CR0):
        behind = data[at + 3 : at + 3 + _JUMP_NEAR]
        jump = behind.find(b"\xea")
        size = 4 if jump > 0 and behind[jump - 1] == 0x66 else 2
        for width in {size, 4}:  # in 32-bit code there is no prefix
            selector = behind[jump + 1 + width : jump + 3 + width] if jump >= 0 else b""
            if selector == bytes(2):
                return True
    return False


_IMAGES = (  # where kernels keep the image that they copy
    ("trampoline_image", "trampoline_image_end"),
    ("trampoline_stamp_image", "trampoline_stamp_image_end"),
    ("trampoline_skip_image", "trampoline_skip_image_end"),
    ("trampoline_start", "trampoline_end"),
    ("ap_trampoline_start", "ap_trampoline_end"),
    ("smp_trampoline_start", "smp_trampoline_end"),
)
_WORD = 8  # a longer run of differences is no relocated address


def altered(machine: Machine) -> tuple[PageAltered, ...]:
    """Where code of the image that the kernel copied is no longer in the trampoline's page.

    Fields that are empty in the image are filled in on purpose; short runs are addresses.  Of
    several images one was copied: nothing is said if the page is like any of them.
    """
    page, bsp = machine.trampoline, machine.bsp
    if page is None or bsp is None:
        return ()
    found: list[PageAltered] = []
    for first, last in _IMAGES:
        start, end = (machine.evidence.symbols.address(name) for name in (first, last))
        if start is None or end is None or not 16 < end - start <= PAGE:
            continue
        image = machine.linear(bsp.registers).read(start, end - start)
        copy = machine.physical(page, end - start)
        if image is None or copy is None or filler(copy[:8]) is not None:
            continue
        run = _difference(image, copy)
        if run is None:
            return ()
        found.append(PageAltered(None, page, run.start, len(run), first))
    return tuple(found[:1])


def ends_early(machine: Machine) -> tuple[PageEndsEarly, ...]:
    """Pages with zeros where their LGDT reads its operand, or where that says the GDT is."""
    found = []
    for page in pages(machine):
        data = machine.physical(page, PAGE) or b""
        at = data.find(_LGDT)
        if at < 0:
            continue
        operand = int.from_bytes(data[at + 3 : at + 5], "little") % PAGE
        base = int.from_bytes(data[operand + 2 : operand + 6], "little")
        around = data[max(operand - _NEAR, 0) : operand + _POINTER]
        behind = sum(1 for byte in data[operand + _POINTER :] if byte)
        if at < operand and not any(around) and behind <= _FIELDS:
            found.append(PageEndsEarly(None, page, "the pseudo-descriptor", operand))
        elif at < base - page < PAGE and not any(data[base - page :][:_DESCRIPTORS]):
            found.append(PageEndsEarly(None, page, "the GDT", base - page))
    return tuple(found)


def _difference(image: bytes, copy: bytes) -> Optional[range]:
    """The first run of bytes that were changed and are no address or field that was filled in."""
    at = 0
    while at < len(image):
        run = at
        while run < len(image) and image[run] != copy[run]:
            run += 1
        if run - at > _WORD and any(image[at:run]):
            return range(at, run)
        at = max(run, at + 1)
    return None


def is_64_bit_target(machine: Machine, selector: int) -> bool:
    """Whether a far jump of the trampoline's with this selector leads to 64-bit code."""
    for page in pages(machine):
        data = machine.physical(page, PAGE) or b""
        for jump in far_jumps(data, page):
            if jump.selector == selector and page <= jump.target < page + PAGE:
                start = jump.target - page
                if rex_count(data[start : start + 256]) >= SEVERAL_REX:
                    return True
    return False


def lax_descriptors(machine: Machine) -> tuple[Laxness, ...]:
    """Descriptors that the trampoline's far jumps name and hardware refuses, though an AP came up."""
    if machine.evidence.emulator != "qemu" or machine.evidence.accelerator == "kvm":
        return ()
    found = []
    for page in pages(machine):
        data = machine.physical(page, PAGE) or b""
        base, limit = _gdt(machine, data, page)
        for jump in far_jumps(data, page):
            if jump.selector | 7 > limit:
                continue
            entry = machine.physical(base + jump.selector, 8)
            if entry is None or entry[5] & 0x98 != 0x98 or entry[6] & 0x60 != _LONG | _BIG:
                continue
            if any(entry[2:5]) or entry[7]:
                continue  # no kernel gives a 64-bit segment a base: this is something else
            early = jump.at > page and data[jump.at - page - 1] == 0x66  # 16-bit code: LMA=0
            where = (
                "#GP(0) at the mov to CR0 that turns paging on"
                if early
                else f"#GP at the far jump at {jump.at:#x}"
            )
            sentence = (
                f"QEMU let this pass: the code descriptor {jump.selector:#06x} at"
                f" {base + jump.selector:#x} has L and D set; a real CPU raises {where}"
            )
            check = Check.LONG_CODE if early else Check.LONG_AND_BIG
            found.append(Laxness(None, sentence, check))
    return tuple(dict.fromkeys(found))


def _gdt(machine: Machine, data: bytes, page: int) -> tuple[int, int]:
    """Base and limit of the GDT that the page's 16-bit lgdt loads; limit 0 if none was found."""
    for at in occurrences(data, _LGDT):
        operand = int.from_bytes(data[at + 3 : at + 5], "little")
        pointer = data[operand : operand + 6]
        if len(pointer) == 6:
            limit = int.from_bytes(pointer[:2], "little")
            base = int.from_bytes(pointer[2:], "little")
            first = machine.physical(base, 8)
            if limit & 7 == 7 and limit > 7 and first is not None:
                return base, limit
    return 0, 0
