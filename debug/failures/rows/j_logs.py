# SPDX-License-Identifier: BSD-2-Clause
"""Causes that registers or an emulator's words show; debug/failures/evident.py has their tests."""

from __future__ import annotations

from typing import Optional

from debug.evidence import Evidence
from debug.explain.findings import ModeTrap, ModeTrapKind, PageFault, SelectorFault
from debug.explain.model import Explanation, Status
from debug.failures import chapters
from debug.failures.row import Match, Place, Row, certain, likely
from debug.x86.refusals import Check

_NO_BASE_OR_LIMIT = 0xFF0F_00FF_FFFF_FFFF  # a descriptor's bits that hold them


def _by_clues(evidence: Evidence, explanation: Explanation) -> Optional[Match]:
    """No other proof than the clues."""
    return None


def _byte_of_code(evidence: Evidence, explanation: Explanation) -> Optional[Match]:
    """In long mode a jump to a code segment of one byte: only with L=1 does the limit not count.

    Or no code segment of the GDT is one of 64-bit mode.
    """
    for fault in explanation.all(SelectorFault):
        view = explanation.view(fault.cpu)
        if fault.check is not Check.OFFSET or view is None or "compatibility" not in view.mode:
            continue
        if fault.descriptor is not None and not fault.descriptor & _NO_BASE_OR_LIMIT:
            text = "EFER.LMA=1, and base and limit are 0: as only a 64-bit segment may have them"
            return certain(fault, extra=(text,))
    for trap in explanation.all(ModeTrap):
        if trap.kind is ModeTrapKind.NO_LONG_SEGMENT and explanation.status is not Status.HEALTHY:
            if not any(fault.after_paging for fault in explanation.all(PageFault, trap.cpu)):
                return likely(trap)
    return None


ROWS = (
    Row(
        "code-lost-with-cr3",
        "the page tables just loaded into CR3 do not map the code that loaded them",
        Place.PAGING,
        ("triple fault right after mov cr3", "CR2 equals RIP", "new address space"),
        "the fetch fails where CR3 has only just been loaded from a register",
        "the code is mapped in the new tables",
        "copy the kernel's entries of the top table into every new address space, and write it"
        " through an address that names that very frame",
        "Paging",
        chapters.PAGING,
        ("PG-04",),
        _by_clues,
    ),
    Row(
        "code-segment-l-missing",
        "the GDT's 64-bit code descriptor has L=0: the CPU fell into compatibility mode",
        Place.LONG64,
        ("registers are suddenly 32 bits wide", "CS32 with EFER.LMA=1", "retfq to the wrong mode"),
        "EFER.LMA=1, CS.L=0, and a GDT whose base only 64-bit code can have loaded, or in which no code"
        " segment has L=1",
        "CS.L is 1",
        "set L (bit 53) and clear D (bit 54) in the code descriptor: access 0x9a, flags 0xa",
        "Code-Segment Descriptor in 64-bit Mode",
        chapters.LONG_MODE,
        ("LM-01", "LM-02"),
        _byte_of_code,
    ),
    Row(
        "user-stack-unmapped",
        "a program's stack is not mapped",
        Place.RUNNING,
        ("#PF with error code 6 at the first push", "CR2 is ESP minus 4 in ring 3"),
        "at CPL 3 a push faults: not present",
        "the page below the stack pointer is mapped with U/S=1",
        "map the stack's last page before the program is entered; the pointer is the address above"
        " it",
        "Interrupt 14-Page-Fault Exception (#PF)",
        chapters.EXCEPTIONS,
        ("STK-02",),
        _by_clues,
    ),
    Row(
        "interrupts-nest",
        "an interrupt handler lets the same interrupt in again, until the stack is full",
        Place.RUNNING,
        ("stack overflow in the timer handler", "sti in an interrupt handler", "nested IRQ0"),
        "interrupts came one inside the other at the kernel's level, each deeper in one stack",
        "each interrupt ends before the next",
        "let no interrupt in before the frame of the one before is popped: EOI late, no sti on the"
        " way out, switch tasks with interrupts off",
        "Masking Maskable Hardware Interrupts",
        chapters.INTERRUPTS,
        (),
        _by_clues,
        over=("stack-overflow",),
    ),
    Row(
        "stack-in-code",
        "the stack reaches into the code that runs",
        Place.RUNNING,
        ("#UD in code that was fine", "RSP is next to RIP", "stack grew through .data into .text"),
        "the instruction pointer lies right above the stack pointer",
        "stack and code are apart",
        "give the stack room and a guard page below; look for large arrays and deep recursion",
        "Stacks",
        chapters.STACKS,
        ("STK-05", "STK-08"),
        _by_clues,
    ),
    Row(
        "ivt-as-pointer",
        "a null pointer was followed twice: page 0 is mapped, and its vector table was read",
        Place.RUNNING,
        ("CR2 is f000ff53", "EIP is f000ff53", "pointer f000e2c3"),
        "the pointer or the target is F000:xxxx, an entry of the BIOS's interrupt vector table",
        "the value comes from elsewhere",
        "look for the pointer that was null before; leave page 0 unmapped, so that the first use"
        " faults",
        "Interrupt 14-Page-Fault Exception (#PF)",
        chapters.INTO_C,
        ("ENT-03", "AP4-07"),
        _by_clues,
    ),
    Row(
        "null-segment-used",
        "memory was accessed through a segment register that holds a null selector",
        Place.RUNNING,
        ("#GP(0) at gs:0 after a system call", "segment registers are 0 in the handler"),
        "#GP(0) outside 64-bit mode while DS, ES, FS or GS is null",
        "the segment registers hold data segments",
        "load the kernel's data segments on entry; IRET to ring 3 nulls those whose DPL is below 3",
        "Segment Selectors",
        chapters.EXCEPTIONS,
        (),
        _by_clues,
    ),
    Row(
        "mmio-unmapped",
        "a device's registers or its frame buffer are not mapped",
        Place.RUNNING,
        ("#PF at fd000000", "#PF at the frame buffer", "CR2 in a PCI BAR"),
        "CR2 lies where a PC has its devices, counted from a register that holds the region's base",
        "the region is mapped",
        "map the device's region, uncached or write-combining, and check what the mapping function"
        " returns",
        "Interrupt 14-Page-Fault Exception (#PF)",
        chapters.PAGING,
        (),
        _by_clues,
    ),
    Row(
        "frame-as-pointer",
        "a page frame is accessed at its physical address, beyond the identity map",
        Place.RUNNING,
        ("#PF clearing a new page table", "works until more memory is allocated"),
        "a kernel that is mapped one to one fills a page whose address is not mapped",
        "the address is a mapped linear one",
        "map all RAM the allocator hands out, or a window for the frame, and convert addresses in"
        " one place",
        "Paging",
        chapters.PAGING,
        ("PG-27",),
        _by_clues,
    ),
    Row(
        "higher-half-wrong-frame",
        "the higher half is mapped to frames that do not hold the image",
        Place.LONG64,
        ("#UD right after the jump to the higher half", "link address and load address differ"),
        "#UD in the first code of the higher half, with the stack and the GDT still low",
        "the bytes at RIP are the image's",
        "map the higher half to where the image was loaded: virtual minus offset must be the"
        " physical address, for every segment of the ELF file",
        "4-Level Paging and 5-Level Paging",
        chapters.LONG_MODE,
        ("BLD-02",),
        _by_clues,
    ),
    Row(
        "pointer-unmapped",
        "a pointer was used that is not mapped",
        Place.GENERIC,
        ("#PF, CR2 is a register's value", "wild pointer"),
        "CR2 is a register's value or lies close to it",
        "the address does not come from a register",
        "look where that register was loaded: an argument, a field, or a saved frame pointer",
        "Interrupt 14-Page-Fault Exception (#PF)",
        chapters.INTO_C,
        (),
        _by_clues,
        generic=True,
        over=("kernel-panic",),
    ),
)
