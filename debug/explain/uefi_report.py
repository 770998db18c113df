# SPDX-License-Identifier: BSD-2-Clause
"""The exception that UEFI's own handler took and printed before it stopped the machine.

EDK II prints vector, error code and registers on its console and spins.  What is printed is the
guest's word: it counts as an exception that was seen where the frame is still on the stack of the
CPU that spins.  [UEFI, "EFI_DEBUG_SUPPORT_PROTOCOL": EFI_SYSTEM_CONTEXT_X64 has the same registers]
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Mapping, Optional

from debug.evidence import GENERAL, EventKind, Evidence, ExceptionEvent
from debug.explain.context import Machine
from debug.explain.interrupted import frame_of
from debug.x86.exceptions import PF

_TAIL = 16384  # characters of the console that are searched
_BEGIN = re.compile(
    r"!!!! X64 Exception Type - ([0-9A-Fa-f]{2})\([^)\n]{1,40}\)\s+CPU Apic ID - ([0-9A-Fa-f]{8}) !!!!"
)
_FIELD = re.compile(r"\b([A-Z][A-Z0-9]{1,5}|ExceptionData)\s+- ([0-9A-Fa-f]{16})\b")
_IMAGE = re.compile(r"\(ImageBase=([0-9A-Fa-f]{16}), EntryPoint=[0-9A-Fa-f]{16}\)")
_CONTROL = ("cr0", "cr2", "cr3", "cr4", "cr8")


@dataclass(frozen=True)
class UefiReport:
    """What was printed: `fields` by their lower-case names; `image`: where RIP's image lies."""

    vector: int
    apic_id: int
    fields: Mapping[str, int]
    image: Optional[int]

    @property
    def note(self) -> str:
        """How the place gets a name; "" where UEFI did not find its image."""
        rip = self.fields.get("rip")
        if rip is None or self.image is None or rip < self.image:
            return ""
        return (
            f"RIP is {rip - self.image:#x} bytes into the image that UEFI loaded at {self.image:#x}:"
            f" with --symbols ELF@{self.image:#x} (the ELF that it was made of, linked at 0) it has a"
            " name"
        )


def printed(console: str) -> Optional[UefiReport]:
    """The last report in a console; None if there is none."""
    tail = console[-_TAIL:]
    begins = list(_BEGIN.finditer(tail))
    if not begins:
        return None
    text = tail[begins[-1].end() :]
    fields = {name.lower(): int(value, 16) for name, value in _FIELD.findall(text)}
    image = _IMAGE.search(text)
    return UefiReport(
        int(begins[-1][1], 16),
        int(begins[-1][2], 16),
        fields,
        int(image[1], 16) if image is not None else None,
    )


def recorded(evidence: Evidence) -> Evidence:
    """The evidence with the reported exception as the last one that was seen, if it was."""
    report = printed(evidence.console)
    if report is None:
        return evidence
    machine = Machine(evidence)
    cpu = next((cpu for cpu in machine.cpus if machine.apic_id(cpu) == report.apic_id), None)
    frame = frame_of(machine, cpu.registers) if cpu is not None else None
    if cpu is None or frame is None or frame.rip != report.fields.get("rip"):
        return evidence
    general = {name: report.fields[name] for name in GENERAL if name in report.fields}
    control = {name: report.fields[name] for name in _CONTROL if name in report.fields}
    then = replace(
        cpu.registers,
        rip=frame.rip,
        rflags=frame.rflags,
        general={**cpu.registers.general, **general},
        control={**cpu.registers.control, **control},
    )
    event = ExceptionEvent(
        EventKind.EXCEPTION,
        report.vector,
        then,
        report.fields.get("exceptiondata"),
        control.get("cr2") if report.vector == PF else None,
        cpu.index,
        while_delivering=-1,
    )
    return replace(evidence, events=(*evidence.events, event))
