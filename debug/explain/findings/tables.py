# SPDX-License-Identifier: BSD-2-Clause
"""Facts about page tables as a whole, and about handlers that fault themselves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

from debug.explain.model import Finding
from debug.x86.exceptions import vector


@dataclass(frozen=True)
class Cr3Misaligned(Finding):
    """CR3's low bits are not 0: the CPU walks the page below, not the table that was meant.

    `fits`: read from the address in CR3 itself, the tables map what faulted.
    """

    cr3: int
    walked: int
    fits: bool

    def sentences(self) -> tuple[str, ...]:
        lines = [
            f"CR3 is {self.cr3:#x}: its low 12 bits are no part of the address, the CPU walks the"
            f" table at {self.walked:#x}"
        ]
        if self.fits:
            lines.append(f"the tables that start at {self.cr3:#x} itself map the address")
        return tuple(lines)


@dataclass(frozen=True)
class LevelSkipped(Finding):
    """A PML4 entry leads to what looks like a page directory: pages 2 MiB apart in a row."""

    cr3: int
    entry: str  # "PML4[511]"
    table: int  # physical address
    first: int  # two neighbouring entries of it
    second: int

    def sentences(self) -> tuple[str, ...]:
        return (
            f"{self.entry} of CR3 {self.cr3:#x} leads to {self.table:#x}, whose entries"
            f" {self.first:#x}, {self.second:#x} … are pages of 2 MiB: a page directory where a PDPT"
            " belongs",
        )


@dataclass(frozen=True)
class RootIsPdpt(Finding):
    """The table at CR3, taken for a PDPT, maps the code and what faulted one to one."""

    cr3: int
    address: int
    rip: int

    def sentences(self) -> tuple[str, ...]:
        return (
            f"the table at CR3 {self.cr3:#x}, read as a PDPT, maps {self.address:#x} and the code at"
            f" {self.rip:#x} one to one; read as a PML4, it does not",
        )


@dataclass(frozen=True)
class LevelsMismatch(Finding):
    """CR4.LA57 does not fit the tables: walked with the other number of levels, they map it."""

    la57: bool
    address: int

    def sentences(self) -> tuple[str, ...]:
        now, other = ("five", "four") if self.la57 else ("four", "five")
        return (
            f"CR4.LA57 is {int(self.la57)}: the tables are walked with {now} levels; with {other}"
            f" they map {self.address:#x}",
        )


@dataclass(frozen=True)
class LargePageIgnored(Finding):
    """32-bit paging with CR4.PSE=0: a directory entry with PS=1 is taken for a page table's."""

    address: int
    index: int
    raw: int

    def sentences(self) -> tuple[str, ...]:
        return (
            f"PD[{self.index}], which maps {self.address:#x}, is {self.raw:#x}: PS is 1, and CR4.PSE"
            f" is 0: the CPU ignores PS and reads {self.raw & 0xFFFFF000:#x} as a page table",
        )


@dataclass(frozen=True)
class PaeTablesWithoutPae(Finding):
    """Tables of 8-byte entries, walked as those of 32-bit paging."""

    cr3: int
    rip: int
    entry: int  # PDPT[0]

    def sentences(self) -> tuple[str, ...]:
        return (
            f"CR0.PG=1, CR4.PAE=0, and CR3 {self.cr3:#x} holds PAE tables: read with 8-byte entries"
            f" (PDPT[0] is {self.entry:#x}) they map {self.rip:#x} to memory, with 4-byte entries not"
            " to the same",
        )


@dataclass(frozen=True)
class EdgeOfMap(Finding):
    """The page just below the one that faulted is mapped, and so are those before it."""

    address: int
    end: int  # the first linear address that is not mapped
    symbol: str

    def sentences(self) -> tuple[str, ...]:
        named = f"; {self.address:#x} is {self.symbol}" if self.symbol else ""
        return (f"the mapping ends at {self.end:#x}, below {self.address:#x}{named}",)


@dataclass(frozen=True)
class HandlerFaults(Finding):
    """A handler that faults itself, again and again, each time deeper in the stack."""

    vector: int
    rip: int
    where: str
    times: int
    first_recorded: bool  # what the first handler was entered for is recorded too

    def sentences(self) -> tuple[str, ...]:
        lines = [
            f"{vector(self.vector)} at {self.where or hex(self.rip)} came {self.times} times, each"
            " time deeper in the stack: the handler faults, and its fault is handled the same way"
        ]
        if not self.first_recorded:
            lines.append("what the first handler was entered for is no longer in the record")
        return tuple(lines)


@dataclass(frozen=True)
class HandlerUnreachable(Finding):
    """The handler's own first instruction can't be fetched."""

    vector: int
    handler: int
    truncated: Optional[str] = None  # the symbol whose low half the address is
    glued: bool = False  # the gate's last dword is not 0 where it must be: another gate is there

    def sentences(self) -> tuple[str, ...]:
        line = f"IDT[{self.vector}] names {self.handler:#x}, where nothing can be fetched"
        if self.glued:
            return (line, "the upper half of that address is another gate: gates of 8 bytes")
        if self.truncated:
            return (line, f"with the upper half put back it is {self.truncated}")
        return (line,)


@dataclass(frozen=True)
class TablesAbsent(Finding):
    """No memory answers at the address in CR3."""

    cr3: int
    bsp_cr3: Optional[int]

    def sentences(self) -> tuple[str, ...]:
        lines = [f"no memory answers at CR3 {self.cr3:#x}"]
        if self.bsp_cr3 is not None and self.bsp_cr3 != self.cr3:
            lines.append(
                f"the BSP has {self.bsp_cr3:#x}: this one is {self.cr3 - self.bsp_cr3:#x} higher"
                if self.cr3 > self.bsp_cr3
                else f"the BSP has {self.bsp_cr3:#x}"
            )
        return tuple(lines)


@dataclass(frozen=True)
class VectorTablePointer(Finding):
    """A pointer that is what the BIOS left at address 0: it was read through a base of 0."""

    value: int
    at: int
    base: str  # "GS base is 0" …

    def sentences(self) -> tuple[str, ...]:
        return (
            f"the pointer {self.value:#x} is what stands at address {self.at:#x}, in the BIOS's"
            f" vector table: {self.base}",
        )


@dataclass(frozen=True)
class StackZeroed(Finding):
    """The stack above RSP holds nothing but zeros: no frame, no return address."""

    rsp: int

    def sentences(self) -> tuple[str, ...]:
        return (
            f"the stack above RSP {self.rsp:#x} is all zeros: no frame, no return address, and a"
            " return from there leads to 0",
        )


@dataclass(frozen=True)
class CalledFrom(Finding):
    """A call went to where no code is: its return address is still on the stack."""

    target: int
    where: str
    call: str
    low: bool = False  # from below 640 KiB, where trampolines lie

    def sentences(self) -> tuple[str, ...]:
        return (f"`{self.call}` at {self.where} called it",)


@dataclass(frozen=True)
class UpperHalfLost(Finding):
    """An address that is not mapped, and is one of the kernel's with bits 63:32 set."""

    address: int
    fetch: bool
    register: str  # "GS base", where that is what lost them

    def sentences(self) -> tuple[str, ...]:
        whole = 0xFFFF_FFFF << 32 | self.address
        said = f"{self.address:#x} is not mapped, and {whole:#x} is: bits 63 to 32 were lost"
        return (said, f"{self.register} is without them") if self.register else (said,)


@dataclass(frozen=True)
class SharedTss(Finding):
    """Two CPUs whose TSS names the same stack, or which share the TSS itself."""

    other: int
    what: str  # "TSS", "IST 1" …
    address: int

    def sentences(self) -> tuple[str, ...]:
        return (
            f"CPU {self.cpu} and CPU {self.other} have the same {self.what}, {self.address:#x}",
        )


@dataclass(frozen=True)
class DirectionFlag(Finding):
    """RFLAGS.DF is 1 where compiled code runs [System V ABI "Registers"]."""

    where: str
    idle: bool

    def sentences(self) -> tuple[str, ...]:
        return (f"RFLAGS.DF is 1 at {self.where}: string instructions run downwards",)


@dataclass(frozen=True)
class ShiftedFrame(Finding):
    """The frame of an IRET starts 8 bytes above RSP."""

    rsp: int
    cs: int
    error: Optional[int] = None  # the word below it

    @property
    def refused_gate(self) -> Optional[int]:
        """The gate that the error code names."""
        return self.error >> 3 if self.error is not None and self.error & 6 == 2 else None

    def sentences(self) -> tuple[str, ...]:
        return (
            f"a whole frame (RIP, CS {self.cs:#06x}, RFLAGS) lies 8 bytes above RSP {self.rsp:#x}:"
            " an error code was left on the stack",
        )


@dataclass(frozen=True)
class UserBaseSwapped(Finding):
    """GS base and IA32_KERNEL_GS_BASE look exchanged."""

    gs_base: int
    kernel_gs_base: int

    def sentences(self) -> tuple[str, ...]:
        return (
            f"GS base is {self.gs_base:#x} and IA32_KERNEL_GS_BASE is {self.kernel_gs_base:#x}:"
            " exchanged by one SWAPGS too many, or too few",
        )


@dataclass(frozen=True)
class TssTruncated(Finding):
    """TR's base is the low half of an address at which something stands, and itself empty."""

    base: int
    whole: int

    def sentences(self) -> tuple[str, ...]:
        return (
            f"TR's base is {self.base:#x}, where no TSS is; with bits 63:32 set it is {self.whole:#x},"
            " where one is: the descriptor's upper half was not written",
        )


@dataclass(frozen=True)
class GdtLost(Finding):
    """The memory at GDTR's base is no GDT."""

    base: int
    limit: int
    why: str
    task: Optional[int]  # TR's selector, if it came from there

    def sentences(self) -> tuple[str, ...]:
        if self.task is None:
            return (self.why,)
        return (
            self.why,
            f"TR holds selector {self.task:#06x}, which LTR took from a table with that entry",
        )


@dataclass(frozen=True)
class IdtLost(Finding):
    """The memory at IDTR's base holds something, and nothing like a gate."""

    base: int
    limit: int
    first: str  # bytes

    def sentences(self) -> tuple[str, ...]:
        return (
            f"nothing at the IDT's base {self.base:#x}, up to its limit {self.limit:#x}, looks like a"
            f" gate; its first bytes that are not 0: {self.first}",
        )


@dataclass(frozen=True)
class PagesNotLarge(Finding):
    """Neighbouring entries whose pages would be large ones, without PS: taken for tables."""

    entry: str  # "PD[0]"
    first: int
    second: int
    size: int  # bytes from the one to the other

    def sentences(self) -> tuple[str, ...]:
        return (
            f"{self.entry} and the next one are {self.first:#x}, {self.second:#x}: addresses"
            f" {self.size >> 20} MiB apart, as of large pages, and PS (bit 7) is 0: the CPU takes what is"
            " there for page tables",
        )


@dataclass(frozen=True)
class SlotBeside(Finding):
    """The entry that an access needs is empty, and the one beside it is the only one near."""

    address: int
    entry: str  # "PML4[511]"
    other: int  # index of the neighbour
    raw: int

    def sentences(self) -> tuple[str, ...]:
        return (
            f"{self.entry}, which {self.address:#x} needs, is empty, and entry {self.other} beside it is"
            f" {self.raw:#x}: the slot may be off by one",
        )


@dataclass(frozen=True)
class Cr3FrameNumber(Finding):
    """CR3 is the number of a frame instead of its address."""

    cr3: int
    meant: int

    def sentences(self) -> tuple[str, ...]:
        return (
            f"CR3 is {self.cr3:#x}; shifted left by 12 bits it is {self.meant:#x}, where tables are that"
            " map the code: a frame's number was loaded, not its address",
        )


@dataclass(frozen=True)
class StackOverTable(Finding):
    """Return addresses stand in a table that the CPU uses: a stack has grown into it."""

    table: str  # "GDT", "IDT", "page table (PD[0])"
    base: int
    words: int

    def sentences(self) -> tuple[str, ...]:
        return (
            f"the {self.table} at {self.base:#x} holds {self.words} addresses of code that runs, as a"
            " stack does: a stack has grown into it",
        )
