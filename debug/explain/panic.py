# SPDX-License-Identifier: BSD-2-Clause
"""What the guest says itself: panic, boot error, exception report, deliberate end."""

from __future__ import annotations

import re
from collections import deque
from itertools import takewhile
from typing import Optional, Sequence

from debug.evidence import Ending, EventKind, ExceptionEvent, IpiEvent, IpiKind
from debug.explain import kernel
from debug.explain import stages as stage
from debug.explain import uefi_report
from debug.explain.announced import announced
from debug.explain.code import in_wait_loop
from debug.explain.context import Machine
from debug.explain.findings import (
    ConsoleSays,
    DeliberateExit,
    DeliberateReset,
    ExceptionReported,
    InterruptFlood,
    InterruptStorm,
    KernelAbsent,
    LineHeld,
    PanicMessage,
)
from debug.explain.interrupted import in_handler
from debug.explain.model import Finding
from debug.explain.waiting import loop_body
from debug.x86.exceptions import PF
from debug.x86.modes import mode_of

_TAIL = 16384  # characters of the console that are searched
_LINE = 160  # characters of a line that are quoted
_HLT = b"\xf4"
_RECENT, _STORM = 64, 16  # of so many exceptions of a CPU, so many the same: a storm

_TRAPS = (1, 3, 4)  # #DB, #BP, #OF: they return behind what raised them

# A line that says the kernel gave up.  Words that a healthy boot prints too are left out.
_PANIC = re.compile(
    r"(?i)^.*(?:kernel panic|\bpanic(?:ked)?\b\s*(?::|at|!|on cpu \d)|unhandled exception|"
    r"(?-i:\bBUG: )|assertion .{0,60}failed|double fault|stack smashing detected).*$",
    re.MULTILINE,
)

# Lines that matter to a cause: topic and pattern.
_TOPICS: tuple[tuple[str, re.Pattern[str]], ...] = tuple(
    (topic, re.compile(pattern, re.IGNORECASE | re.MULTILINE))
    for topic, pattern in (
        (
            "copy",
            r"^.*(?:does not read back|reads? back|copy .{0,30}(?:differs|failed|mismatch)).*$",
        ),
        ("no-low-page", r"^.*no (?:free )?(?:low )?page .{0,40}(?:640|below|1 ?MiB).*$"),
        ("acpi", r"^.*(?:no (?:ACPI|RSDP|MADT)|MADT .{0,40}(?:checksum|not found|missing)).*$"),
        ("guard-page", r"^.*(?:guard page|stack overflow|stack overflowed).*$"),
        ("stack-canary", r"^.*(?:stack smashing|stack canary|stack protector).*$"),
        ("ipi-unanswered", r"^.*CPU .{0,40}(?:did not|does not|failed to) (?:answer|respond).*$"),
        ("panic-in-panic", r"^.*(?:panic inside panic|recursive (?:fault|panic)).*$"),
        ("gs-swapped", r"^.*\bGS base .{0,60}\bswapgs\b.*$"),
        ("no-tick", r"^.*timer .{0,30}(?:does not|did not|never) (?:tick|fire).*$"),
        ("option", r"^.*unknown (?:kernel )?option.*$"),
        ("loader", r"^.*(?:no multiboot header|without PVH ELF Note|not .{0,20}multiboot).*$"),
        ("too-many-cpus", r"^.*more CPUs than.*$"),
        (
            "no-long-mode",
            r"^.*(?:no (?:64-bit|long) mode|(?:64-bit|long) mode (?:is )?not (?:supported|available)|"
            r"not a 64-bit CPU|requires an x86-64 CPU).*$",
        ),
        (  # an IRQ pushes no error code: every slot of the frame is taken for its neighbour
            "df-without-error-code",
            r"^.*double fault[\s\S]{0,600}?\bE?rip[ :=]*(?:0x)?0*(?:8|10|18|20|28|30|38)\b",
        ),
        ("halted", r"^.*(?:system halted|safe to (?:turn|power|switch) off).*$"),
        (
            "kvm-emulation",
            r"^.*(?:KVM internal error|KVM: entry failed|Failed to put registers).*$",
        ),
        ("kvm-delivery", r"^KVM: physical address 0x[0-9a-f]+, .* was being delivered$"),
        ("ran-off-ram", r"^.*translator_access: Assertion .phys_page != -1.*$"),
        ("invalid-tss", r"^.*qemu: fatal: invalid tss.*$"),
    )
)

_REFUSALS = ("no-long-mode",)  # topics that are an end by themselves


def said(machine: Machine) -> tuple[Finding, ...]:
    """Facts from the console, the messages, the stages and the way the machine ended."""
    found: list[Finding] = []
    tail = f"{machine.evidence.console[-_TAIL:]}\n{machine.screen}"
    stages = [event for event in machine.evidence.stages]
    for event in stages:
        if event.code == stage.EXCEPTION:
            found.append(ExceptionReported(cpu_of(machine, event.apic_id), event.argument or 0))
    if (uefi := uefi_report.printed(machine.evidence.console)) is not None:
        found.append(ExceptionReported(cpu_of(machine, uefi.apic_id), uefi.vector, "UEFI"))
    reporters = [e for e in stages if e.code in (stage.PANIC, stage.BOOT_ERROR)]
    line = _report(_PANIC, tail)
    if reporters or line is not None:
        text = _whole(tail, line) if line is not None else _last_line(tail)
        who = reporters[0].apic_id if reporters else None
        found.append(PanicMessage(cpu_of(machine, who), text, who))
    messages = "\n".join(machine.evidence.messages)[-_TAIL:]
    for topic, pattern in _TOPICS:
        match = _report(pattern, tail) or pattern.search(messages)
        if match is not None:
            found.append(ConsoleSays(None, topic, clean(match.group(0))))
            if topic in _REFUSALS and not reporters and line is None:
                found.append(PanicMessage(None, clean(match.group(0))))
    if machine.evidence.ending is Ending.RESET:
        found.append(DeliberateReset(None))
    code = exit_code(machine)
    if machine.evidence.ending is Ending.EXITED:
        found.append(DeliberateExit(None, code))
    if (absent := _absent(machine)) is not None:
        found.append(absent)
    storm = _storm(machine)
    held = (*floods(machine), *lines(machine))
    return (*dict.fromkeys(found), *held, *([storm] if storm is not None else []))


def _report(pattern: re.Pattern[str], tail: str) -> Optional[re.Match[str]]:
    """The first match that reports, where others only tell of what was made ready."""
    return next((m for m in pattern.finditer(tail) if not announced(m.group(0))), None)


def exit_code(machine: Machine) -> Optional[int]:
    """What the guest ended with: by its own stage, else the emulator's exit code."""
    own = stage.argument(machine.evidence, stage.BSP_EXIT)
    return own if own is not None else machine.evidence.exit_code


def failed(machine: Machine) -> bool:
    """Whether the kernel ended itself and called that a failure."""
    own = stage.argument(machine.evidence, stage.BSP_EXIT)
    return own is not None and own not in (0, kernel.EXIT_OK)


def cpu_of(machine: Machine, apic_id: Optional[int]) -> Optional[int]:
    """The index of the CPU with this APIC ID."""
    if apic_id is None:
        return None
    return next((cpu.index for cpu in machine.cpus if machine.apic_id(cpu) == apic_id), None)


def clean(text: str) -> str:
    """One line of guest text, printable and short."""
    printable = "".join(c if c.isprintable() else " " for c in text)
    return " ".join(printable.split())[:_LINE]


def _whole(tail: str, line: re.Match[str]) -> str:
    """The line, and the next one where it only announces it."""
    text = clean(line.group(0))
    following = tail[line.end() : line.end() + _LINE].split("\n", 2)[1:2]
    return clean(f"{text} {following[0]}") if text.endswith(":") and following else text


def _last_line(text: str) -> str:
    lines = [clean(line) for line in text.splitlines() if not line.startswith("@")]  # no frames
    return next((line for line in reversed(lines) if line), "")


def _absent(machine: Machine) -> Optional[KernelAbsent]:
    """A BSP that lives and never came to 64-bit code, of a kernel that is not in memory.

    Who has started an AP is a kernel, wherever it lies.
    """
    images, bsp = machine.evidence.absent_images, machine.bsp
    if not images or bsp is None or machine.traced:
        return None
    if machine.evidence.ending in (Ending.TRIPLE_FAULT, Ending.RESTARTED):
        return None  # no loader waits: what died was something else, and the file is not its
    if any(_by_a_kernel(machine, ipi) for ipi in machine.kernel_ipis):
        return None
    mode = mode_of(bsp.registers)
    return None if mode.long else KernelAbsent(bsp.index, images[0], mode.value)


def _by_a_kernel(machine: Machine, ipi: IpiEvent) -> bool:
    """A SIPI to one CPU: firmware that is not told apart by its source sends them to all at once."""
    told = ipi.by_firmware is False
    one = machine.evidence.emulator == "qemu" and ipi.shorthand is None
    return ipi.kind is IpiKind.SIPI and (told or one)


def floods(machine: Machine) -> tuple[InterruptFlood, ...]:
    """CPUs whose last interrupts are one hardware interrupt, each at the same instruction.

    A CPU that waits for interrupts, in HLT or in a jump to itself, is interrupted there as well.
    """
    found = []
    for cpu in machine.cpus:
        own = [event for event in machine.last_events if event.cpu == cpu.index][-_RECENT:]
        if len(own) < _STORM or cpu.halted:
            continue
        last = own[-1]
        rip, vector = last.registers.rip, last.vector
        kinds = {(event.kind, event.vector, event.registers.rip) for event in own}
        if rip is None or kinds != {(EventKind.HARDWARE_INTERRUPT, vector, rip)}:
            continue
        at = machine.pc(last.registers) or rip
        before = machine.linear(last.registers).read(at - 1, 1)
        if before in (None, _HLT) or in_wait_loop(machine, last.registers) != (False, False):
            continue
        if loop_body(machine, last.registers):
            continue  # an emulator takes interrupts where a block of code begins: at each turn
        found.append(InterruptFlood(cpu.index, vector, machine.where(at), len(own)))
    return tuple(found)


def lines(machine: Machine) -> tuple[LineHeld, ...]:
    """Level-triggered interrupts that were taken, and whose line was active all the same."""
    return tuple(
        LineHeld(line.cpu, line.pin, line.vector, line.moments, line.open)
        for line in machine.evidence.held_lines
        if line.open > 1
    )


def _storm(machine: Machine) -> Optional[InterruptStorm]:
    """The last exceptions of a CPU are all the same one, at the same place or for the same reason.

    Of several such CPUs the one that began first.
    """
    by_cpu: dict[Optional[int], deque[ExceptionEvent]] = {}
    for event in machine.last_events:
        if event.kind is EventKind.EXCEPTION:
            by_cpu.setdefault(event.cpu, deque(maxlen=_RECENT)).append(event)
    found = (_storm_of(machine, events) for events in by_cpu.values())
    return next((storm for storm in found if storm is not None), None)


QEMU_REAL_MODE = "QEMU logs no registers: it was in real mode"


def _storm_of(machine: Machine, events: Sequence[ExceptionEvent]) -> Optional[InterruptStorm]:
    last = events[-1]
    rip = last.registers.rip
    if last.vector in _TRAPS:
        return None
    if rip is not None:
        times = sum(_same_fault(e, last) for e in events)
        if _over(machine, last):
            return None
        where = machine.pc(last.registers) or 0
        return InterruptStorm(last.cpu, last.vector, where, times) if times >= _STORM else None
    bare = machine.evidence.emulator == "qemu" and not last.registers.control
    bare = bare and not any(e.kind is EventKind.TRIPLE_FAULT for e in machine.last_events)
    if not last.reason and not bare:
        return None
    why = (last.vector, last.error_code, last.cr2, last.reason)
    times = sum((e.vector, e.error_code, e.cr2, e.reason) == why for e in events)
    if times < _STORM:
        return None
    return InterruptStorm(last.cpu, last.vector, None, times, clean(last.reason) or QEMU_REAL_MODE)


def _over(machine: Machine, last: ExceptionEvent) -> bool:
    """Whether the CPU has left that exception behind: a handler may mend what it is asked to.

    A probe of memory, or of an instruction, and a lazy switch of the FPU are raised again and again
    at one place, and each is handled.
    """
    cpu = machine.cpu(last.cpu)
    if cpu is None:
        return False
    own = (event for event in reversed(machine.last_events) if event.cpu == last.cpu)
    since = takewhile(lambda event: event.kind is EventKind.HARDWARE_INTERRUPT, own)
    if sum(1 for _ in since) >= _STORM:
        return True
    return in_handler(machine, cpu.registers, last.registers) is False


def _same_fault(one: ExceptionEvent, other: ExceptionEvent) -> bool:
    """Raised again: pages that are mapped one by one, when they are used, are another matter."""
    if (one.vector, one.registers.rip) != (other.vector, other.registers.rip):
        return False
    return one.vector != PF or one.cr2 == other.cr2
