# SPDX-License-Identifier: BSD-2-Clause
"""QEMU's ELF cores (`dump-guest-memory`, virsh dump --memory-only): CPUs and physical memory.

The ELF headers and notes are parsed from bytes, [System V gABI "Program Header", "Note Section"]
and QEMU's include/sysemu/dump.h say how; memory is read from the file where it is asked for.  The
file may be hostile: CoreError with a sentence, never another exception; no size in it is believed.

The class of the file says little: QEMU writes a 64-bit machine that died outside long mode as an
i386 core, with the same notes.
"""

from __future__ import annotations

import bisect
import struct
from dataclasses import dataclass
from typing import Callable, Iterator, Optional

from debug.evidence import Cpu, Evidence, Registers, Segment, TableRegister
from debug.x86.descriptors import FLAGS
from debug.x86.registers import Cr0, Cr4, Efer

MAX_PROGRAM_HEADERS = 1 << 16
MAX_NOTES = 32 << 20  # bytes
MAX_CPUS = 4096
MAX_READ = 64 << 20  # bytes in one call

ReadAt = Callable[[int, int], bytes]
"""(offset, length) → the bytes of the file there; fewer at its end, none when it can't be read."""

_ET_CORE, _PT_LOAD, _PT_NOTE, _PN_XNUM = 4, 1, 4, 0xFFFF
_MACHINES = {
    3: "i386", 62: "x86-64", 183: "AArch64", 40: "ARM", 243: "RISC-V", 21: "PowerPC",
    22: "S/390", 8: "MIPS",
}  # fmt: skip
_EM_386, _EM_X86_64 = 3, 62

_GENERAL = "rax rbx rcx rdx rsi rdi rsp rbp r8 r9 r10 r11 r12 r13 r14 r15".split()
_SEGMENTS = "cs ds es fs gs ss ldt tr gdt idt".split()
_STATE = struct.Struct("<II18Q")
_SEGMENT = struct.Struct("<IIIIQ")
_CONTROL = struct.Struct("<5Q")
_STATE_SIZE = _STATE.size + len(_SEGMENTS) * _SEGMENT.size + _CONTROL.size

NO_EFER = (
    "a core holds no EFER, APIC or halt state: long mode is told by the core's type and by CS.L,"
    " and EFER.NXE=1 is assumed"
)
NO_EVENTS = "a core holds no exceptions: how the CPU came to its last state is not known"

_REFUSED = (
    (b"KDUMP   ", "a kdump-compressed dump"),
    (b"makedumpfile", "a flattened kdump-compressed dump"),
    (b"PAGEDU64", "a Windows crash dump"),
    (b"PAGEDUMP", "a Windows crash dump"),
    (b"QEVM", "a migration stream or snapshot"),
)


class CoreError(Exception):
    """The file is no core that can be used; the message says what it is."""


@dataclass(frozen=True)
class Range:
    """A range of physical memory and where its bytes are in the file."""

    physical: int
    length: int
    offset: int


class CoreMemory:
    """debug.evidence.Memory of a core, read through `read_at`."""

    def __init__(self, read_at: ReadAt, ranges: tuple[Range, ...]) -> None:
        self._read_at = read_at
        self.ranges = tuple(sorted(ranges, key=lambda r: r.physical))
        self._starts = [found.physical for found in self.ranges]

    def read(self, physical: int, length: int) -> Optional[bytes]:
        """`length` bytes at a physical address; None where the core does not hold all of them."""
        if physical < 0 or length < 0 or length > MAX_READ:
            return None
        data = bytearray()
        while len(data) < length:
            at = physical + len(data)
            place = bisect.bisect_right(self._starts, at) - 1
            if place < 0 or at >= self.ranges[place].physical + self.ranges[place].length:
                return None
            found = self.ranges[place]
            count = min(length - len(data), found.physical + found.length - at)
            part = self._read_at(found.offset + at - found.physical, count)
            if len(part) != count:
                return None
            data += part
        return bytes(data)


@dataclass(frozen=True)
class Core:
    """What a core holds.  `long_mode`: CPU 0 had EFER.LMA=1 when it was written."""

    cpus: tuple[Cpu, ...]
    memory: CoreMemory
    long_mode: bool
    problems: tuple[str, ...] = ()


def refused(head: bytes) -> Optional[str]:
    """What a file that is a dump, but none of this format, is; None for any other."""
    return next((what for magic, what in _REFUSED if head.startswith(magic)), None)


def read_core(read_at: ReadAt, size: int) -> Core:
    """The CPUs and the memory in a core of `size` bytes.  Raises CoreError."""
    try:
        return _read_core(read_at, size)
    except struct.error:
        raise CoreError("the ELF headers are cut off") from None


def _read_core(read_at: ReadAt, size: int) -> Core:
    head = read_at(0, 64)
    if len(head) < 52 or head[:4] != b"\x7fELF":
        raise CoreError("no ELF header")
    if head[5] != 1:
        raise CoreError("a core of a big-endian machine, not of an x86 one")
    wide = head[4] == 2
    kind, machine = struct.unpack_from("<HH", head, 16)
    if kind != _ET_CORE:
        raise CoreError("an ELF file that is no core")
    if machine not in (_EM_386, _EM_X86_64):
        name = _MACHINES.get(machine, f"machine {machine}")
        raise CoreError(f"a core of another architecture: {name}, not x86")
    ranges: list[Range] = []
    states: list[bytes] = []
    problems: list[str] = []
    threads = cut = 0
    for segment, offset, physical, length in _program_headers(read_at, head, wide):
        if segment == _PT_LOAD and length:
            if offset + length > size:
                cut += 1
                length = max(0, size - offset)
            if length:
                ranges.append(Range(physical, length, offset))
        elif segment == _PT_NOTE:
            for owner, note, content in _notes(read_at(offset, min(length, MAX_NOTES))):
                threads += owner == b"CORE" and note == 1
                if owner == b"QEMU" and note == 0 and len(content) >= _STATE_SIZE:
                    states.append(content)
    if cut:
        problems.append(f"the core is cut off: {cut} ranges of memory are not all there")
    if not states:
        what = f"{threads} CPUs, but not QEMU's notes" if threads else "no note of a CPU"
        raise CoreError(
            f"a core with {what}: expected one that QEMU wrote with dump-guest-memory"
            " (a core of a crashed program is another thing)"
        )
    long_mode = machine == _EM_X86_64
    cpus = tuple(
        Cpu(index, _registers(content, long_mode if index == 0 else None))
        for index, content in enumerate(states[:MAX_CPUS])
    )
    return Core(cpus, CoreMemory(read_at, tuple(ranges)), long_mode, tuple(problems))


def _program_headers(
    read_at: ReadAt, head: bytes, wide: bool
) -> Iterator[tuple[int, int, int, int]]:
    """(type, offset, physical address, bytes in the file) of each program header."""
    if wide:
        table, sections = struct.unpack_from("<QQ", head, 32)
        entry, count = struct.unpack_from("<HH", head, 54)
    else:
        table, sections = struct.unpack_from("<II", head, 28)
        entry, count = struct.unpack_from("<HH", head, 42)
    if count == _PN_XNUM:  # the number stands in sh_info of section 0
        count = struct.unpack_from("<I", read_at(sections + (44 if wide else 28), 4))[0]
    if entry < (56 if wide else 32):
        raise CoreError("program headers of an impossible size")
    data = read_at(table, entry * min(count, MAX_PROGRAM_HEADERS))
    for at in range(0, len(data) - entry + 1, entry):
        if wide:
            kind, _, offset, _, physical, length = struct.unpack_from("<IIQQQQ", data, at)
        else:
            kind, offset, _, physical, length = struct.unpack_from("<5I", data, at)
        yield kind, offset, physical, length


def _notes(data: bytes) -> Iterator[tuple[bytes, int, bytes]]:
    """(name, type, content) of each note."""
    at = 0
    while at + 12 <= len(data):
        name_size, size, kind = struct.unpack_from("<III", data, at)
        start = at + 12 + (name_size + 3 & ~3)
        if start + size > len(data):
            return
        yield data[at + 12 : at + 12 + name_size].rstrip(b"\0"), kind, data[start : start + size]
        at = start + (size + 3 & ~3)


def _registers(content: bytes, long_mode: Optional[bool]) -> Registers:
    """The registers in one QEMUCPUState; `long_mode` is None where the file does not tell."""
    _, _, *values = _STATE.unpack_from(content)
    general = dict(zip(_GENERAL, values))
    rip, rflags = values[16:18]
    parts: dict[str, tuple[int, int, int, int]] = {}
    for number, name in enumerate(_SEGMENTS):
        selector, limit, flags, _, base = _SEGMENT.unpack_from(
            content, _STATE.size + number * _SEGMENT.size
        )
        parts[name] = (selector & 0xFFFF, base, limit, flags & FLAGS)
    cr0, cr1, cr2, cr3, cr4 = _CONTROL.unpack_from(content, _STATE_SIZE - _CONTROL.size)
    control = {"cr0": cr0, "cr2": cr2, "cr3": cr3, "cr4": cr4}
    control["fs_base"], control["gs_base"] = parts["fs"][1], parts["gs"][1]
    if len(content) >= _STATE_SIZE + 8:
        control["kernel_gs_base"] = struct.unpack_from("<Q", content, _STATE_SIZE)[0]
    segments = {name: Segment(*parts[name]) for name in _SEGMENTS if name not in ("gdt", "idt")}
    efer = _efer(cr0, cr4, segments["cs"], rip, long_mode)
    if efer is not None:
        control["efer"] = efer
    protected = cr0 & Cr0.PE
    return Registers(
        rip=rip,
        rflags=rflags,
        general=general,
        control=control,
        segments=segments,
        gdtr=TableRegister(parts["gdt"][1], parts["gdt"][2]),
        idtr=TableRegister(parts["idt"][1], parts["idt"][2]),
        cpl=segments["ss"].dpl if protected else 0,
    )


def _efer(cr0: int, cr4: int, code: Segment, rip: int, long_mode: Optional[bool]) -> Optional[int]:
    """EFER as far as the rest proves it [SDM 3A "Initializing IA-32e Mode"]; None if it does not.

    NXE is in the value: without it bit 63 would make every no-execute page look malformed.
    """
    if not cr0 & Cr0.PG:
        return None
    if not cr4 & Cr4.PAE:
        return 0
    if code.long or rip >> 32 or long_mode:
        return int(Efer.LME | Efer.LMA | Efer.NXE)
    return int(Efer.NXE) if long_mode is False else None


def core_evidence(core: Core) -> Evidence:
    """The evidence in a core: no events, no ending."""
    return Evidence(
        emulator="qemu",
        cpus=core.cpus,
        memory=core.memory,
        limits=(NO_EVENTS, NO_EFER, *core.problems),
    )
