# SPDX-License-Identifier: BSD-2-Clause
"""One machine, prepared for explaining: the evidence with the look-ups that every part needs."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Optional

from debug.evidence import (
    Cpu,
    Evidence,
    ExceptionEvent,
    IpiEvent,
    NoMemory,
    Registers,
    StageEvent,
    Symbol,
)
from debug.explain import stages as stage
from debug.explain.model import Trampoline
from debug.x86 import pe_image
from debug.x86.exceptions import PF, PageFaultCode
from debug.x86.linear import LinearMemory
from debug.x86.modes import Mode, linear_pc, mode_of
from debug.x86.page_entries import Reason

MAX_CPUS = 4096  # more than any machine here; a hostile list is cut
PAGE = 4096
BROADCAST = (0xFF, 0xFFFF_FFFF)  # destinations that name every CPU: xAPIC, x2APIC
SLIDE = 1 << 28  # a CPU that executes zeros for some seconds comes this far
_SCREEN, _COLUMNS, _ROWS = 0xB8000, 80, 25  # VGA's text mode
VECTORS = 0x500  # the BIOS's vectors and data end below
LOW_MEMORY = 0xA0000  # where conventional memory ends
VIDEO_MEMORY = range(LOW_MEMORY, 0xC0000)
_HIGH_ADDRESS = ((1 << 52) - 1) & ~((1 << 36) - 1)  # address bits that some CPUs lack
_SHAPE = (Reason.NX_WITHOUT_NXE, Reason.PS_MISPLACED, Reason.MISALIGNED_LARGE_PAGE)


@dataclass(frozen=True)
class Machine:
    """Evidence and what is looked up in it again and again."""

    evidence: Evidence

    @cached_property
    def cpus(self) -> tuple[Cpu, ...]:
        return self.evidence.cpus[:MAX_CPUS]

    @cached_property
    def stages(self) -> dict[int, list[StageEvent]]:
        """Stage events by APIC ID."""
        return stage.by_cpu(self.evidence.stages)

    @cached_property
    def bsp(self) -> Optional[Cpu]:
        """The CPU that booted: the one with a BSP stage, else the one with the BSP flag, else 0."""
        for cpu in self.cpus:
            if any(event.code in stage.BSP_CODES for event in self.stages_of(cpu)):
                return cpu
        for cpu in self.cpus:
            base = cpu.registers.get("apic_base")
            if base is not None and base & 1 << 8:
                return cpu
        return next((cpu for cpu in self.cpus if cpu.index == 0), None)

    @property
    def bsp_index(self) -> Optional[int]:
        return self.bsp.index if self.bsp is not None else None

    @cached_property
    def aps(self) -> tuple[Cpu, ...]:
        return tuple(cpu for cpu in self.cpus if cpu.index != self.bsp_index)

    def cpu(self, index: Optional[int]) -> Optional[Cpu]:
        """The CPU with this index, None if there is none."""
        return next((cpu for cpu in self.cpus if cpu.index == index), None)

    def apic_id(self, cpu: Cpu) -> int:
        """The CPU's APIC ID; its index where nothing tells it (QEMU's and Bochs's default)."""
        if cpu.apic_id is not None:
            return cpu.apic_id
        if cpu.apic is not None and cpu.apic.apic_id is not None:
            return cpu.apic.apic_id
        return cpu.index

    @cached_property
    def apic_ids(self) -> tuple[int, ...]:
        return tuple(self.apic_id(cpu) for cpu in self.cpus)

    def stages_of(self, cpu: Cpu) -> list[StageEvent]:
        """The stages of one CPU, in order."""
        return self.stages.get(self.apic_id(cpu), [])

    def last_stage(self, cpu: Cpu) -> Optional[int]:
        events = self.stages_of(cpu)
        return events[-1].code if events else None

    def reached(self, cpu: Cpu, code: int) -> bool:
        """Whether the CPU emitted stage `code`."""
        return any(event.code == code for event in self.stages_of(cpu))

    @cached_property
    def traced(self) -> bool:
        """Whether this guest speaks the stage protocol at all."""
        return bool(self.evidence.stages)

    @cached_property
    def tells_arrival(self) -> bool:
        """Whether the guest's stages say who came up: one with codes of its own may not."""
        return any(event.code in stage.ARRIVAL_CODES for event in self.evidence.stages)

    def linear(self, registers: Registers) -> LinearMemory:
        """The memory that a CPU with these registers sees."""
        bits, huge = self.paging_limits
        return LinearMemory(self.evidence.memory, registers, bits, huge, self.evidence.seen)

    @cached_property
    def paging_limits(self) -> tuple[Optional[int], Optional[bool]]:
        """(physical address bits, whether there are 1 GiB pages) of the CPU; None if not known.

        No register says it.  A page fault with RSVD set whose entries have no bit set that every
        CPU refuses does: an entry has an address bit that this CPU lacks, or is a 1 GiB page.
        """
        for event in self.last_events:
            reserved = event.vector == PF and (event.error_code or 0) & PageFaultCode.RSVD
            if not reserved or event.cr2 is None:
                continue
            found = LinearMemory(self.evidence.memory, event.registers).walk(event.cr2)
            if found is None or found.fault is not None and found.fault.reason in _SHAPE:
                continue
            high = 0
            for entry in found.entries:
                high |= entry.raw & _HIGH_ADDRESS
            if high:
                return (high & -high).bit_length() - 1, None
            if any(entry.level == "PDPT" and entry.large for entry in found.entries):
                return None, False
        return None, None

    def physical(self, address: int, length: int) -> Optional[bytes]:
        """Physical memory; None where it can't be read."""
        if address < 0 or length <= 0:
            return None
        data = self.evidence.memory.read(address, length)
        return data if data is not None and len(data) == length else None

    def symbol(self, address: Optional[int]) -> Optional[Symbol]:
        return None if address is None else self.evidence.symbols.lookup(address)

    def where(self, address: Optional[int]) -> str:
        """`name+0x12, file.c:40`, or the bare address, or ""."""
        found = self.symbol(address)
        if found is not None:
            return str(found)
        return "" if address is None else f"{address:#x}"

    def pc(self, registers: Registers) -> Optional[int]:
        """The linear address of the instruction pointer."""
        found = linear_pc(registers)
        return found if found is not None else registers.rip

    def maps(self, registers: Registers, address: int) -> Optional[bool]:
        """Whether the CPU's tables map a linear address; None if they can't be read."""
        walk = self.linear(registers).walk(address)
        if walk is None or (walk.fault is not None and walk.fault.reason is Reason.UNREADABLE):
            return None
        return walk.present

    def identity(self, registers: Registers, address: int) -> tuple[Optional[int], int]:
        """What two CPUs share, if it is equal for both: the physical address, else CR3 and linear.

        Kernels that give each CPU its own tables map what is its own at the same address.
        """
        walk = self.linear(registers).walk(address)
        if walk is not None and walk.physical is not None:
            return None, walk.physical
        return registers.get("cr3") or 0, address

    @cached_property
    def kernel_ipis(self) -> tuple[IpiEvent, ...]:
        """The IPIs that the kernel sent: what the firmware sent before is left out.

        While the BSP runs a UEFI driver no kernel has begun, and all of them are the firmware's.
        """
        if self.bsp is not None and self.in_uefi(self.bsp):
            return ()
        return tuple(ipi for ipi in self.evidence.ipis if not ipi.by_firmware)

    def in_uefi(self, cpu: Cpu) -> bool:
        """Whether the CPU runs 64-bit code of a UEFI driver."""
        if cpu.index not in self._found_in_uefi:
            self._found_in_uefi[cpu.index] = self._is_in_uefi(cpu.registers)
        return self._found_in_uefi[cpu.index]

    @cached_property
    def _found_in_uefi(self) -> dict[int, bool]:
        return {}

    def _is_in_uefi(self, registers: Registers) -> bool:
        """Memory is mapped one to one in the firmware [UEFI, "x64 Platforms"]: elsewhere is none."""
        at = self.pc(registers)
        if at is None or mode_of(registers) is not Mode.LONG64 or not self.has_memory:
            return False
        linear = self.linear(registers)
        walk = linear.walk(at)
        if walk is None or walk.physical != at:
            return False
        return pe_image.subsystem(linear, at) in pe_image.DRIVERS

    def ipis_for(self, cpu: Cpu) -> list[IpiEvent]:
        """The kernel's IPIs that one CPU was meant to take, in order."""
        apic_id = self.apic_id(cpu)

        def reaches(ipi: IpiEvent) -> bool:
            if ipi.shorthand == "all":
                return True
            source = ipi.source if ipi.source is not None else self.bsp_index
            if ipi.shorthand == "all-but-self":
                return cpu.index != source
            if ipi.shorthand == "self":
                return cpu.index == source
            return ipi.destination in (apic_id, *BROADCAST)

        return [ipi for ipi in self.kernel_ipis if reaches(ipi)]

    def sipi_page(self, cpu: Cpu) -> Optional[int]:
        """The page that this AP was started at, as its real-mode CS says; None if CS left it.

        CS keeps it when CR0.PE is set, up to the far jump.
        """
        code = cpu.registers.segments.get("cs")
        if code is None or cpu.index == self.bsp_index:
            return None
        if mode_of(cpu.registers) not in (Mode.REAL, Mode.PROTECTED16):
            return None
        matches = code.base == code.selector << 4 and code.base % PAGE == 0
        return code.base if matches and code.base < 0xE0000 else None

    @cached_property
    def trampoline(self) -> Optional[int]:
        """The page where the kernel put its trampoline: stage c0's argument; None if unknown.

        The stage is the kernel's own word; an IPI is not, since its vector may be the mistake.
        """
        return stage.argument(self.evidence, stage.BSP_TRAMPOLINE)

    @cached_property
    def likely_trampoline(self) -> Optional[Trampoline]:
        """The page that APs start in, from whatever tells; None if nothing does."""
        from debug.explain.trampoline_search import find

        return find(self)

    @cached_property
    def has_memory(self) -> bool:
        """Whether the source can read memory at all: the first pages of RAM always exist.

        Of fragments that a session shows, what is absent proves nothing.
        """
        if isinstance(self.evidence.memory, NoMemory):
            return False
        return any(self.physical(page, 1) is not None for page in (PAGE, 2 * PAGE, 0))

    @cached_property
    def screen(self) -> str:
        """The lines of VGA's text screen; "" where it can't be read, or shows no text."""
        data = self.physical(_SCREEN, 2 * _COLUMNS * _ROWS)
        if data is None:
            return ""
        text = "".join(chr(byte) if 32 <= byte < 127 else " " for byte in data[::2])
        rows = (text[at : at + _COLUMNS].rstrip() for at in range(0, len(text), _COLUMNS))
        return "\n".join(row for row in rows if row)

    @cached_property
    def last_events(self) -> tuple[ExceptionEvent, ...]:
        return self.evidence.events[-4096:]
