# SPDX-License-Identifier: BSD-2-Clause
"""The exception that UEFI's own handler took and printed before it stopped the machine.

EDK II prints vector, error code and registers on its console and spins.  What is printed is the
guest's word: it counts as an exception that was seen where the frame is still on the stack of the
CPU that spins.  A file that holds nothing but the dump (debug.sources.uefi_files) has it as its one
event.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Optional

from debug.evidence import Evidence, Registers
from debug.explain.context import Machine
from debug.x86.modes import code_width
from debug.x86.uefi_dump import UefiDump, dumps

_TAIL = 16384  # characters of the console that are searched
_DEEP = 2048  # words of the stack: the handler has the FPU's state and a line of text on it
_FRAME = ("rip", "cs", "rflags", "rsp", "ss")  # as the CPU pushes them, in 32-bit code three


def printed(console: str) -> Optional[UefiDump]:
    """The last dump in a console; None if there is none."""
    found = dumps(console[-_TAIL:])
    return found[-1] if found else None


def note(console: str) -> str:
    """How the place of the exception gets a name; "" where UEFI did not find its image."""
    dump = printed(console)
    image = dump.image if dump is not None else None
    if dump is None or image is None or image.ip < image.base:
        return ""
    file = f" ({image.file})" if image.file else ""
    place = (
        f"{image.ip - image.base:#x} bytes into the image{file} that UEFI loaded at {image.base:#x}"
    )
    name = f"with --symbols ELF@{image.base:#x} (the ELF that it was made of, linked at 0) it has a name"
    if image.ip == dump.fields.get("rip"):
        return f"RIP is {place}: {name}"
    return f"{image.ip:#x}, on top of the stack, is {place}: the caller, if it was a call; {name}"


def recorded(evidence: Evidence) -> Evidence:
    """The evidence with the printed exception as the last one that was seen, if it was."""
    dump = printed(evidence.console)
    rip = dump.fields.get("rip") if dump is not None else None
    if dump is None or rip is None:
        return evidence
    machine = Machine(evidence)
    cpu = next((cpu for cpu in machine.cpus if machine.apic_id(cpu) == dump.apic_id), None)
    if cpu is None or not _borne_out(machine, cpu.registers, dump):
        return evidence
    last = next((e for e in reversed(machine.last_events) if e.cpu in (cpu.index, None)), None)
    if last is not None and (last.vector, last.registers.rip) == (dump.vector, rip):
        return evidence  # it was logged
    then = replace(
        cpu.registers,
        rip=rip,
        rflags=dump.fields.get("rflags"),
        general={**cpu.registers.general, **dump.general},
        control={**cpu.registers.control, **dump.control},
    )
    return replace(evidence, events=(*evidence.events, dump.event(then, cpu.index)))


def _borne_out(machine: Machine, now: Registers, dump: UefiDump) -> bool:
    """Whether the stack of the CPU that spins still holds the frame of what was printed."""
    width, rsp = code_width(now), now.get("rsp")
    if width not in (32, 64) or rsp is None:
        return False
    wanted = [dump.fields.get(name) for name in _FRAME[: 5 if width == 64 else 3]]
    data = machine.linear(now).some(rsp, _DEEP * width // 8)
    words = memoryview(data[: len(data) // 8 * 8]).cast("Q" if width == 64 else "I")
    return any(
        all(want in (None, word) for want, word in zip(wanted, words[at:]))
        for at in range(len(words) - len(wanted) + 1)
        if words[at] == wanted[0] and words[at + 1] == wanted[1]
    )
