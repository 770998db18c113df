# SPDX-License-Identifier: BSD-2-Clause
"""Machines for tests, built from nothing: RAM, page tables, descriptor tables, CPUs, events."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field, replace
from typing import Any, Optional

from debug.evidence import (
    Cpu,
    Ending,
    EventKind,
    Evidence,
    ExceptionEvent,
    IpiEvent,
    IpiKind,
    Memory,
    NoMemory,
    Pic,
    Registers,
    Segment,
    StageEvent,
    Symbol,
    TableRegister,
)
from debug.stages.table import BUILT_IN

PAGE = 4096
TRAMPOLINE = 0x8000
GDT, IDT = 0x6000, 0x7000
KERNEL = 0xFFFFFFFF80000000  # linear; physical 0x100000 up
KERNEL_PHYSICAL = 0x100000
STACKS = 0xFFFFFFFFC0000000
PRESENT, WRITE, USER, LARGE, NX = 1, 2, 4, 0x80, 1 << 63

DESCRIPTORS = (0, 0x00AF9B000000FFFF, 0x00CF93000000FFFF, 0x00CF9B000000FFFF)
CODE64, DATA, CODE32 = 0x08, 0x10, 0x18


class Ram:
    """Sparse physical memory; zeros where nothing was written, None beyond its end."""

    def __init__(self, size: int = 32 << 20) -> None:
        self.size = size
        self.pages: dict[int, bytearray] = {}

    def write(self, address: int, data: bytes) -> None:
        for offset, byte in enumerate(data):
            at = address + offset
            self.pages.setdefault(at // PAGE, bytearray(PAGE))[at % PAGE] = byte

    def read(self, physical: int, length: int) -> Optional[bytes]:
        if not 0 <= physical <= physical + length <= self.size:
            return None
        blank = bytes(PAGE)
        first, last = physical // PAGE, (physical + max(length, 1) - 1) // PAGE
        joined = b"".join(bytes(self.pages.get(n, blank)) for n in range(first, last + 1))
        start = physical - first * PAGE
        return joined[start : start + length]


class Space:
    """4-level page tables in a Ram; tables are taken from `pool` upwards."""

    def __init__(self, ram: Ram, root: int) -> None:
        self.ram, self.root, self.next = ram, root, root + PAGE

    def entry_address(self, linear: int, level: int, make: bool = True) -> int:
        """Where the entry of `level` (3 = PML4 … 0 = PT) for `linear` lies."""
        table = self.root
        for depth in range(3, level, -1):
            where = table + (linear >> 12 + 9 * depth & 511) * 8
            (entry,) = struct.unpack("<Q", self.ram.read(where, 8) or bytes(8))
            if not entry & PRESENT:
                assert make, "no such table"
                entry = self.next | PRESENT | WRITE
                self.next += PAGE
                self.ram.write(where, struct.pack("<Q", entry))
            table = entry & 0xFFFFFFFFF000
        return table + (linear >> 12 + 9 * level & 511) * 8

    def set(self, linear: int, value: int, level: int = 0) -> None:
        self.ram.write(self.entry_address(linear, level), struct.pack("<Q", value))

    def map(self, linear: int, physical: int, pages: int = 1, flags: int = WRITE) -> None:
        for number in range(pages):
            self.set(linear + number * PAGE, physical + number * PAGE | flags | PRESENT)

    def unmap(self, linear: int, pages: int = 1) -> None:
        for number in range(pages):
            self.set(linear + number * PAGE, 0)


@dataclass
class SymbolTable:
    """Symbols: name → (linear address, size); of some also the source file."""

    known: dict[str, tuple[int, int]] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)

    def lookup(self, address: int) -> Optional[Symbol]:
        for name, (start, size) in self.known.items():
            if start <= address < start + size:
                file = self.files.get(name, "")
                return Symbol(name, address - start, file, 1 if file else 0)
        return None

    def address(self, name: str) -> Optional[int]:
        found = self.known.get(name)
        return found[0] if found else None


def segment(selector: int, base: int = 0, limit: int = 0xFFFFFFFF, flags: int = 0) -> Segment:
    return Segment(selector, base, limit, flags)


def registers(mode: str = "long", **values: Any) -> Registers:
    """Registers of a CPU in mode real, prot16, prot32 or long.

    Keywords: rip rflags gdtr idtr cs ss ds cpl, control registers, general registers.
    """
    control = {
        "real": {"cr0": 0x60000010, "cr3": 0, "cr4": 0, "efer": 0},
        "prot16": {"cr0": 0x11, "cr3": 0, "cr4": 0, "efer": 0},
        "prot32": {"cr0": 0x11, "cr3": 0, "cr4": 0, "efer": 0},
        "long": {"cr0": 0x80010013, "cr3": 0x10000, "cr4": 0x620, "efer": 0xD00},
    }[mode]
    code = {
        "real": segment(TRAMPOLINE >> 4, TRAMPOLINE, 0xFFFF, 0x9B00),
        "prot16": segment(TRAMPOLINE >> 4, TRAMPOLINE, 0xFFFF, 0x9B00),
        "prot32": segment(CODE32, flags=0xCF9B00 & 0xF0FF00),
        "long": segment(CODE64, flags=0xA09B00),
    }[mode]
    data = segment(DATA, flags=0xC09300)
    if mode in ("real", "prot16"):
        data = segment(TRAMPOLINE >> 4, TRAMPOLINE, 0xFFFF, 0x9300)
    segments = {name: data for name in ("ss", "ds", "es", "fs", "gs")} | {"cs": code}
    segments["tr"] = segment(0, limit=0xFFFF, flags=0x8B00)
    segments["ldt"] = segment(0, limit=0xFFFF, flags=0x8200)
    for name in ("cs", "ss", "ds", "es", "fs", "gs", "tr", "ldt"):
        if name in values:
            segments[name] = values.pop(name)
    general = {"rsp": 0, "rax": 0, "rcx": 0, "rdx": 0, "rbx": 0, "rbp": 0}
    gdtr = values.pop("gdtr", TableRegister(GDT, 0x1F))
    idtr = values.pop("idtr", TableRegister(IDT, 0xFFF))
    fixed = {name: values.pop(name) for name in ("rip", "rflags", "cpl") if name in values}
    for name, value in values.items():
        (general if name[0] == "r" else control)[name] = value
    return Registers(
        rip=fixed.get("rip", 0),
        rflags=fixed.get("rflags", 2),
        general=general,
        control=control,
        segments=segments,
        gdtr=gdtr,
        idtr=idtr,
        cpl=fixed.get("cpl", 0),
    )


NULL_IDT = TableRegister(0, 0)
RESET_IDT = TableRegister(0, 0xFFFF)


class Machine:
    """A two-CPU machine whose parts a test breaks one by one; as built it is healthy."""

    def __init__(self) -> None:
        self.ram = Ram()
        self.space = Space(self.ram, 0x10000)  # the kernel's tables: low and high
        self.space.map(0, 0, 256)
        self.space.map(KERNEL, KERNEL_PHYSICAL, 64)
        self.space.map(STACKS + PAGE, 0x300000, 4)  # the AP's stack above a guard page
        self.ap_space = Space(self.ram, 0x40000)  # another set, with low memory only
        self.ap_space.map(0, 0, 256)
        self.ram.write(GDT, struct.pack("<4Q", *DESCRIPTORS))
        for vector in range(256):
            self.gate(vector, KERNEL + 0x8000)
        self.ram.write(TRAMPOLINE, bytes.fromhex("fafceb38") + bytes(range(1, 251)) * 16)
        self.ram.write(KERNEL_PHYSICAL, bytes.fromhex("fbf4ebfc"))  # sti; hlt; jmp
        self.symbols = SymbolTable(
            {
                "idle": (KERNEL, 4),
                "ap_entry": (KERNEL + 0x1000, 0x100),
                "lcpu_start64": (TRAMPOLINE + 0x200, 0x200),
            }
        )
        idle = registers(rip=KERNEL + 2, rflags=0x202, rsp=KERNEL + 0x9000)
        self.bsp = Cpu(0, idle, apic_id=0, halted=True, executed=True, moved=False)
        ap_idle = registers(rip=KERNEL + 2, rflags=0x202, rsp=STACKS + 5 * PAGE - 16)
        self.ap = Cpu(1, ap_idle, apic_id=1, halted=True, executed=True, moved=False)
        self.events: list[ExceptionEvent] = []
        self.ipis: list[IpiEvent] = []
        self.stages: list[StageEvent] = []
        self.ending = Ending.STOPPED
        self.console = ""
        self.quiet: Optional[float] = None
        self.exit_code: Optional[int] = None
        self.expected: Optional[int] = None
        self.emulator = "qemu"
        self.messages: tuple[str, ...] = ()
        self.absent_images: tuple[str, ...] = ()
        self.pics: tuple[Pic, ...] = ()
        self.io_apics: Optional[tuple[tuple[int, ...], ...]] = None
        self.readable = True

    def gate(self, vector: int, offset: int, kind: int = 0x8E, selector: int = CODE64) -> None:
        low = offset & 0xFFFF | selector << 16 | kind << 40 | (offset >> 16 & 0xFFFF) << 48
        self.ram.write(IDT + vector * 16, struct.pack("<QQ", low, offset >> 32))

    def trace(self, apic_id: int, *codes: int | tuple[int, int]) -> "Machine":
        """Stages of one CPU; a pair (code, argument) for those that carry one."""
        for item in codes:
            code, argument = item if isinstance(item, tuple) else (item, None)
            self.stages.append(StageEvent(apic_id, code, argument, source="e9"))
        return self

    def boot_trace(self) -> "Machine":
        """The BSP's stages up to the SIPI, with the trampoline's page."""
        return self.trace(0, 0xB0, 0xB8, (0xC0, TRAMPOLINE), 0xC1, 0xC2, (0xC3, 1), (0xC4, 1))

    def sipi(self, vector: int = TRAMPOLINE >> 12, to: int = 1, init: bool = True) -> "Machine":
        if init:
            self.ipis.append(IpiEvent(IpiKind.INIT, 0, to, delivered=True))
        self.ipis.append(IpiEvent(IpiKind.SIPI, 0, to, vector=vector, delivered=True))
        return self

    def kill(
        self,
        regs: Registers,
        vector: int,
        error_code: Optional[int] = None,
        cr2: Optional[int] = None,
        cpu: int = 1,
    ) -> "Machine":
        """CPU `cpu` raises `vector` with `regs` and the machine triple-faults."""
        dead = self.ap if cpu == 1 else self.bsp
        dead = replace(dead, registers=regs, shutdown=True, halted=False)
        if cpu == 1:
            self.ap = dead
        else:
            self.bsp = dead
        self.events.append(ExceptionEvent(EventKind.EXCEPTION, vector, regs, error_code, cr2, cpu))
        if vector != 8:
            self.events.append(ExceptionEvent(EventKind.EXCEPTION, 8, regs, 0, cr2, cpu, vector))
        self.events.append(ExceptionEvent(EventKind.TRIPLE_FAULT, 8, regs, None, None, cpu))
        self.ending = Ending.TRIPLE_FAULT
        return self

    def stop(self, regs: Registers, **fields: Any) -> "Machine":
        """The AP stands at `regs`; `fields` are those of Cpu."""
        values: dict[str, Any] = {"halted": False, "moved": False, **fields}
        self.ap = replace(self.ap, registers=regs, **values)
        return self

    def without_memory(self) -> "Machine":
        """As a log tells it, which is all that one has of somebody else's kernel."""
        self.readable = False
        return self

    def evidence(self) -> Evidence:
        memory: Memory = NoMemory()
        if self.readable:
            memory = self.ram
        return Evidence(
            emulator=self.emulator,
            version="7.2",
            accelerator="tcg",
            ending=self.ending,
            exit_code=self.exit_code,
            cpus=(self.bsp, self.ap),
            events=tuple(self.events),
            ipis=tuple(self.ipis),
            stages=tuple(self.stages),
            memory=memory,
            symbols=self.symbols if self.readable else SymbolTable(),
            console=self.console,
            quiet=self.quiet,
            messages=self.messages,
            absent_images=self.absent_images,
            pics=self.pics,
            io_apics=self.io_apics,
            expected_cpus=self.expected,
            stage_table=BUILT_IN,  # our kernel, with its ELF file
        )
