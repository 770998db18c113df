# SPDX-License-Identifier: BSD-2-Clause
"""Facts about where a CPU stands and what it executes."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Optional

from debug.explain.model import Finding


class Contents(Enum):
    """What a run of bytes consists of."""

    ZEROS = "zeros"
    INT3 = "0xcc filler"
    ONES = "0xff bytes"
    VECTORS = "the BIOS's vectors and data"
    LOADER = "a boot loader's code, which reads a disk with INT 13H"
    UNIFORM = "one byte over and over"
    IMAGE = "the expected bytes"
    OTHER = "other bytes"


def named(name: str, address: int) -> str:
    """`name at 0x1234`, or the bare address."""
    return f"{name} at {address:#x}" if name else f"{address:#x}"


@dataclass(frozen=True)
class ExecutingFiller(Finding):
    """The CPU executes zeros, 0xCC or 0xFF instead of code."""

    rip: int  # linear
    contents: Contents
    width: int  # of the code segment: 16, 32, 64

    def sentences(self) -> tuple[str, ...]:
        note = {
            Contents.ZEROS: " (zeros decode as add [..], al and let a CPU slide on)",
            Contents.INT3: " (a page poisoned before use, or padding between functions)",
        }.get(self.contents, "")
        return (f"the bytes at {self.rip:#x} are {self.contents.value}{note}",)


@dataclass(frozen=True)
class StringRunsAway(Finding):
    """A string instruction has more to do than there are addresses."""

    where: str
    text: str
    pointer: str  # "RDI", "RSI"
    address: int  # in it
    count: int  # in RCX

    def sentences(self) -> tuple[str, ...]:
        below = (1 << 64) - self.count
        signed = f", which is -{below:#x}" if below < self.count else ""
        return (
            f"`{self.text}` at {self.where} has come to {self.pointer} {self.address:#x}, and RCX is"
            f" {self.count:#x}{signed}: there are not so many addresses",
        )


@dataclass(frozen=True)
class OutsideMemory(Finding):
    """The instruction pointer is where no RAM or ROM can be read."""

    rip: int
    video: bool = False  # in the window of video memory, as an address without its mapping says

    def sentences(self) -> tuple[str, ...]:
        if self.video:
            return (f"{self.rip:#x} is video memory, between the end of low RAM and the ROMs",)
        return (f"no memory can be read at {self.rip:#x}",)


@dataclass(frozen=True)
class OnlyFirmware(Finding):
    """A record that shows firmware alone."""

    firmware: str
    interrupts: int

    def sentences(self) -> tuple[str, ...]:
        return (
            f"the last {self.interrupts} interrupts of the record came to {self.firmware}, and no"
            " exception is in it",
            "a kernel that takes no interrupt and raises no exception leaves nothing in such a"
            " record: lamppost run looks at the registers too",
        )


@dataclass(frozen=True)
class FirmwareDied(Finding):
    """A CPU shut down before the firmware had handed over: no code of a kernel had run."""

    def sentences(self) -> tuple[str, ...]:
        return (
            "the BIOS had begun, and had not come to boot anything, when the CPU shut down",
            "what faulted is code of the firmware: no boot loader and no kernel had run",
        )


@dataclass(frozen=True)
class BspInFirmware(Finding):
    """The BSP executes the firmware, and nothing was seen of a kernel."""

    rip: int
    where: str
    mode: str
    screen: str = ""  # its last line

    def sentences(self) -> tuple[str, ...]:
        shown = (f'the last line on the screen is "{self.screen}"',) if self.screen else ()
        return (
            f"CPU {self.cpu} executes the firmware at {self.where or hex(self.rip)} in {self.mode}",
            "no INIT or SIPI of a kernel's and no lamp was seen",
            *shown,
        )


class Clock(Enum):
    """What a loop measures time by, and whether it runs whatever the guest has set up."""

    TSC = "the TSC"
    PIT = "the PIT's channel 0"
    ACPI = "the ACPI timer"
    HPET = "the HPET's counter"
    APIC = "the local APIC's timer"

    @property
    def runs(self) -> bool:
        """The other ones run once they are enabled, and stop."""
        return self in (Clock.TSC, Clock.PIT, Clock.ACPI)


@dataclass(frozen=True)
class Spinning(Finding):
    """A CPU that runs without making progress."""

    rip: int
    where: str
    pause: bool  # a spin-wait loop that says so (PAUSE nearby)
    self_jump: bool  # jmp $
    interrupts: bool  # IF
    clock: Optional[Clock] = None  # by which the loop ends
    stands: bool = False  # what is read of the clock is the same at each look

    def sentences(self) -> tuple[str, ...]:
        how = "jumps to itself" if self.self_jump else "runs in a loop"
        line = f"it {how} at {self.where or hex(self.rip)}"
        if self.clock is None:
            return (line,)
        if self.stands:
            read = f"what it reads of {self.clock.value} is the same at each look"
            return (line, f"the loop goes by {self.clock.value}: {read}, so that it does not run")
        if self.clock.runs:
            end = "which runs: the loop ends, unless its deadline is too far away"
        else:
            end = "which runs only if it was enabled"
        return (line, f"the loop goes by {self.clock.value}, {end}")


@dataclass(frozen=True)
class WaitsFor(Finding):
    """What a CPU in a loop reads again and again."""

    address: int  # linear
    size: int  # bytes
    value: int
    name: str  # of what lies there, "" if unknown
    test: str  # the instructions that read and compare
    where: str
    lock: bool  # the loop, or its function, changes it with an atomic instruction
    writers: tuple[tuple[int, str, str], ...]  # (address, place, instruction) outside the loop
    not_come: tuple[int, ...]  # CPUs that stand before one of them
    alone: bool = False  # interrupts are off and no other CPU executes anything: nobody can
    ticket: bool = False  # of a lock: its word tells whose turn it is, and 0 is a turn, too

    @property
    def held(self) -> bool:
        """Whether it is a lock that somebody has, or has not given back."""
        return self.lock and (self.ticket or bool(self.value))

    def sentences(self) -> tuple[str, ...]:
        what = named(self.name, self.address)
        lines = [f"CPU {self.cpu} waits at {self.where} for {what}, which holds {self.value:#x}"]
        lines.append(f"its loop reads it with: {self.test}")
        for address, place, text in self.writers:
            lines.append(f"it is written at {place or hex(address)}: {text}")
        if not self.writers:
            lines.append("no instruction near the loop names this address to write to it")
        if self.alone:
            lines.append(
                "interrupts are off and no other CPU executes anything: nobody can change it"
            )
        for other in self.not_come:
            lines.append(f"CPU {other} stands before such an instruction and does not come to it")
        return tuple(lines)


@dataclass(frozen=True)
class PortPolled(Finding):
    """A CPU that reads an I/O port again and again."""

    port: int
    device: str  # "" if the number alone says nothing
    input: bool  # it says whether somebody typed or sent something
    where: str

    def sentences(self) -> tuple[str, ...]:
        device = f", {self.device}" if self.device else ""
        return (f"CPU {self.cpu} reads port {self.port:#x}{device}, in a loop at {self.where}",)

    @property
    def note(self) -> str:
        """What a healthy machine does that waits for a person."""
        return f"{self.sentences()[0]}: it waits for input, with whatever locks it holds"


@dataclass(frozen=True)
class HaltedForever(Finding):
    """HLT with IF=0 [SDM 2 "HLT—Halt"]."""

    rip: Optional[int]
    where: str

    def sentences(self) -> tuple[str, ...]:
        place = self.where or (hex(self.rip) if self.rip is not None else "an unknown place")
        return (f"it executed HLT at {place} with interrupts off: only NMI, SMI or INIT wake it",)


@dataclass(frozen=True)
class WrittenEnd(Finding):
    """CLI and HLT side by side, executed after a last line that tells of no trouble."""

    where: str
    said: str

    def sentences(self) -> tuple[str, ...]:
        return (
            f"CLI and HLT stand side by side at {self.where}: it is no wait that forgot its STI",
            f'the last line on its console or screen is "{self.said}"',
        )


@dataclass(frozen=True)
class SaidBefore(Finding):
    """The last line of a kernel that jumps to itself now, and that tells of no trouble."""

    said: str

    def sentences(self) -> tuple[str, ...]:
        return (
            f'the last line on its console or screen is "{self.said}": small kernels and boot sectors end'
            " so on purpose; so does a wait for a flag that is not volatile, once it is compiled",
        )


@dataclass(frozen=True)
class SharedStack(Finding):
    """Two CPUs whose stack pointers lie in the same page."""

    other: int
    rsp: int
    other_rsp: int

    def sentences(self) -> tuple[str, ...]:
        return (
            f"RSP {self.rsp:#x} of CPU {self.cpu} and RSP {self.other_rsp:#x} of CPU"
            f" {self.other} lie in the same page",
        )


@dataclass(frozen=True)
class StackState(Finding):
    """The stack pointer of a CPU that died, against its page tables."""

    rsp: int
    null: bool
    canonical: bool
    mapped: Optional[bool]  # the page below RSP; None: not known
    guard_hit: bool = False  # it left a mapped stack downwards: an overflow
    at_bottom: bool = False  # it names the first byte of a mapped page, with nothing below
    source: str = ""  # "lcpus[1].stack" when RSP was found there
    taken: int = 0  # bytes that one function took, from a mapped stack to below it
    loaded: bool = False  # the code right before loads RSP with this number
    code_lost: bool = False  # nor is the code mapped now that the CPU was executing

    def sentences(self) -> tuple[str, ...]:
        if self.null:
            return ("RSP is 0: the CPU was given no stack",)
        lines = []
        if not self.canonical:
            lines.append(f"RSP {self.rsp:#x} is not canonical")
        elif self.taken:
            lines.append(
                f"RSP {self.rsp:#x} is below its stack: the function took {self.taken:#x} bytes at"
                f" once, and {self.rsp + self.taken:#x}, where RSP was, is mapped"
            )
        elif self.guard_hit:
            lines.append(
                f"RSP {self.rsp:#x} ran out of its stack: the page above is mapped,"
                " the one below is not"
            )
        elif self.at_bottom:
            lines.append(
                f"RSP {self.rsp:#x} is the lowest address of a mapped page and the page below is"
                " not mapped: a full stack, or a stack whose bottom was loaded instead of its top"
            )
        elif self.mapped is False:
            lines.append(f"RSP {self.rsp:#x} is not mapped in this CPU's page tables")
        if self.code_lost:
            lines.append(
                "nor is the code at RIP, which it was executing: the tables were cleared or overwritten"
                " while it used them"
            )
        if self.source:
            lines.append(f"RSP {self.rsp:#x} comes from {self.source}")
        return tuple(lines)
