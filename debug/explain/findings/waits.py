# SPDX-License-Identifier: BSD-2-Clause
"""Facts about waits whose end depends on CPUs: those that nobody started, those that do not exist."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

from debug.explain.findings.state import named
from debug.explain.model import Finding


@dataclass(frozen=True)
class NeverStarted(Finding):
    """The BSP waits, its trampoline lies ready, and no AP was ever sent anything."""

    page: int  # of the trampoline
    waiting: tuple[int, ...]  # the APs
    address: int  # that the BSP reads in its loop
    by_aps: tuple[str, ...]  # what writes there: code that only the trampoline leads to
    x2apic_write: str = ""  # where x2APIC mode's ICR is written, in a CPU not known to be in it
    icr: Optional[int] = None  # as the firmware left it
    mapped: Optional[int] = None  # where FEE00000H leads to, if not to the local APIC

    def sentences(self) -> tuple[str, ...]:
        names = ", ".join(map(str, self.waiting[:8]))
        lines = [
            f"CPU {names}: still waiting, and no INIT or SIPI was sent since the firmware's",
            f"a trampoline lies ready at {self.page:#x}, and nobody was started there",
        ]
        for place in self.by_aps[:2]:
            lines.append(
                f"CPU {self.cpu} waits for {self.address:#x}, which the APs write: {place}"
            )
        if not self.by_aps:
            lines.append(
                f"CPU {self.cpu} waits for {self.address:#x}, which no instruction near it names to"
                " write there"
            )
        if self.mapped is not None:
            lines.append(
                f"its page tables lead from 0xfee00000, the local APIC's address, to {self.mapped:#x}:"
                " what is written there reaches no APIC"
            )
        if self.icr is not None:
            lines.append(
                f"its ICR still holds {self.icr:#x}, the firmware's: if the kernel has sent one, its"
                " writes went elsewhere than to the local APIC's page"
            )
        if self.x2apic_write:
            lines.append(
                f"MSR 830H, the ICR of x2APIC mode, is written at {self.x2apic_write}: where the CPU has"
                " no x2APIC, or its local APIC is not in that mode, this sends nothing"
            )
        return tuple(lines)


@dataclass(frozen=True)
class AllCounted(Finding):
    """A CPU waits for a count of CPUs that is above the number of those that can count."""

    address: int
    name: str  # of the counter, "" if unknown
    where: str
    value: int
    wanted: int
    counted_at: str
    up: tuple[int, ...]  # the other CPUs
    behind: bool  # each of them stands behind the instruction that counts

    def sentences(self) -> tuple[str, ...]:
        what = named(self.name, self.address)
        names = ", ".join(map(str, self.up[:8]))
        passed = ", and has passed that instruction" if self.behind else ""
        each = "each CPU" if len(self.up) > 1 else "the only one"
        return (
            f"CPU {self.cpu} waits at {self.where} until {what} is {self.wanted}; it is {self.value}",
            f"it is counted up at {self.counted_at}",
            f"beside it the machine has CPU {names}: {each} is up{passed}",
            f"nobody else is there to count: this machine does not reach {self.wanted}",
        )


@dataclass(frozen=True)
class CpuLacks(Finding):
    """CPUs have counted themselves and wait until this one has done so, too."""

    address: int
    name: str  # of the counter, "" if unknown
    where: str
    value: int
    wanted: int
    counted_at: str
    inside: tuple[int, ...]
    absent: tuple[tuple[int, str], ...]  # the other CPUs, and what each does
    works: bool  # one of them may still come

    def sentences(self) -> tuple[str, ...]:
        what = named(self.name, self.address)
        names = ", ".join(map(str, self.inside[:8]))
        return (
            f"CPU {names} wait at {self.where} until {what} is {self.wanted}; it is {self.value}",
            f"it is counted up at {self.counted_at}",
            *(f"CPU {cpu} has not come to it: {doing}" for cpu, doing in self.absent[:4]),
        )


@dataclass(frozen=True)
class InterruptHeld(Finding):
    """An interrupt that a local APIC has accepted, and does not give to its CPU."""

    vector: int
    why: str
    doing: str  # the CPU
    off: bool  # by RFLAGS.IF
    in_service: Optional[int] = None  # the vector that holds it back
    priority: Optional[int] = None  # the task priority that does
    sender: Optional[int] = None  # a CPU that sent it last, and waits

    def sentences(self) -> tuple[str, ...]:
        sent: tuple[str, ...] = ()
        if self.sender is not None:
            sent = (f"CPU {self.sender} sent interrupt {self.vector:#x} last, and waits",)
        return (
            *sent,
            f"interrupt {self.vector:#x} is pending on CPU {self.cpu}, and is not taken: {self.why}",
            f"CPU {self.cpu} is {self.doing}",
        )


@dataclass(frozen=True)
class IpiLost(Finding):
    """The CPU's last IPI is an interrupt that no local APIC takes, or only its own."""

    icr: int
    vector: int
    destination: str
    why: str
    off: tuple[int, ...] = ()  # CPUs that it names, whose local APIC is off
    sure: bool = True  # False: in x2APIC mode it would be right

    def sentences(self) -> tuple[str, ...]:
        return (
            f"CPU {self.cpu} waits, and sent interrupt {self.vector:#x} last, to {self.destination}"
            f" (ICR {self.icr:#x})",
            self.why,
        )


@dataclass(frozen=True)
class CpuRefused(Finding):
    """A CPU halts for good where a test of what CPUID returned leads."""

    halted: str  # where
    leaf: int
    where: str  # of the jump
    test: str
    jump: str

    def sentences(self) -> tuple[str, ...]:
        return (
            f"CPU {self.cpu} halted at {self.halted} with interrupts off",
            f"a test of CPUID leaf {self.leaf:#x} leads straight there: `{self.test}`, then"
            f" `{self.jump}` at {self.where}",
        )


@dataclass(frozen=True)
class OtherPage(Finding):
    """The word that a CPU waits for is another one in the tables of another CPU."""

    address: int
    name: str  # of the word, "" if unknown
    physical: int
    value: int
    other: int  # CPU
    other_physical: int
    other_value: int

    def sentences(self) -> tuple[str, ...]:
        what = named(self.name, self.address)
        return (
            f"in the page tables of CPU {self.cpu}, {what} is physical address {self.physical:#x},"
            f" which holds {self.value:#x}",
            f"in those of CPU {self.other} it is {self.other_physical:#x}, which holds"
            f" {self.other_value:#x}",
        )
