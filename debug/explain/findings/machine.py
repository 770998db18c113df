# SPDX-License-Identifier: BSD-2-Clause
"""Facts about the whole machine: deliberate ends, differences between CPUs, laxness."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

from debug.explain.model import Finding
from debug.x86.refusals import Check


@dataclass(frozen=True)
class CpuDifference(Finding):
    """A register that should be the same on every CPU and is not."""

    register: str  # "cr3", "cr4.pae", "efer.nxe", "idt", "gdt" …
    bsp: int
    mine: int
    sentence: str

    def sentences(self) -> tuple[str, ...]:
        return (self.sentence,)


@dataclass(frozen=True)
class MapDifference(Finding):
    """An address that the BSP's page tables map and this CPU's do not."""

    address: int
    bsp_cr3: int
    cr3: int

    def sentences(self) -> tuple[str, ...]:
        return (
            f"the BSP's CR3 {self.bsp_cr3:#x} maps {self.address:#x}, this CPU's CR3"
            f" {self.cr3:#x} does not",
        )


@dataclass(frozen=True)
class Laxness(Finding):
    """The emulator let something pass that hardware refuses with `check`."""

    sentence: str
    check: Optional[Check] = None

    def sentences(self) -> tuple[str, ...]:
        return (self.sentence,)


@dataclass(frozen=True)
class Disagreement(Finding):
    """The observed exception is not the one that the rules give."""

    sentence: str

    def sentences(self) -> tuple[str, ...]:
        return (self.sentence,)


@dataclass(frozen=True)
class PanicMessage(Finding):
    """The guest says itself that it can't go on."""

    text: str
    apic_id: Optional[int] = None

    def sentences(self) -> tuple[str, ...]:
        return (f'the console says "{self.text}"',) if self.text else ("the kernel panicked",)


@dataclass(frozen=True)
class ExceptionReported(Finding):
    """An exception handler ran that says so: the kernel's own (stage e0), or the firmware's."""

    vector: int
    by: str = "the kernel"

    def sentences(self) -> tuple[str, ...]:
        return (f"{self.by} reported exception {self.vector}",)


@dataclass(frozen=True)
class ConsoleSays(Finding):
    """A line of the console or of the emulator that matters to a cause."""

    topic: str  # slug: "copy", "no-low-page", "acpi", "stack-canary", "assertion" …
    text: str

    def sentences(self) -> tuple[str, ...]:
        return (f'the console says "{self.text}"',)


@dataclass(frozen=True)
class DeliberateReset(Finding):
    """The guest asked for a reset; nothing faulted."""

    def sentences(self) -> tuple[str, ...]:
        return ("the guest asked for a reset; no CPU shut down",)


@dataclass(frozen=True)
class DeliberateExit(Finding):
    """The guest ended the machine through an exit device or power off."""

    code: Optional[int]

    def sentences(self) -> tuple[str, ...]:
        code = "" if self.code is None else f" with exit code {self.code}"
        return (f"the guest ended the machine on purpose{code}",)


@dataclass(frozen=True)
class KernelAbsent(Finding):
    """The BSP runs something else, and memory does not hold the kernel."""

    path: str
    mode: str

    def sentences(self) -> tuple[str, ...]:
        return (
            f"memory does not hold {self.path} where its code belongs",
            f"the BSP is in {self.mode} and has lit no lamp",
        )


@dataclass(frozen=True)
class InterruptFlood(Finding):
    """A hardware interrupt that is raised again before the interrupted code executes anything."""

    vector: int
    where: str
    times: int

    def sentences(self) -> tuple[str, ...]:
        return (
            f"interrupt {self.vector:#x} was taken {self.times} times in a row at {self.where}, and"
            " the code there did not go on in between",
        )


@dataclass(frozen=True)
class LineHeld(Finding):
    """A level-triggered interrupt that is taken again and again: its device goes on asking."""

    pin: int
    vector: int
    moments: int
    open: int

    def sentences(self) -> tuple[str, ...]:
        return (
            f"pin {self.pin} of the I/O APIC is level-triggered, and its line was active in all"
            f" {self.moments} moments that were looked at",
            f"in {self.open} of them CPU {self.cpu} was to take its interrupt {self.vector:#x} at"
            " once: it was taken in between, and the device asks on",
        )


@dataclass(frozen=True)
class InterruptStorm(Finding):
    """The same exception again and again, delivered each time."""

    vector: int
    rip: Optional[int]  # None: the source tells no addresses, but the same reason each time
    times: int
    reason: str = ""  # the emulator's own word

    def sentences(self) -> tuple[str, ...]:
        place = f"at {self.rip:#x}" if self.rip is not None else f'in a row: "{self.reason}"'
        return (f"vector {self.vector:#x} was raised {self.times} times {place}",)
