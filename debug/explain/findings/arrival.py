# SPDX-License-Identifier: BSD-2-Clause
"""Facts about how the application processors were woken and how far they came."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

from debug.explain.findings.state import Contents
from debug.explain.model import Finding


@dataclass(frozen=True)
class StageReached(Finding):
    """The last stage that a CPU reported, and what the next step needs."""

    code: int
    name: str
    became: str
    needs: str

    def sentences(self) -> tuple[str, ...]:
        return (f"last stage {self.code:02x}: {self.became}", f"the next step needs: {self.needs}")


@dataclass(frozen=True)
class CpuSilent(Finding):
    """A CPU that reported no stage although other CPUs did."""

    apic_id: Optional[int]

    def sentences(self) -> tuple[str, ...]:
        return ("it reported no stage",)


@dataclass(frozen=True)
class WaitingForSipi(Finding):
    """A CPU in the wait-for-SIPI state [SDM 3A "MP Initialization Protocol Algorithm"]."""

    apic_id: Optional[int]
    firmware: bool  # parked by the firmware: not even an INIT took effect

    def sentences(self) -> tuple[str, ...]:
        if self.firmware:
            return ("it is still where the firmware parked it",)
        return ("it took INIT and still waits for a SIPI",)


@dataclass(frozen=True)
class InitMissing(Finding):
    """IPIs were observed and no INIT was among those for this CPU."""

    apic_id: Optional[int]

    def sentences(self) -> tuple[str, ...]:
        return (f"no INIT was sent to APIC ID {_id(self.apic_id)}",)


@dataclass(frozen=True)
class SipiMissing(Finding):
    """IPIs were observed and no SIPI was among those for this CPU."""

    apic_id: Optional[int]
    sent_to: tuple[int, ...]  # APIC IDs that were sent one

    def sentences(self) -> tuple[str, ...]:
        others = ", ".join(map(str, self.sent_to[:8]))
        tail = f"; SIPIs went to APIC ID {others}" if others else "; no SIPI was sent at all"
        return (f"no SIPI was sent to APIC ID {_id(self.apic_id)}{tail}",)


@dataclass(frozen=True)
class ShortMpTable(Finding):
    """The firmware's MP table lists fewer CPUs than there are."""

    listed: int
    there: int

    def sentences(self) -> tuple[str, ...]:
        return (
            f"the firmware's MP table lists {self.listed} of {self.there} CPUs: a kernel that reads"
            " it, and not ACPI's MADT, starts no others; on QEMU it has one of each socket"
            f" (-smp {self.there},sockets={self.there})",
        )


@dataclass(frozen=True)
class SipiReceived(Finding):
    """A SIPI was sent to this CPU."""

    apic_id: Optional[int]
    vector: int
    inits: int  # INITs sent to it before
    count: int

    def sentences(self) -> tuple[str, ...]:
        return (
            f"a SIPI with vector {self.vector:#04x} was sent to it: it starts at"
            f" {self.vector << 12:#x}",
        )


@dataclass(frozen=True)
class SipiVectorWrong(Finding):
    """The SIPI's page is not the page that holds the trampoline."""

    vector: int
    expected: Optional[int]  # page number of the trampoline, None if only known to be wrong
    how: str  # "reserved", "zero", "rom", "other"
    searched: bool = False  # `expected` was found by its code, not told by the kernel
    linked: bool = False  # it is gone: its image in the kernel is made to run there

    def sentences(self) -> tuple[str, ...]:
        line = f"the SIPI's vector {self.vector:#04x} starts the CPU at {self.vector << 12:#x}"
        if self.how == "reserved":
            return (line, "vectors a0 to bf are reserved: there is video memory, not RAM")
        if self.how == "rom":
            return (line, "from c0 on there is the firmware's ROM: the CPU executes the BIOS")
        if self.expected is not None and self.linked:
            there = f"the kernel holds a trampoline whose GDT and far jump are those of a copy at"
            return (line, f"{there} {self.expected << 12:#x}")
        if self.expected is not None and self.searched:
            there = f"code that looks like a trampoline is at {self.expected << 12:#x}"
            return (line, there)
        if self.expected is not None:
            return (line, f"the trampoline was copied to {self.expected << 12:#x}")
        return (line,)


@dataclass(frozen=True)
class IpiToNobody(Finding):
    """INIT or SIPI for an APIC ID that no CPU has."""

    destination: int
    known: tuple[int, ...]

    def sentences(self) -> tuple[str, ...]:
        ids = ", ".join(map(str, self.known[:16]))
        return (f"an IPI was sent to APIC ID {self.destination}; the CPUs have {ids}",)


@dataclass(frozen=True)
class TrampolineContents(Finding):
    """What the page that a SIPI named really holds."""

    page: int  # physical address
    contents: Contents
    begins: Optional[int] = None  # where other bytes begin within the page, if many do
    byte: Optional[int] = None  # of UNIFORM contents

    def sentences(self) -> tuple[str, ...]:
        line = f"the page at {self.page:#x} holds {self.contents.value}"
        if self.byte is not None:
            return (
                f"the page at {self.page:#x} holds the byte {self.byte:#04x} over and over",
                "memory is not like that by itself: somebody filled the page, before it was to hold"
                " the trampoline or since",
            )
        if self.begins is None:
            return (line,)
        return (f"{line} up to offset {self.begins:#x}, where other bytes begin",)


@dataclass(frozen=True)
class PageOverwritten(Finding):
    """The page that a SIPI named holds a filler, and a CPU ran through it before."""

    page: int
    ran: int  # APIC ID of a CPU that came up from it

    def sentences(self) -> tuple[str, ...]:
        return (f"APIC ID {self.ran} ran through the page at {self.page:#x} before",)


@dataclass(frozen=True)
class PageAltered(Finding):
    """Code in the trampoline's page is not what the kernel's own image has there."""

    page: int
    offset: int
    length: int
    image: str  # symbol

    def sentences(self) -> tuple[str, ...]:
        return (
            f"{self.length} bytes at {self.page + self.offset:#x} differ from {self.image}: code"
            f" at offset {self.offset:#x} of the trampoline was overwritten",
        )


@dataclass(frozen=True)
class PageEndsEarly(Finding):
    """The page holds zeros where the trampoline's pseudo-descriptor or GDT should be."""

    page: int
    what: str  # the part that is not there
    offset: int  # where it should be

    def sentences(self) -> tuple[str, ...]:
        return (
            f"{self.what} of the trampoline should be at {self.page + self.offset:#x}: the page holds"
            " zeros there",
        )


@dataclass(frozen=True)
class FarJumpAstray(Finding):
    """A far jump in the trampoline whose target holds no code, as far as anything tells."""

    at: int  # physical address of the instruction
    target: int
    page: int  # of the trampoline
    relocated: Optional[int]  # target plus page, if there is code; else None
    empty: bool = True  # False: something is there now
    adrift: bool = False  # the CPU has come far from there, and has no stack and no IDT

    def sentences(self) -> tuple[str, ...]:
        where = ", where no code can be" if self.empty else ""
        lines = [f"the far jump at {self.at:#x} leads to {self.target:#x}{where}"]
        if self.adrift:
            lines.append(
                "since then the CPU has loaded no stack (RSP is 0) and no IDT, and it is in no loop"
            )
        if self.relocated is not None:
            lines.append(f"there is code at {self.relocated:#x}: the page's address was not added")
        return tuple(lines)


@dataclass(frozen=True)
class JumpInRealMode(Finding):
    """The trampoline's far jump was executed with CR0.PE=0."""

    at: int  # physical address of the instruction
    selector: int
    target: int
    wrong: int  # where it led

    def sentences(self) -> tuple[str, ...]:
        return (
            f"it is in real mode with the trampoline's GDT loaded: CR0.PE is 0 behind the far jump"
            f" at {self.at:#x}",
            f"in real mode {self.selector:#x}:{self.target:#x} is no descriptor but the address"
            f" {self.wrong:#x}",
        )


@dataclass(frozen=True)
class StartedAgain(Finding):
    """The CPU was in its first stage more than once."""

    apic_id: Optional[int]
    times: int
    before: int  # the stage that it had reached before it began again

    def sentences(self) -> tuple[str, ...]:
        return (
            f"APIC ID {_id(self.apic_id)} entered the trampoline {self.times} times; it had"
            f" reached stage {self.before:02x} before it began again",
        )


@dataclass(frozen=True)
class InitAfterSipi(Finding):
    """The last IPI that could start or stop this CPU was an INIT."""

    apic_id: Optional[int]

    def sentences(self) -> tuple[str, ...]:
        return (f"APIC ID {_id(self.apic_id)} was sent an INIT after its last SIPI",)


@dataclass(frozen=True)
class BspRestarted(Finding):
    """The BSP ran the kernel's 64-bit code, and stands in the firmware now."""

    last: int  # its last stage
    rip: int
    mode: str

    def sentences(self) -> tuple[str, ...]:
        return (
            f"CPU {self.cpu} had reached stage {self.last:02x} in 64-bit mode and executes"
            f" {self.rip:#x} in {self.mode} now: it began again in the firmware",
        )


@dataclass(frozen=True)
class IpiUnseen(Finding):
    """The kernel says that it sent a SIPI, and the APIC was not given one."""

    destinations: tuple[int, ...]

    def sentences(self) -> tuple[str, ...]:
        ids = ", ".join(map(str, self.destinations[:16]))
        return (f"the kernel reports SIPIs to APIC ID {ids}, and its local APIC sent none",)


@dataclass(frozen=True)
class NeverExecuted(Finding):
    """The CPU stands on the first byte of its SIPI page and fetched nothing."""

    page: int

    def sentences(self) -> tuple[str, ...]:
        return (f"it stands at {self.page:#x} and has executed nothing since its SIPI",)


@dataclass(frozen=True)
class KernelGaveUp(Finding):
    """The BSP's own report that a CPU did not arrive (stage c6)."""

    apic_id: Optional[int]

    def sentences(self) -> tuple[str, ...]:
        return (f"the BSP gave up waiting for APIC ID {_id(self.apic_id)}",)


def _id(apic_id: Optional[int]) -> str:
    return "?" if apic_id is None else str(apic_id)


@dataclass(frozen=True)
class SentAstray(Finding):
    """A word of the trampoline's page that leads where a CPU executes what is no code."""

    at: int  # of the word
    value: int
    truncated: bool  # the whole word leads to code, and its low half is where the CPU went

    def sentences(self) -> tuple[str, ...]:
        line = f"the trampoline's page holds {self.value:#x} at {self.at:#x}"
        if self.truncated:
            return (f"{line}, where code is: the CPU went to its low half",)
        return (f"{line}: the CPU was sent there",)


@dataclass(frozen=True)
class HandedOver(Finding):
    """The jump that leaves the trampoline's page leads, as memory is now, to what is no code."""

    at: int  # linear address of the jump or call
    text: str  # of that instruction
    target: int
    source: Optional[int]  # address of the word that the target was read from; None: no such word
    there: str  # what the target holds

    def sentences(self) -> tuple[str, ...]:
        read = f", read at {self.source:#x}" if self.source is not None else ""
        return (
            f"`{self.text}` at {self.at:#x} leaves the trampoline for {self.target:#x}{read}",
            f"at {self.target:#x} there is {self.there}, and the CPU went on from there",
        )
