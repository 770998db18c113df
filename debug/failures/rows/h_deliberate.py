# SPDX-License-Identifier: BSD-2-Clause
"""More ends that the guest chose: halts that it announces, resets by triple fault, refusals."""

from __future__ import annotations

from typing import Optional

from debug.evidence import Evidence
from debug.explain import kernel
from debug.explain import stages as stage
from debug.explain.findings import (
    ConsoleSays,
    DeliveryFailed,
    ExceptionReported,
    HaltedForever,
    IdtEmptied,
    IdtState,
    IdtStatus,
    PanicMessage,
    WrittenEnd,
)
from debug.explain.findings.waits import CpuRefused
from debug.explain.model import Explanation, Status
from debug.failures import chapters
from debug.failures.row import Match, Matcher, Place, Row, certain, likely


def _code(*codes: int) -> Matcher:
    """A matcher: the kernel ended with one of `codes`."""

    def match(evidence: Evidence, explanation: Explanation) -> Optional[Match]:
        code = stage.argument(evidence, stage.BOOT_ERROR)
        if code is None:
            code = stage.argument(evidence, stage.BSP_EXIT)
        if code is None or code not in codes:
            return None
        text = f"the kernel ended with code {code:#x}"
        return certain(explanation.first(PanicMessage), extra=(text,))

    return match


def _said(topic: str) -> Matcher:
    """A matcher: the console has a line on `topic`."""

    def match(evidence: Evidence, explanation: Explanation) -> Optional[Match]:
        told = next((f for f in explanation.all(ConsoleSays) if f.topic == topic), None)
        return certain(told) if told is not None else None

    return match


def _announced(evidence: Evidence, explanation: Explanation) -> Optional[Match]:
    told = next((f for f in explanation.all(ConsoleSays) if f.topic == "halted"), None)
    halted, ended = explanation.all(HaltedForever), explanation.all(WrittenEnd)
    if told is None and ended and explanation.status is Status.HEALTHY:
        return likely(*ended[:2], cpu=ended[0].cpu)
    if told is None or not halted:
        return None
    if explanation.first(PanicMessage) or explanation.first(ExceptionReported):
        return None  # it halts because it gave up
    return certain(told, *halted[:4], cpu=halted[0].cpu)


def _by_triple_fault(evidence: Evidence, explanation: Explanation) -> Optional[Match]:
    """A breakpoint or ud2 with an IDT that was emptied on the spot, or after a whole one had served.

    `lidt; int3` is also how a new IDT is tried out, and its operand may not have been filled.
    """
    if (emptied := explanation.first(IdtEmptied)) is not None:
        text = "if this LIDT was to load a table, its operand was not filled: limit and base are 0"
        return likely(emptied, extra=(text,))
    failed, status = explanation.first(DeliveryFailed), explanation.first(IdtStatus)
    if failed is None or status is None or explanation.status is not Status.TRIPLE_FAULT:
        return None
    had_one = any(
        event.code in (stage.BSP_DESCRIPTORS, stage.AP_DESCRIPTORS) for event in evidence.stages
    )
    on_purpose = failed.vector in (3, 6) and not failed.raises == 14
    if status.state is not IdtState.NULL or not on_purpose or not had_one:
        return None
    view = explanation.view(failed.cpu)
    codes = view.stages if view is not None else ()
    if not set(codes) & {stage.BSP_DESCRIPTORS, stage.AP_DESCRIPTORS}:
        return None  # this CPU never had one
    text = "this CPU had a whole IDT before (its own stages say so): the null one was loaded since"
    return likely(failed, status, extra=(text,))


def _refused(evidence: Evidence, explanation: Explanation) -> Optional[Match]:
    found = explanation.first(CpuRefused)
    if found is None or explanation.status in (Status.HEALTHY, Status.TRIPLE_FAULT):
        return None
    return likely(found)


ROWS = (
    Row(
        "halted-on-purpose",
        "the guest ends by halting",
        Place.END,
        ("System halted", "it is now safe to turn off the computer"),
        "CPUs halt with interrupts off, and the console announced it, or CLI and HLT stand side by side and"
        " the last line that was written tells of no trouble",
        "nothing was written, or an exception came before",
        "nothing: it is an end; to end the emulator too, power off or write to its exit port",
        "HLT-Halt",
        chapters.FIRST_LIGHT,
        (),
        _announced,
        ("ends-with-halt",),
        over=("halted-forever", "kernel-panic"),
    ),
    Row(
        "reset-by-triple-fault",
        "the guest resets the machine by a triple fault that it made on purpose",
        Place.END,
        ("reboot=triple", "lidt of a null IDT before int3"),
        "a CPU that had a whole IDT executes int3 or ud2 with a null one, or a null one was loaded right"
        " before",
        "no IDT was loaded before, or the LIDT right before was to load the kernel's own: its operand is"
        " zero",
        "search the kernel for its reset path, and for who called it",
        "Interrupt 8-Double Fault Exception (#DF)",
        chapters.FIRST_LIGHT,
        (),
        _by_triple_fault,
        ("ends-with-triple-fault",),
        over=("idt-missing", "exception-without-idt", "unreachable-reached"),
    ),
    Row(
        "cpu-without-long-mode",
        "the kernel refuses a CPU that has no 64-bit mode",
        Place.END,
        ("no 64-bit mode", "this CPU is not supported", "qemu32"),
        "the console says so",
        "CPUID 80000001H EDX bit 29 is 1",
        "choose a CPU model with 64-bit mode, and qemu-system-x86_64, not -i386",
        "",
        chapters.FIRST_LIGHT,
        ("B32-07", "CPU-06"),
        _said("no-long-mode"),
        ("ends-on-32-bit-cpu",),
    ),
    Row(
        "cpu-lacks-feature",
        "the kernel halts without a word where a test of CPUID leads: this CPU lacks what it asks for",
        Place.END,
        ("halts right after cpuid", "cli; hlt in check_cpu", "works on real hardware only"),
        "a CPU halted with interrupts off, and a conditional jump behind CPUID leads straight there",
        "no test of CPUID leads to the halt",
        "choose a CPU model that has it (QEMU: -cpu max; what it has grows with its version, and some of"
        " it needs KVM), or let the kernel do without, and say what is missing",
        "HLT-Halt",
        chapters.FIRST_LIGHT,
        ("CPU-06",),
        _refused,
        over=("no-sipi", "halted-forever", "ap-missing", "ap-halted-early", "kernel-not-reached"),
    ),
    Row(
        "apic-mode-missing",
        "the APIC mode that was asked for does not exist on this CPU",
        Place.END,
        ("this CPU has no x2APIC",),
        "the kernel says so",
        "CPUID 1 ECX bit 21 is 1",
        "leave the option out, or choose a CPU model that has it",
        "",
        chapters.WAKING,
        ("AP0-08",),
        _code(kernel.EXIT_NO_APIC),
        ("ends-without-x2apic",),
    ),
    Row(
        "out-of-memory",
        "the machine has less memory than the kernel needs",
        Place.END,
        ("out of memory at boot", "no free memory"),
        "the kernel says so",
        "there is memory left",
        "give the machine more memory (-m)",
        "",
        chapters.FIRST_LIGHT,
        (),
        _code(kernel.EXIT_NO_MEMORY),
    ),
    Row(
        "selftest-failed",
        "the kernel's self-test found something that does not hold",
        Place.END,
        ("not ok", "self-test failed"),
        "the kernel ended with the code for it",
        "every line of the self-test begins with ok",
        "read the line that begins with not ok",
        "",
        chapters.TOGETHER,
        (),
        _code(kernel.EXIT_SELFTEST_FAILED),
        ("ends-with-failed-selftest",),
    ),
)
