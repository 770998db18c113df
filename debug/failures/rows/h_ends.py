# SPDX-License-Identifier: BSD-2-Clause
"""Ends that the guest chose itself, and what it says about them."""

from __future__ import annotations

from typing import Optional

from debug.evidence import Ending, Evidence
from debug.explain import kernel
from debug.explain import stages as stage
from debug.explain.findings import (
    BspInFirmware,
    BspRestarted,
    ConsoleSays,
    DeliberateExit,
    DeliberateReset,
    ExceptionReported,
    FirmwareDied,
    HaltedForever,
    InHandler,
    JumpInRealMode,
    KernelAbsent,
    OnlyFirmware,
    PanicMessage,
    WaitsFor,
)
from debug.explain.model import Explanation, Status
from debug.failures import chapters
from debug.failures.row import Match, Matcher, Place, Row, certain, likely, possible

# src/lib/exit.h: the ends that the kernel gives a number of their own.


def _end(topic: str, *codes: int) -> Matcher:
    """A matcher: the kernel ended with one of `codes`, or the console has a line on `topic`."""

    def match(evidence: Evidence, explanation: Explanation) -> Optional[Match]:
        told = next((f for f in explanation.all(ConsoleSays) if f.topic == topic), None)
        code = stage.argument(evidence, stage.BOOT_ERROR)
        if code is None:
            code = stage.argument(evidence, stage.BSP_EXIT)
        panic = explanation.first(PanicMessage)
        if code is not None and code in codes:
            return certain(told, panic, extra=(f"the kernel ended with code {code:#x}",))
        if told is not None and explanation.status in (Status.PANIC, Status.HANG, Status.UNKNOWN):
            return likely(told)
        return None

    return match


def _reset(evidence: Evidence, explanation: Explanation) -> Optional[Match]:
    found = explanation.first(DeliberateReset)
    if found is None or explanation.status is not Status.RESET:
        return None
    if (again := explanation.first(BspRestarted)) is not None:
        return possible(found, again)  # the firmware asked, which had not ended on purpose
    return certain(found)


def _panic(evidence: Evidence, explanation: Explanation) -> Optional[Match]:
    if explanation.status is not Status.PANIC:
        return None
    panic, reported = explanation.first(PanicMessage), explanation.first(ExceptionReported)
    if panic is None and reported is None:
        return None
    return certain(reported, panic)


def _failure_code(evidence: Evidence, explanation: Explanation) -> Optional[Match]:
    ended = explanation.first(DeliberateExit)
    if ended is None or explanation.status is not Status.PANIC:
        return None
    return certain(ended)


def _emulation(evidence: Evidence, explanation: Explanation) -> Optional[Match]:
    told = next((f for f in explanation.all(ConsoleSays) if f.topic == "kvm-emulation"), None)
    where = next((f for f in explanation.all(ConsoleSays) if f.topic == "kvm-delivery"), None)
    return likely(told, where) if told is not None else None


def _halted(evidence: Evidence, explanation: Explanation) -> Optional[Match]:
    """Every CPU that is awake halts with interrupts off: an end, on purpose or not."""
    halted = explanation.all(HaltedForever)
    if not halted or explanation.status not in (Status.HANG, Status.UNKNOWN):
        return None
    if evidence.ending is Ending.EMULATOR_DIED:
        return None  # a halt ends no emulator, and may be the firmware's
    stopped = {found.cpu for found in halted}
    waits = [wait for wait in explanation.all(WaitsFor) if stopped & set(wait.not_come)]
    handlers = explanation.all(InHandler)
    return likely(*halted[:4], *handlers[:2], *waits[:1], cpu=halted[0].cpu)


def _went_on(evidence: Evidence, at: int) -> bool:
    """Whether the CPU of a stage event lit another one whole after it."""
    torn = evidence.stages[at]
    later = evidence.stages[at + 1 :]
    return any(e.apic_id == torn.apic_id and not e.damaged for e in later)


def _torn(evidence: Evidence, explanation: Explanation) -> Optional[Match]:
    """Frames were torn although no CPU stopped inside one."""
    torn = [
        event
        for at, event in enumerate(evidence.stages)
        if event.damaged and (explanation.status is Status.HEALTHY or _went_on(evidence, at))
    ]
    if not torn or explanation.status not in (Status.HEALTHY, Status.MISSING_CPU):
        return None
    ids = sorted({event.apic_id for event in torn})
    if len(ids) < 2 and explanation.status is not Status.HEALTHY:
        return None  # that CPU may have stopped inside its frame
    text = f"{len(torn)} torn stage frames, of APIC IDs {', '.join(map(str, ids[:16]))}"
    return likely(extra=(text,))


def _absent(evidence: Evidence, explanation: Explanation) -> Optional[Match]:
    absent = explanation.first(KernelAbsent)
    return likely(absent) if absent is not None else None


def _firmware(evidence: Evidence, explanation: Explanation) -> Optional[Match]:
    if (died := explanation.first(FirmwareDied)) is not None:
        return likely(died)
    if explanation.status is not Status.UNKNOWN:
        return None
    only, found = explanation.first(OnlyFirmware), explanation.first(BspInFirmware)
    if found is None:
        return possible(only) if only is not None else None
    if explanation.first(JumpInRealMode, found.cpu) is not None:
        return None  # a kernel loaded a GDT, and came back by mistake
    return likely(found)


ROWS = (
    Row(
        "kernel-not-reached",
        "the machine has not come out of its firmware: nothing was booted, it died there, or it was not"
        " given time",
        Place.END,
        ("No bootable device", "stays in SeaBIOS", "nothing on the serial port"),
        "the BSP executes the BIOS when the machine is stopped, and no IPI of a kernel was seen; or"
        " every interrupt of a log came to the firmware; or a CPU shut down before the BIOS had"
        " booted anything",
        "it executes the kernel",
        "check the boot device and the image, and where the BIOS itself dies, the machine's settings"
        " and another BIOS image; a slow accelerator needs a longer --timeout; a kernel"
        " that calls the BIOS and waits there looks the same, and so does an image that UEFI refuses to"
        " start (its own console says why: signature, a section writable and executable)",
        "",
        chapters.FIRST_LIGHT,
        ("BLD-01", "FW-09"),
        _firmware,
        over=("no-sipi", "ap-waits-for-sipi", "ap-missing"),
    ),
    Row(
        "output-interleaved",
        "several CPUs write to the console at once, without a common lock",
        Place.RUNNING,
        ("output garbled", "letters of two CPUs mixed up", "torn frames"),
        "stage frames are torn although the CPUs that wrote them went on",
        "every frame is whole",
        "take one lock around each whole line or frame, in every writer",
        "Bus Locking",
        chapters.TOGETHER,
        ("AP4-14", "HANG-05"),
        _torn,
        ("console-not-locked",),
    ),
    Row(
        "low-memory-not-writable",
        "the trampoline's page does not hold what was written to it",
        Place.START,
        ("crash on memory write", "low memory not accessible", "copy reads back wrong"),
        "the kernel read the copy back and found other bytes",
        "the copy reads back intact",
        "choose a page that the memory map calls free RAM, and map it writable before the copy",
        "MP Initialization Protocol Algorithm for MP Systems",
        chapters.TRAMPOLINE,
        ("AP1-09", "AP1-12"),
        _end("copy", kernel.EXIT_TRAMPOLINE),
        ("low-memory-read-only",),
    ),
    Row(
        "no-low-page",
        "no free page below 640 KiB for the trampoline",
        Place.START,
        ("no free low page", "UEFI uses page 8"),
        "the kernel says that it found no page",
        "a page was found",
        "free a page below 640 KiB, or name one with trampoline= that the memory map calls free",
        "MP Initialization Protocol Algorithm for MP Systems",
        chapters.TRAMPOLINE,
        ("AP1-09",),
        _end("no-low-page", kernel.EXIT_NO_LOW_PAGE),
        ("ends-without-low-page",),
    ),
    Row(
        "acpi-tables-bad",
        "the ACPI tables that list the CPUs are missing or damaged",
        Place.START,
        ("only one CPU found", "MADT checksum", "RSDP not found"),
        "the kernel says that RSDP or MADT is missing or has a bad checksum",
        "the MADT is read",
        "take the RSDP from the boot loader (UEFI has none in low memory), check each checksum,"
        " and overwrite nothing before the tables are read",
        "Multiple APIC Description Table (MADT)",
        chapters.FINDING_CPUS,
        ("AP0-11", "FW-10"),
        _end("acpi", kernel.EXIT_NO_ACPI, kernel.EXIT_BAD_MADT),
        ("rsdp-not-found",),
    ),
    Row(
        "too-many-cpus",
        "the machine has more CPUs than the kernel has room for",
        Place.START,
        ("more CPUs than supported",),
        "the kernel says so",
        "there is room for every CPU",
        "raise NR_CPUS, or start fewer",
        "Local APIC ID",
        chapters.FINDING_CPUS,
        ("AP0-17",),
        _end("too-many-cpus", kernel.EXIT_TOO_MANY_CPUS),
    ),
    Row(
        "boot-option-unknown",
        "the command line has an option that the kernel does not know",
        Place.END,
        ("unknown option",),
        "the kernel says so",
        "every option is known",
        "correct the option; the README lists them",
        "",
        chapters.FIRST_LIGHT,
        (),
        _end("option", kernel.EXIT_BAD_OPTION),
        ("ends-with-unknown-option",),
    ),
    Row(
        "boot-loader-unknown",
        "the kernel was not started by a Multiboot loader, or got no memory map",
        Place.END,
        ("no multiboot header found", "not a Multiboot loader"),
        "the kernel or the loader says so",
        "the loader is Multiboot 1 or 2",
        "keep the header in the first 8 KiB (32 KiB for Multiboot 2) of the file",
        "",
        chapters.FIRST_LIGHT,
        ("FW-01",),
        _end("loader", kernel.EXIT_BAD_LOADER),
        ("no-multiboot-header",),
    ),
    Row(
        "kernel-not-loaded",
        "the kernel is not in memory: the boot loader did not load it, or waits",
        Place.END,
        ("no multiboot header found", "GRUB waits for a key", "nothing on any console"),
        "memory differs from the ELF file where its code belongs, and the BSP never was in 64-bit"
        " mode",
        "memory holds the kernel's code",
        "look at the screen: the loader says why; grub-file --is-x86-multiboot2 checks the header",
        "",
        chapters.FIRST_LIGHT,
        ("FW-01",),
        _absent,
        ("no-multiboot-header",),
        over=("no-sipi",),
    ),
    Row(
        "stack-smashed",
        "a stack canary was overwritten, or changed under a function that checks it",
        Place.RUNNING,
        ("stack smashing detected", "__stack_chk_fail"),
        "the console says so",
        "no such message",
        "look for an array that is too small in that function; set the canary before the first"
        " function that has one",
        "",
        chapters.STACKS,
        ("BLD-08", "STK-07"),
        _end("stack-canary"),
    ),
    Row(
        "hypervisor-cannot-emulate",
        "the hypervisor could not run or emulate what the CPU executes",
        Place.END,
        ("KVM internal error", "emulation failure", "KVM: entry failed, hardware error 0x80000021"),
        "the emulator reports an internal error of KVM, or that KVM refuses the CPU's state",
        "the emulator runs on",
        "run with -accel tcg: if the guest works there, it is the host; else look at RIP, which"
        " often lies in garbage",
        "",
        chapters.FIRST_LIGHT,
        ("FW-06",),
        _emulation,
    ),
    Row(
        "deliberate-reset",
        "the guest asked for a reset: keyboard controller, port 0xCF9 or ACPI",
        Place.END,
        ("machine reboots", "reset without a triple fault"),
        "the emulator reports a guest reset, and no CPU shut down",
        "a CPU shut down",
        "search the kernel for its reset path, and for who called it; code that opens A20 asks for one by"
        " mistake, with bit 0 of port 92H set, or bit 0 of the 8042's output port clear",
        "",
        chapters.FIRST_LIGHT,
        (),
        _reset,
        ("ends-with-reset", "ends-with-cf9-reset"),
    ),
    Row(
        "kernel-panic",
        "the kernel found a bug and stopped with a message",
        Place.END,
        ("panic", "unhandled exception"),
        "the kernel's panic stage or message",
        "the machine died without a word",
        "read the message; where it reports an exception, the causes beside this one explain it",
        "",
        chapters.EXCEPTIONS,
        (),
        _panic,
        ("ends-with-panic",),
        generic=True,
        over=("exit-with-failure",),
    ),
    Row(
        "exit-with-failure",
        "the guest ended itself with a code that means failure",
        Place.END,
        ("exit code", "isa-debug-exit"),
        "the stage cf carries a code that is not success",
        "the code is 0x10",
        "look the code up in the README",
        "",
        chapters.FIRST_LIGHT,
        (),
        _failure_code,
        generic=True,
    ),
    Row(
        "halted-forever",
        "a CPU executed HLT with interrupts off",
        Place.END,
        ("hang", "hlt with IF=0", "HLT instruction with IF=0"),
        "the CPU is halted and IF is 0",
        "an interrupt can wake the CPU",
        "where it is no end on purpose: sti before hlt, in that order and with nothing between",
        "HLT-Halt",
        chapters.WORKING,
        ("IRQ-07",),
        _halted,
        ("idle-interrupts-off",),
        generic=True,
    ),
)
