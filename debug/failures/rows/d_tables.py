# SPDX-License-Identifier: BSD-2-Clause
"""Page tables that are wrong as a whole: the register that names them, their levels, their end."""

from __future__ import annotations

from dataclasses import replace
from typing import Optional

from debug.evidence import Evidence
from debug.explain.findings import (
    BadControlWrite,
    FarJumpAstray,
    Laxness,
    MapDifference,
    NonCanonical,
    PageFault,
    Role,
    SelectorFault,
)
from debug.explain.findings.tables import (
    Cr3FrameNumber,
    Cr3Misaligned,
    EdgeOfMap,
    LargePageIgnored,
    LevelSkipped,
    LevelsMismatch,
    PagesNotLarge,
    RootIsPdpt,
    SlotBeside,
    TablesAbsent,
    UpperHalfLost,
)
from debug.explain.model import Explanation, Status
from debug.failures import chapters
from debug.failures.row import Certainty, Match, Place, Row, certain, likely, possible, told_by
from debug.x86.page_entries import Reason
from debug.x86.refusals import Check

_HIGHER_HALF = 0xFFFF_8000_0000_0000


def _misaligned(evidence: Evidence, explanation: Explanation) -> Optional[Match]:
    found = explanation.first(Cr3Misaligned)
    if found is None:
        return None
    fault = explanation.first(PageFault, found.cpu)
    return certain(found, fault) if found.fits else possible(found, fault)


def _skipped(evidence: Evidence, explanation: Explanation) -> Optional[Match]:
    found = explanation.first(LevelSkipped)
    if found is None:
        root = explanation.first(RootIsPdpt)
        return None if root is None else likely(root, explanation.first(PageFault, root.cpu))
    symbol = evidence.symbols.lookup(found.cr3 & ~0xFFF)
    extra = (f"{found.cr3:#x} is {symbol}",) if symbol is not None else ()
    return certain(found, explanation.first(PageFault, found.cpu), extra=extra)


def _edge(evidence: Evidence, explanation: Explanation) -> Optional[Match]:
    """What faulted is part of the kernel's image, and the image is mapped up to just below it."""
    found = explanation.first(EdgeOfMap)
    if found is None or not found.symbol:
        return None
    return certain(explanation.first(PageFault, found.cpu), found)


def _window(evidence: Evidence, explanation: Explanation) -> Optional[Match]:
    """Data at an address of which not even the top level is there, from code that is mapped high."""
    for fault in explanation.all(PageFault):
        high = fault.address >= _HIGHER_HALF and fault.role is Role.DATA
        absent = fault.reason is Reason.NOT_PRESENT and fault.depth >= 4
        if not high or not absent or (fault.rip or 0) < _HIGHER_HALF:
            continue
        if evidence.symbols.lookup(fault.address) is not None:
            continue  # the kernel itself is missing
        if explanation.first(MapDifference, fault.cpu) is not None:
            continue
        text = f"the code at {fault.rip or 0:#x} is mapped, the window that it uses is not"
        return likely(fault, extra=(text,))
    return None


def _gdt(evidence: Evidence, explanation: Explanation) -> Optional[Match]:
    for fault in explanation.all(PageFault):
        if fault.role is Role.GDT and fault.reason is Reason.NOT_PRESENT:
            return certain(fault)
    for refused in explanation.all(SelectorFault):
        astray = explanation.first(FarJumpAstray, refused.cpu) is not None
        if refused.check is Check.TABLE_UNMAPPED and not refused.base_suspect and not astray:
            return certain(refused)
    return None


def _pseudo_descriptor(evidence: Evidence, explanation: Explanation) -> Optional[Match]:
    for write in explanation.all(BadControlWrite):
        if write.check is Check.NON_CANONICAL and write.register in ("lgdt", "lidt"):
            return certain(write)
    for lax in explanation.all(Laxness):
        if lax.check is Check.NON_CANONICAL and explanation.status is not Status.HEALTHY:
            if "GDTR" in lax.sentence or "IDTR" in lax.sentence:
                return replace(certain(lax), order=-1)
    return None


def _apart(evidence: Evidence, explanation: Explanation) -> Optional[Match]:
    """A pointer into the direct map whose sign was lost: the same bits, extended, are mapped."""
    for address in explanation.all(NonCanonical):
        if address.role is Role.DATA and address.address >> 47 == 1:
            text = f"with bits 63 to 48 set it would be {address.address | 0xFFFF << 48:#x}"
            return certain(address, extra=(text,))
    lost = next((f for f in explanation.all(UpperHalfLost) if not f.fetch), None)
    if lost is None or explanation.status is Status.HEALTHY:
        return None
    return likely(explanation.first(PageFault, lost.cpu), lost)


ROWS = (
    Row(
        "cr3-frame-number",
        "CR3 holds the number of the PML4's frame instead of its address",
        Place.PAGING,
        ("CR3 is a small number", "mov eax, pml4 >> 12"),
        "shifted left by 12 bits, CR3 is the address of tables that map the code",
        "CR3 is the tables' address",
        "load the address: CR3's bits 12 and up are the frame's number already",
        "Initializing IA-32e Mode",
        chapters.PAGING,
        ("PG-05",),
        told_by(Cr3FrameNumber, PageFault),
        over=(
            "cr3-wrong",
            "cr3-misaligned",
            "identity-map-missing",
            "reserved-bit-set",
            "nxe-missing",
        ),
    ),
    Row(
        "table-slot-wrong",
        "the tables map the kernel's half at another entry than its addresses need",
        Place.PAGING,
        ("triple fault at the jump to the higher half", "PML4 index off by one", "PD[767] for 768"),
        "the entry that the address needs is empty, and of those around it only its neighbour is not",
        "the entry is present, or none near it is",
        "take the index from the address: bits 47:39 for the PML4, bits 31:22 for a 32-bit directory",
        "4-Level Paging and 5-Level Paging",
        chapters.PAGING,
        ("LM-06", "PG-05"),
        told_by(SlotBeside, PageFault, certainty=Certainty.LIKELY),
        over=("higher-half-unmapped", "page-fault-undelivered", "exception-without-idt"),
    ),
    Row(
        "large-page-bit-missing",
        "entries that are to map large pages lack PS: the CPU takes the pages for page tables",
        Place.PAGING,
        ("triple fault when paging is enabled", "identity map with 0x3 instead of 0x83"),
        "present entries of a page directory are 2 MiB apart, and PS is 0 in them",
        "they lead to page tables",
        "set bit 7 (PS) in each entry that maps a large page: 0x83, not 0x03",
        "4-Level Paging and 5-Level Paging",
        chapters.PAGING,
        ("PG-21",),
        told_by(PagesNotLarge, PageFault),
        over=("identity-map-missing", "higher-half-unmapped", "reserved-bit-set", "la57-mismatch"),
    ),
    Row(
        "cr3-outside-memory",
        "CR3 is no address of RAM: a linear address, or a number that was cut off",
        Place.PAGING,
        (
            "triple fault when paging is enabled",
            "CR3 is a virtual address",
            "AP hangs before 64-bit",
        ),
        "no memory answers at the address in CR3",
        "CR3 is an address of RAM",
        "load the physical address of the PML4: subtract the window's base from the pointer",
        "Initializing IA-32e Mode",
        chapters.PAGING,
        ("PG-05",),
        told_by(TablesAbsent, PageFault),
        (
            "ap-cr3-virtual",
            "ap-parameter-at-link-address",
        ),
        over=("cr3-wrong", "identity-map-missing", "reserved-bit-set", "cr3-misaligned"),
    ),
    Row(
        "cr3-misaligned",
        "the PML4 does not start on a page: CR3 has no room for the low bits of its address",
        Place.PAGING,
        ("triple fault when paging is enabled", "PML4 not aligned", "page tables look shifted"),
        "CR3's low 12 bits are not 0, and the entries fit when read from the unaligned address",
        "CR3's low 12 bits are 0, or only PWT, PCD or a PCID",
        "align every table to 4 KiB; look for data that moved the section (padding, BYTE())",
        "4-Level Paging and 5-Level Paging",
        chapters.PAGING,
        ("PG-07", "BLD-09"),
        _misaligned,
        ("bsp-pml4-misaligned",),
        over=("identity-map-missing", "cr3-wrong"),
    ),
    Row(
        "pse-missing",
        "CR4.PSE is 0: 32-bit paging knows no pages of 4 MiB",
        Place.PAGING,
        ("dies at CR0.PG with 4 MiB pages", "executes zeros after paging", "entrypgdir"),
        "a directory entry on the way to RIP, RSP or CR2 has PS=1, and CR4.PSE is 0",
        "CR4.PSE is 1, or no entry has PS=1",
        "set CR4.PSE (bit 4) before CR0.PG, or use page tables",
        "32-Bit Paging",
        chapters.PAGING,
        (),
        told_by(LargePageIgnored, certainty=Certainty.LIKELY),
        over=(
            *("executing-zeros", "no-code-at-rip", "entry-null", "pointer-unmapped"),
            *("page-fault-undelivered", "invalid-opcode-undelivered", "stack-unmapped"),
            *("identity-map-missing", "higher-half-unmapped", "higher-half-wrong-frame"),
            *("local-apic-unmapped", "mmio-unmapped"),
        ),
    ),
    Row(
        "table-level-skipped",
        "a level of the page tables is missing: CR3 names a PDPT, or an entry skips a level",
        Place.PAGING,
        ("#PF with a reserved bit", "1 GiB page misaligned", "works low, dies in the higher half"),
        "what a PML4 entry leads to is a page directory: its entries are pages 2 MiB apart; or what"
        " faulted is mapped where the table at CR3 is read as a PDPT",
        "each level leads to the next lower one",
        "CR3 → PML4 → PDPT → PD → PT: check which table each address written is that of",
        "4-Level Paging and 5-Level Paging",
        chapters.EXCEPTIONS,
        ("PG-05", "PG-13"),
        _skipped,
        ("bsp-level-skipped", "bsp-cr3-names-pdpt"),
        over=(
            *("large-page-misaligned", "higher-half-unmapped", "identity-map-missing"),
            *("cr3-wrong", "local-apic-unmapped"),
        ),
    ),
    Row(
        "la57-mismatch",
        "CR4.LA57 does not fit the page tables: 4-level tables are walked with five levels",
        Place.PAGING,
        ("#PF right after mov cr0 on a new CPU", "5-level paging left on by the firmware"),
        "with the other number of levels the same CR3 maps the address",
        "the number of levels fits",
        "clear CR4.LA57 before paging is on, or put a PML5 above the PML4",
        "4-Level Paging and 5-Level Paging",
        chapters.PAGING,
        ("PG-17",),
        told_by(LevelsMismatch, PageFault),
        ("ap-la57",),
        over=("identity-map-missing", "cr3-wrong", "large-page-misaligned"),
    ),
    Row(
        "image-partly-mapped",
        "the kernel's image is larger than what is mapped of it",
        Place.PAGING,
        ("#PF just past the last mapped page", "dies when the kernel grows", "#PF in .bss"),
        "a symbol of the kernel faults, not present, and the pages up to just below it are mapped",
        "the page below is not mapped either",
        "map up to the linker's end symbol, .bss included",
        "4-Level Paging and 5-Level Paging",
        chapters.PAGING,
        ("PG-22",),
        _edge,
        ("bss-not-mapped",),
        over=("stack-unmapped", "idt-unmapped"),
    ),
    Row(
        "window-not-mapped",
        "memory was reached through a window that these page tables do not have",
        Place.PAGING,
        ("#PF CR2 = direct map + frame", "page tables through HHDM before the new CR3"),
        "data in the higher half faults at the top level, while the code itself is mapped high",
        "the top-level entry is present",
        "use the loader's or the boot tables' window until the CR3 with the new one is loaded;"
        " map what the loader's memory map calls RAM, frame 0 too",
        "4-Level Paging and 5-Level Paging",
        chapters.PAGING,
        ("PG-27", "FW-04", "FW-08"),
        _window,
        ("ap-window-elsewhere",),
        over=("higher-half-unmapped",),
    ),
    Row(
        "gdt-unmapped",
        "the GDT is not mapped in the page tables that the CPU uses",
        Place.LONG64,
        (
            "#PF with CR2 in the GDT",
            "dies at mov ds or iretq after the low half was unmapped",
            "dies at the first segment load after mov cr3",
        ),
        "the CPU read a descriptor at GDTR's base and the page is not present",
        "the GDT is mapped",
        "give GDTR the linear address that every address space maps, and reload it before the low"
        " half goes",
        "Global Descriptor Table (GDT)",
        chapters.LONG_MODE,
        ("LM-05", "AP2-01"),
        _gdt,
        ("gdt-at-physical-address",),
    ),
    Row(
        "pseudo-descriptor-bad",
        "the operand of lgdt or lidt is not 2 + 8 bytes: the base's upper half is garbage",
        Place.LONG64,
        ("#GP at lgdt", "GDTR base is garbage", "struct not packed"),
        "the base that was loaded is not canonical",
        "the base is canonical",
        "in 64-bit mode the operand is a 16-bit limit and a 64-bit base, packed",
        "LGDT/LIDT-Load Global/Interrupt Descriptor Table Register",
        chapters.LONG_MODE,
        ("LM-07", "IDT-10"),
        _pseudo_descriptor,
        ("pseudo-descriptor-32", "pseudo-descriptor-not-packed"),
    ),
    Row(
        "sign-extension-lost",
        "an address of the higher half lost its sign extension",
        Place.LONG64,
        ("#GP(0) without CR2", "0x0000800000000000"),
        "bit 47 of the address is 1 and bits 63 to 48 are 0; or bits 63 to 32 are 0, and with them set"
        " the address is mapped",
        "the upper bits hold something else",
        "write the constant with all 16 digits; sign-extend from bit 47 when an address is built"
        " from table indices; let no pointer go through 32 bits: an int, or WRMSR without EDX",
        "Canonical Addressing",
        chapters.INTO_C,
        ("LM-10",),
        _apart,
        ("ap-window-sign-lost",),
        over=("pointer-non-canonical", "gs-base-not-set", "mmio-unmapped", "frame-as-pointer"),
    ),
)
