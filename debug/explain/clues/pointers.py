# SPDX-License-Identifier: BSD-2-Clause
"""What CR2, RIP and the general registers prove about a pointer or a jump."""

from __future__ import annotations

from typing import Iterator, Optional

from debug.explain.clues.moment import PAGE, Moment
from debug.explain.context import VIDEO_MEMORY
from debug.explain.findings.evident import Clue, Evident, Proof
from debug.x86.canonical import is_canonical
from debug.x86.exceptions import GP, PF, UD, PageFaultCode
from debug.x86.modes import Mode

_P, _W, _U = int(PageFaultCode.P), int(PageFaultCode.W), int(PageFaultCode.U)
_IVT = range(0xF000_0000, 0xF001_0000)  # F000:xxxx, a vector into the BIOS, read as a number
_IVT_END = 0x400
_FIELD = 0x1000  # a field of a structure lies within this of its pointer
_RAN = 16 * PAGE  # how far a slide over zeros is believed
_DEVICES = range(0xE000_0000, 0xFF00_0000)  # where a PC's PCI devices and APICs are put
_ONLY_DEVICES = 0xFC00_0000  # 32-bit kernels have heaps and maps of their own below
_BAR = 1 << 20  # the alignment of a frame buffer or another large device region
_LOW = 1 << 30  # where RAM is, on every machine that boots a hobby kernel
_HIGH = 0xFFFF_8000_0000_0000
_FLAT = (Mode.PROTECTED32, Mode.LONG64)


def findings(moment: Moment) -> Iterator[Evident]:
    """The facts about pointers, most telling first."""
    table = _gdt_at_zero(moment)
    if table is not None:
        yield table
    screen = _video(moment)
    if screen is not None:
        yield screen
    if moment.mode not in (*_FLAT, Mode.COMPAT32):
        return
    for one in (
        _low_target(moment),
        _slide(moment),
        _ivt(moment),
        _ivt_target(moment),
        _device(moment),
        _frame(moment),
        _high_entry(moment),
        _high_fetch(moment),
    ):
        if one is not None:
            yield one
    yield from wild(moment)


def wild(moment: Moment) -> Iterator[Evident]:
    """The register that the faulting address came from, of data or of code."""
    for one in (_pointer(moment), _code_pointer(moment)):
        if one is not None:
            yield one


def _low_target(moment: Moment) -> Optional[Evident]:
    """A program that the kernel resumed stands in page 0: the frame held a number, no address."""
    rip = moment.get("rip")
    if rip is None or rip >= _IVT_END or moment.cpl != 3 or moment.vector != UD:
        return None
    users = [e for e in moment.before if e.registers.cpl == 3 and e.registers.rip is not None]
    kernel = bool(moment.before) and moment.before[-1].registers.cpl == 0
    far = all((event.registers.rip or 0) >= PAGE for event in users)
    lines = [f"at CPL 3 the instruction pointer is {rip:#x}, in the interrupt vector table"]
    if users and kernel and far:
        lines.append(
            "the last event before it was in the kernel, and programs ran elsewhere: the kernel"
            " returned to a number that is no address"
        )
    return Evident(
        moment.cpu, Clue.LOW_TARGET, Proof.FITS if len(lines) > 1 else Proof.HINT, tuple(lines)
    )


def _slide(moment: Moment) -> Optional[Evident]:
    """RIP ran off the end of a page: the bytes before it were no code that jumps.

    Zeros decode as ADD [EAX], AL, which changes no register but flags and writes to what EAX
    names.
    """
    rip = moment.get("rip")
    if rip is None or not moment.fetch or rip % PAGE or moment.error(_P) or rip == 0:
        return None
    if any(value in (moment.get("cr3"), moment.get("cr0")) for _, value in moment.general()):
        return None  # the tables were only just switched: nothing was run through
    if any(value == rip for _, value in moment.general()):
        return None  # it was sent there
    lines = [f"RIP {rip:#x} is the first byte of a page that is not present: it ran off the end"]
    trail = moment.before[-1] if moment.before else None
    if trail is not None and trail.registers.rip is not None:
        same = dict(trail.registers.general) == dict(moment.registers.general)
        if same and 0 < rip - trail.registers.rip < _RAN:
            lines.append(
                f"since {trail.registers.rip:#x} it ran {rip - trail.registers.rip} bytes and no"
                " register changed: the bytes there are zeros"
            )
            return Evident(moment.cpu, Clue.SLIDE, Proof.FITS, tuple(lines))
    starts = [
        (name, value)
        for name, value in moment.general()
        if value >= PAGE and 0 < rip - value < _RAN
    ]
    rax = moment.get("rax") or 0
    if starts and rax >= PAGE:
        name, value = starts[0]
        lines.append(
            f"{moment.shown(name)} still names {value:#x}, where it will have begun, and"
            f" {moment.shown('rax')} a place that ADD [EAX], AL can write to: it slid over zeros"
        )
        return Evident(moment.cpu, Clue.SLIDE, Proof.FITS, tuple(lines))
    if not rax:
        return None  # zeros would have written to address 0
    return Evident(moment.cpu, Clue.SLIDE, Proof.HINT, tuple(lines))


def _entries(moment: Moment) -> list[str]:
    """The registers that hold entries of the interrupt vector table, one or two of them a value."""

    def entry(value: int) -> bool:
        low, high = value & 0xFFFF_FFFF, value >> 32
        return low in _IVT and (high == 0 or high in _IVT)

    return [name for name, value in moment.general() if entry(value)]


def _ivt(moment: Moment) -> Optional[Evident]:
    """The pointer that was used is what address 0 to 0x3ff holds."""
    names, address = _entries(moment), moment.address
    if not names or moment.fetch:
        return None
    near = [
        name
        for name in names
        if address is not None and 0 <= address - (moment.get(name) or 0) < _FIELD
    ]
    wide = [name for name in names if not is_canonical(moment.get(name) or 0)]
    used = near if moment.vector == PF else wide if moment.vector == GP else []
    if not used:
        return None
    shown = ", ".join(f"{moment.shown(name)} {moment.get(name):#x}" for name in used)
    lines = (
        f"{shown} was used as a pointer: F000:xxxx is an entry of the BIOS's interrupt vector"
        " table",
        "it was read from below 0x400, through a pointer that was null",
    )
    return Evident(moment.cpu, Clue.IVT_POINTER, Proof.FITS, lines)


def _ivt_target(moment: Moment) -> Optional[Evident]:
    """RIP itself is such an entry."""
    rip = moment.get("rip")
    if rip is None or rip not in _IVT or moment.mode is not Mode.PROTECTED32:
        return None
    lines = (
        f"RIP {rip:#x} is an entry of the interrupt vector table, F000:{rip & 0xFFFF:04x}: a return"
        " address or a pointer to code was read from below 0x400",
    )
    return Evident(moment.cpu, Clue.IVT_POINTER, Proof.FITS, lines)


def _gdt_at_zero(moment: Moment) -> Optional[Evident]:
    """A read of a multiple of 8 in the first entries of page 0 may be the CPU's own, of a GDT."""
    address, table = moment.address, moment.registers.gdtr
    if address is None or moment.error(_W) or moment.error(_U) or moment.error(_P):
        return None
    if table is not None or not 0 < address < 0x80 or address % 8:
        return None
    lines = (
        f"CR2 {address:#x} would be descriptor {address // 8} of a GDT at address 0; where GDTR"
        " points is not known",
    )
    return Evident(moment.cpu, Clue.GDT_AT_ZERO, Proof.HINT, lines)


def _video(moment: Moment) -> Optional[Evident]:
    """The kernel reaches for the screen of a PC's VGA, and these tables do not map it."""
    address = moment.address
    if (
        address is None
        or address not in VIDEO_MEMORY
        or moment.fetch
        or moment.error(_P) is not False
    ):
        return None
    if moment.cpl != 0 or 0 <= address - (moment.get("rsp") or 0) + 64 < PAGE:
        return None
    lines = (f"CR2 {address:#x} lies in video memory: the text screen is at 0xb8000",)
    return Evident(moment.cpu, Clue.MMIO, Proof.FITS, lines)


def _device(moment: Moment) -> Optional[Evident]:
    """An access to where devices are, through a register that holds the region's base."""
    address = moment.address
    if address is None or address not in _DEVICES or moment.fetch or moment.error(_P):
        return None
    if moment.cpl != 0:
        return None
    bases = [
        (name, value)
        for name, value in moment.general()
        if value in _DEVICES and value % _BAR == 0 and 0 <= address - value < 64 * _BAR
    ]
    if not bases:
        return None
    name, base = bases[0]
    offset = address - base
    more = [moment.shown(n) for n, v in moment.general() if v == offset and offset]
    plus = f" and {more[0]} the offset {offset:#x}" if more else f", the offset is {offset:#x}"
    lines = (
        f"CR2 {address:#x} lies where a PC has its devices: {moment.shown(name)} holds the base"
        f" {base:#x}{plus}",
    )
    sure = moment.mode is Mode.LONG64 or base >= _ONLY_DEVICES
    return Evident(moment.cpu, Clue.MMIO, Proof.FITS if sure else Proof.HINT, lines)


def _frame(moment: Moment) -> Optional[Evident]:
    """A page is filled through an address that looks physical, by a kernel that is mapped 1:1."""
    address, rip = moment.address, moment.get("rip")
    if address is None or rip is None or moment.fetch or not moment.error(_W):
        return None
    if moment.error(_P) or moment.cpl != 0 or not PAGE <= address < _LOW or rip >= _LOW:
        return None
    start = address & -PAGE
    begins = [moment.shown(n) for n, v in moment.general() if v == start]
    ends = [moment.shown(n) for n, v in moment.general() if v == start + PAGE]
    if not begins or not ends or address <= rip:
        return None
    lines = (
        f"the frame {start:#x} is written to: {begins[0]} holds its begin and {ends[0]} its end",
        f"the code runs at {rip:#x}, mapped one to one, and this frame lies beyond that map",
    )
    return Evident(moment.cpu, Clue.FRAME_AS_POINTER, Proof.FITS, lines)


def _high_entry(moment: Moment) -> Optional[Evident]:
    """#UD in the higher half, on the low stack of before: the first instructions there."""
    rip, rsp, table = moment.get("rip"), moment.get("rsp"), moment.registers.gdtr
    if moment.vector != UD or rip is None or rsp is None or rip < _HIGH:
        return None
    if not 0 < rsp < _LOW or (table is not None and table.base >= _HIGH):
        return None
    lines = (
        f"RIP {rip:#x} is in the higher half, while the stack ({rsp:#x}) and the GDT are still low:"
        " the higher half was only just entered",
        "the bytes there are no instruction: another frame may be mapped there than the image's",
    )
    return Evident(moment.cpu, Clue.HIGH_ENTRY, Proof.HINT, lines)


def _high_fetch(moment: Moment) -> Optional[Evident]:
    """The jump into the higher half, through a register: nothing is mapped there."""
    rip, rsp, table = moment.get("rip"), moment.get("rsp"), moment.registers.gdtr
    if (
        rip is None
        or rip < _HIGH
        or not moment.fetch
        or moment.error(_P)
        or moment.mode is not Mode.LONG64
    ):
        return None
    held = [moment.shown(name) for name, value in moment.general() if value == rip]
    low = rsp is not None and 0 < rsp < _LOW and table is not None and table.base < _HIGH
    if not held or not low:
        return None
    lines = (
        f"the fetch from {rip:#x} failed, {held[0]} holds that address, and the stack ({rsp or 0:#x}) and"
        " the GDT are still low: it is the jump to the higher half",
    )
    return Evident(moment.cpu, Clue.HIGH_FETCH, Proof.FITS, lines)


def _pointer(moment: Moment) -> Optional[Evident]:
    """Which register the faulting address came from."""
    address = moment.address
    if address is None:
        # What was raised first is not known: it may have been the last page fault there was.
        address = moment.get("cr2") if moment.vector is None or not moment.first else None
    if not address or moment.fetch or address < PAGE:
        return None
    if address == (moment.get("rsp") or 0) - moment.slot and moment.error(_W) is not False:
        return None  # a push: the stack pointer's, whatever else points there
    held = [
        (name, value)
        for name, value in moment.general()
        if value >= 0x100 and -128 <= address - value <= 128
    ]
    if not held:
        return None
    name, value = held[0]
    offset = f"{address - value:+#x}" if address != value else ""
    line = f"CR2 {address:#x} is {moment.shown(name)}{offset}: the pointer in that register"
    proof = Proof.FITS if moment.page_fault and moment.error(_P) is False else Proof.HINT
    return Evident(moment.cpu, Clue.POINTER, proof, (line,))


def _code_pointer(moment: Moment) -> Optional[Evident]:
    """A jump or a call through a register that holds no address of code."""
    rip = moment.get("rip")
    if rip is None or not PAGE <= rip < _HIGH or not moment.fetch or moment.error(_P) is not False:
        return None
    values = dict(moment.general())
    if {moment.get("cr0"), moment.get("cr3")} & set(values.values()):
        return None  # the tables were only just switched
    held = [moment.shown(name) for name, value in values.items() if value == rip]
    if not held:
        return None
    line = f"{held[0]} holds {rip:#x}, from where the fetch failed: a jump or a call through it"
    return Evident(moment.cpu, Clue.POINTER, Proof.FITS, (line,))
