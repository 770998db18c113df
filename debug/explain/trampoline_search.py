# SPDX-License-Identifier: BSD-2-Clause
"""Where the trampoline of a kernel that says nothing lies, and what is in it.

In this order: the kernel's word, the SIPI's vector, the last SIPI in a CPU's ICR, a real-mode CS,
and last the low memory itself: a page that begins with 16-bit code which loads a GDT and sets
CR0.PE.  [SDM 3A "Switching to Protected Mode"]
"""

from __future__ import annotations

from functools import lru_cache
from typing import Optional

from debug.evidence import IpiKind
from debug.explain.code import filler
from debug.explain.context import LOW_MEMORY, PAGE, VECTORS, Machine
from debug.explain.model import FarJump, Status, Trampoline
from debug.explain.writers import code_around
from debug.x86.decode import MAX_LENGTH, decode
from debug.x86.instruction import ImmediateOperand, Instruction, Kind
from debug.x86.patterns import occurrences

_FIRST = 0x1000  # below: the BIOS's vectors and data
_FIRMWARE = 0x10000  # SeaBIOS starts the APs here, before anything else runs
_FAR_JUMP, _MAX_SELECTOR = 0xEA, 0x100
_DISK = 0x13  # INT 13H
_STEPS = 64  # instructions from the page's start to the switch
_OTHERS = 3  # shorthand "all but self": how SeaBIOS does it
_SIPI, _MODE = 6, 7  # delivery mode in the ICR, bits 8-10
_MAX_ENTRIES = 16
_WIDE_JUMP, _LGDT = b"\x66\xea", b"\x0f\x01\x16"
_SWITCH = 64  # bytes before the far jump where the GDT is loaded
_GAP = 16  # bytes between a far jump and its target, where that is aligned


def far_jumps(data: bytes, page: int) -> tuple[FarJump, ...]:
    """The far jumps with a 32-bit target and a plausible selector in the bytes of a page."""
    found = []
    at = data.find(_FAR_JUMP)
    while 0 <= at <= len(data) - 7:
        selector = int.from_bytes(data[at + 5 : at + 7], "little")
        if 0 < selector < _MAX_SELECTOR and selector & 7 == 0:
            target = int.from_bytes(data[at + 1 : at + 5], "little")
            found.append(FarJump(page + at, selector, target))
        at = data.find(_FAR_JUMP, at + 1)
    return tuple(found)


def short_jump(data: bytes, page: int) -> Optional[FarJump]:
    """The far jump that ends the page's 16-bit code, if its target has 16 bits and lies among the
    BIOS's vectors: whatever was above was cut off, or the page's address was not added."""
    for one in _path(data)[-1:]:
        found = one.far_immediate
        if found is None or one.operand_size != 2 or data[one.address : one.address + 1] != b"\xea":
            continue
        if found[1] < VECTORS:
            return FarJump(page + one.address, found[0], found[1])
    return None


def worth_telling(machine: Machine, status: Status, culprit: Optional[int]) -> Optional[Trampoline]:
    """The trampoline where it matters and no lamp tells it."""
    if machine.traced or len(machine.cpus) < 2 or status is Status.HEALTHY:
        return None
    if status is Status.TRIPLE_FAULT and culprit == machine.bsp_index:
        return None
    return machine.likely_trampoline


def find(machine: Machine) -> Optional[Trampoline]:
    """The trampoline as far as anything tells; None if nothing does."""
    if machine.trampoline is not None:
        return _look(machine, machine.trampoline, "the kernel says so")
    for ipi in machine.kernel_ipis:
        if ipi.kind is IpiKind.SIPI and ipi.vector:
            return _look(machine, ipi.vector << 12, "a SIPI with this vector was sent")
    for cpu in machine.cpus:
        icr = cpu.apic.icr if cpu.apic is not None else None
        if icr is None or is_firmwares(icr):
            continue
        if icr >> 8 & _MODE == _SIPI and icr & 0xFF:
            how = f"the last IPI in CPU {cpu.index}'s ICR is a SIPI with this vector"
            return _look(machine, (icr & 0xFF) << 12, how)
    for cpu in machine.aps:
        page = machine.sipi_page(cpu)
        if page:
            return _look(machine, page, f"CPU {cpu.index} is in real mode with this CS")
    found = search(machine)
    return _look(machine, found, "16-bit code that sets CR0.PE begins there") if found else None


def is_firmwares(icr: int) -> bool:
    """Whether this is the SIPI with which SeaBIOS starts the APs."""
    sipi = icr >> 8 & _MODE == _SIPI
    return sipi and icr >> 18 & 3 == _OTHERS and icr & 0xFF == _FIRMWARE >> 12


def search(machine: Machine) -> Optional[int]:
    """The only page in low memory that begins like a trampoline; None if there is none, or two."""
    if not machine.has_memory:
        return None
    low = [page for page in range(_FIRST, LOW_MEMORY, PAGE) if page != _FIRMWARE]
    pages = [page for page in low if _begins_like_one(machine.physical(page, PAGE) or b"")]
    return pages[0] if len(pages) == 1 else None


def linked_for(machine: Machine) -> Optional[int]:
    """The page that a trampoline in the kernel's image is made to run in, where none is left there.

    16-bit code near the BSP that loads a GDT, sets CR0.PE and jumps right behind itself: its LGDT and
    its far jump name one page of low memory.  None if there is no such code, or several pages are named.
    """
    bsp = machine.bsp
    at = machine.pc(bsp.registers) if bsp is not None else None
    if bsp is None or at is None:
        return None
    pages = set()
    for start, data in code_around(machine, bsp.registers, at):
        for place in occurrences(data, _WIDE_JUMP):
            for jump in far_jumps(data[place + 1 : place + 8], 0):
                page, offset = jump.target & -PAGE, jump.target % PAGE
                before = data[max(place - _SWITCH, 0) : place]
                load = before.rfind(_LGDT)
                operand = int.from_bytes(before[load + 3 : load + 5], "little")
                if load < 0 or operand & -PAGE != page or not _FIRST <= page < LOW_MEMORY:
                    continue
                first = place + 8 - offset  # of the image, if the target follows the jump
                begins = (data[first + gap :][:PAGE] for gap in range(_GAP) if first + gap >= 0)
                if start + first != page and any(map(_begins_like_one, begins)):
                    pages.add(page)
    return pages.pop() if len(pages) == 1 else None


@lru_cache(maxsize=256)
def _begins_like_one(data: bytes) -> bool:
    """16-bit code from the page's first byte on: LGDT, then a write to CR0."""
    if not data or filler(data[:8]) is not None:
        return False
    kinds = [one.kind for one in _path(data)]
    if Kind.LGDT not in kinds:
        return False
    return Kind.WRITE_CONTROL in kinds[kinds.index(Kind.LGDT) :]


def _path(data: bytes) -> list[Instruction]:
    """The instructions from offset 0 on; near jumps are followed, a far one ends it."""
    at, found = 0, []
    for _ in range(_STEPS):
        one = decode(data[at : at + MAX_LENGTH], at, 16) if 0 <= at < len(data) else None
        if one is None:
            break
        found.append(one)
        if one.kind in (Kind.FAR_JUMP, Kind.NEAR_RETURN, Kind.FAR_RETURN, Kind.INVALID):
            break
        at = one.next
        if one.kind is Kind.NEAR_JUMP and one.target is not None:
            at = one.target
    return found


@lru_cache(maxsize=256)
def reads_disk(data: bytes) -> bool:
    """16-bit code from the page's first byte on that calls the BIOS's disk service: a boot loader."""
    return any(
        one.kind is Kind.SOFTWARE_INTERRUPT
        and any(isinstance(o, ImmediateOperand) and o.value == _DISK for o in one.operands)
        for one in _path(data)
    )


def _look(machine: Machine, page: int, how: str) -> Trampoline:
    data = machine.physical(page, PAGE) or b""
    gdt, switches = None, False
    for one in _path(data):
        if one.kind is Kind.LGDT and one.memory is not None and not one.memory.base:
            switches = True
            gdt = gdt or _gdt(machine, page, one.memory.displacement & 0xFFFF)
        switches = switches or one.kind is Kind.WRITE_CONTROL
    return Trampoline(page, how, gdt, switches, far_jumps(data, page)[:8] if switches else ())


def _gdt(machine: Machine, page: int, offset: int) -> Optional[tuple[int, int]]:
    """Base and limit at an operand whose segment is 0 or the page's own."""
    for at in (offset, page + offset):
        pointer = machine.physical(at, 6)
        if pointer is None:
            continue
        limit, base = int.from_bytes(pointer[:2], "little"), int.from_bytes(pointer[2:], "little")
        if limit & 7 == 7 and limit >= 15 and _has_code(machine, base, limit):
            return base, limit
    return None


def _has_code(machine: Machine, base: int, limit: int) -> bool:
    """Whether a present code descriptor is among the first entries."""
    data = machine.physical(base, min(limit + 1, 8 * _MAX_ENTRIES)) or b""
    entries = (data[at : at + 8] for at in range(8, len(data) - 7, 8))
    return any(entry[5] & 0x98 == 0x98 for entry in entries)
