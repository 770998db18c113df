# SPDX-License-Identifier: BSD-2-Clause
"""Paging: CR3 and the page tables."""

from __future__ import annotations

from typing import Optional

from debug.evidence import Evidence, Registers
from debug.explain import roots
from debug.explain.findings import (
    CpuDifference,
    FarJumpAstray,
    LongModeMissing,
    MapDifference,
    ModeTrap,
    ModeTrapKind,
    PageFault,
    Role,
    StageReached,
)
from debug.explain.model import Explanation, Status
from debug.failures import chapters
from debug.failures.row import Match, Matcher, Place, Row, certain, likely, possible
from debug.x86.page_entries import FRAME, IGNORED_HIGH, EntryFlag, Reason
from debug.x86.registers import Cr0

LOW = 1 << 32  # identity maps for bring-up lie below


def _first_fetch(explanation: Explanation) -> Optional[PageFault]:
    """The fetch fault right after paging was turned on, at an address that is low."""
    for fault in explanation.all(PageFault):
        if fault.role is Role.FETCH and fault.address < LOW and not fault.walk_succeeds:
            return fault
    return None


def _cr3_of_bsp(explanation: Explanation, fault: PageFault) -> Optional[CpuDifference]:
    return next((d for d in explanation.all(CpuDifference, fault.cpu) if d.register == "cr3"), None)


def _paging_began(explanation: Explanation, fault: PageFault) -> bool:
    """Paging had just been turned on: by the instruction before, or by the CPU's last stage."""
    reached = explanation.first(StageReached, fault.cpu)
    return fault.after_paging or (reached is not None and reached.code in (0x33, 0x34, 0xB4, 0xB5))


def _stale_segments(explanation: Explanation, fault: PageFault) -> bool:
    """What was loaded into CR3 may have been read through a segment of real mode's."""
    traps = explanation.all(ModeTrap, fault.cpu)
    return any(trap.kind is ModeTrapKind.STALE_SEGMENTS for trap in traps)


_OF_8_BYTES = ("PML", "PDPT")  # levels that 32-bit paging does not have


def _cr3_zero(evidence: Evidence, explanation: Explanation) -> Optional[Match]:
    for fault in explanation.all(PageFault):
        if fault.cr3 == 0 and fault.paging and not fault.walk_succeeds:
            if roots.built(evidence, 0, 8 if fault.level.startswith(_OF_8_BYTES) else 4):
                return None  # some kernels have their tables there
            if _stale_segments(explanation, fault):
                return likely(fault, extra=("CR3 is 0",))
            return certain(fault, extra=("CR3 is 0",))
    return _vectors_walked(evidence, explanation)


_IN_ROM = (0xC000, 0xFFFF)  # the segments that the BIOS's vectors name
_VECTORS = 32


def _vectors_walked(evidence: Evidence, explanation: Explanation) -> Optional[Match]:
    """With CR3 0 the BIOS's vectors are walked as tables, and what they map by chance is executed."""
    text = "CR3 is 0, and the BIOS's interrupt vectors are at address 0: they are no page tables"
    step = next((s for s in explanation.chain if s.registers is not None), None)
    if step is None and explanation.status is Status.UNKNOWN:
        cpu = next(
            (c for c in evidence.cpus if not c.halted and _pages_from_zero(c.registers)), None
        )
        if cpu is not None and _vectors_at_zero(evidence):
            return likely(cpu=cpu.index, extra=(text,))
    if step is None or step.registers is None or step.cpu != explanation.culprit:
        return None
    if not _pages_from_zero(step.registers) or not _vectors_at_zero(evidence):
        return None
    return certain(cpu=step.cpu, extra=(text,))


def _pages_from_zero(registers: Registers) -> bool:
    return registers.get("cr3") == 0 and bool((registers.get("cr0") or 0) & Cr0.PG)


def _vectors_at_zero(evidence: Evidence) -> bool:
    data = evidence.memory.read(0, 4 * _VECTORS)
    words = (int.from_bytes((data or b"")[at : at + 4], "little") for at in range(0, 128, 4))
    return sum(_IN_ROM[0] <= word >> 16 <= _IN_ROM[1] for word in words) * 2 >= _VECTORS


def _cr3_truncated(evidence: Evidence, explanation: Explanation) -> Optional[Match]:
    for fault in explanation.all(PageFault):
        other = _cr3_of_bsp(explanation, fault)
        if other is not None and other.mine == other.bsp & 0xFFFF_FFFF:
            return certain(fault, other)
    return None


def _cr3_wrong(evidence: Evidence, explanation: Explanation) -> Optional[Match]:
    fault = _first_fetch(explanation)
    if fault is None or not fault.cr3 or explanation.first(LongModeMissing, fault.cpu):
        return None
    other = _cr3_of_bsp(explanation, fault)
    if other is not None and other.mine == other.bsp & 0xFFFF_FFFF:
        return None
    mapped = next(
        (m for m in explanation.all(MapDifference, fault.cpu) if m.address == fault.address), None
    )
    if mapped is not None and _paging_began(explanation, fault):
        if roots.built(evidence, fault.cr3):
            return possible(fault, mapped)  # tables of its own, which lack that page
        return certain(fault, mapped)
    if other is not None and _paging_began(explanation, fault):
        return likely(fault, other)
    return None


def _identity(evidence: Evidence, explanation: Explanation) -> Optional[Match]:
    fault = _first_fetch(explanation)
    if fault is None or not fault.cr3 or fault.reason is not Reason.NOT_PRESENT:
        return None
    if explanation.first(FarJumpAstray, fault.cpu) is not None:
        return None  # it is not the next instruction
    if explanation.first(LongModeMissing, fault.cpu) or not _paging_began(explanation, fault):
        return None
    if _cr3_of_bsp(explanation, fault) is not None:
        if any(m.address == fault.address for m in explanation.all(MapDifference, fault.cpu)):
            if not roots.built(evidence, fault.cr3):
                return None  # another CR3 would have mapped it
            return likely(fault, extra=(_OWN,))
        if not fault.level:
            return None  # no table was found where CR3 points
        return likely(fault)
    if roots.empty(evidence, fault.cr3):
        return likely(fault, extra=(_EMPTY,))
    return certain(fault)


_OWN = "CR3 names tables, and others than the BSP's: they lack the page that executes, its have it"
_EMPTY = (
    "the page at CR3 is all zeros: the tables were not filled in, were overwritten, or are elsewhere"
    " and CR3 is wrong"
)


def _reason(*reasons: Reason) -> Matcher:
    """A matcher: the first page fault has one of these reasons."""

    def match(evidence: Evidence, explanation: Explanation) -> Optional[Match]:
        for fault in explanation.all(PageFault):
            if fault.reason in reasons and fault.cr3 != 0:
                if explanation.first(LongModeMissing, fault.cpu) is not None:
                    return None
                derived = bool(fault.level) or _cr3_of_bsp(explanation, fault) is None
                return certain(fault) if derived else likely(fault)
        return None

    return match


_P, _RW, _PS = (int(flag) for flag in (EntryFlag.P, EntryFlag.RW, EntryFlag.PS))


def _present_bit(evidence: Evidence, explanation: Explanation) -> Optional[Match]:
    """The entry that ended the walk of a fatal fault lacks P alone."""
    fault = explanation.first(PageFault, explanation.culprit)
    if fault is None or fault.reason is not Reason.NOT_PRESENT or fault.entry is None:
        return None
    entry = fault.entry
    filled = entry & _RW and (entry & FRAME or entry & _PS) and not entry & (_P | IGNORED_HIGH)
    if entry and not entry & 0xFFF and fault.depth > 1:
        # The address of the next table, and no flags.
        filled = any(roots.built(evidence, entry, size) for size in (8, 4))
    if not filled or _garbage(evidence, fault) or not explanation.chain:
        return None
    if explanation.first(LongModeMissing, fault.cpu) is not None:
        return None  # the walk is that of another mode's tables
    flags = _P if entry & _RW else _P | _RW
    return likely(fault, extra=(f"with P it would be {entry | flags:#x}",))


def _garbage(evidence: Evidence, fault: PageFault) -> bool:
    """Whether the entry that was refused names an address where there is no RAM: it is none."""
    if fault.entry is None or evidence.memory.read(0x1000, 1) is None:
        return False
    return evidence.memory.read(fault.entry & FRAME, 1) is None


def _not_tables(evidence: Evidence, explanation: Explanation) -> Optional[Match]:
    """Bit 63 in what is no entry at all is not what is wrong with it."""
    for fault in explanation.all(PageFault):
        if fault.reason is Reason.NX_WITHOUT_NXE and fault.cr3 and _garbage(evidence, fault):
            text = f"{fault.level} {fault.entry or 0:#x} names no address of RAM: it is no entry"
            return certain(fault, extra=(text,))
    return _reason(Reason.RESERVED_BIT)(evidence, explanation)


def _nxe(evidence: Evidence, explanation: Explanation) -> Optional[Match]:
    for fault in explanation.all(PageFault):
        if fault.reason is Reason.NX_WITHOUT_NXE and fault.cr3 != 0:
            if _garbage(evidence, fault):
                return None
            differs = next(
                (d for d in explanation.all(CpuDifference, fault.cpu) if d.register == "efer.nxe"),
                None,
            )
            return certain(fault, differs)
    return None


def _tables_changed(evidence: Evidence, explanation: Explanation) -> Optional[Match]:
    for fault in explanation.all(PageFault):
        if fault.walk_succeeds:
            return likely(fault)
    return None


ROWS = (
    Row(
        "cr3-zero",
        "CR3 is 0: the page tables were never set, or not yet written when the CPU read them",
        Place.PAGING,
        ("AP hangs before 64-bit", "triple fault when paging is enabled", "CR3=0"),
        "CR3 is 0 and the walk fails",
        "CR3 is the address of a PML4",
        "write the PML4's physical address into the trampoline's parameters before the SIPI",
        "Initializing IA-32e Mode",
        chapters.PAGING,
        ("PG-05", "AP2-02"),
        _cr3_zero,
        ("ap-cr3-zero",),
    ),
    Row(
        "cr3-truncated",
        "CR3 lost its upper half: the PML4 lies above 4 GiB and was loaded in 32-bit code",
        Place.PAGING,
        ("AP dies with more than 4 GiB of RAM", "AP hangs before 64-bit"),
        "the AP's CR3 is the low 32 bits of the BSP's",
        "the AP's CR3 is the BSP's",
        "give the APs a PML4 below 4 GiB: mov to CR3 takes 32 bits outside 64-bit mode",
        "Initializing IA-32e Mode",
        chapters.PAGING,
        ("PG-06",),
        _cr3_truncated,
    ),
    Row(
        "cr3-wrong",
        "CR3 does not hold the address of the kernel's page tables",
        Place.PAGING,
        ("AP hangs before 64-bit", "triple fault when paging is enabled", "page tables wrong"),
        "the fetch after CR0.PG fails, and the BSP's CR3 maps the same address",
        "the BSP's CR3 does not map it either, or what CR3 names are tables without that page",
        "load the physical address of the PML4: not a virtual one, not a lower table's",
        "Initializing IA-32e Mode",
        chapters.PAGING,
        ("PG-05", "PG-07", "PG-13", "AP2-04", "PG-21"),
        _cr3_wrong,
    ),
    Row(
        "identity-map-missing",
        "the code that turns paging on is not mapped at its own address",
        Place.PAGING,
        ("AP hangs before 64-bit", "triple fault right after mov cr0", "CR2 equals RIP"),
        "the fetch after CR0.PG fails at the address that is executing: an entry is not present",
        "the page is mapped one to one",
        "identity-map the page that executes until the CPU has jumped away from it; if it should be"
        " mapped, check that CR3 has the physical address of the tables, and that nothing clears them",
        "Initializing IA-32e Mode",
        chapters.PAGING,
        ("PG-04", "AP2-03"),
        _identity,
        ("ap-identity-map-missing", "bsp-identity-map-missing"),
    ),
    Row(
        "present-bit-missing",
        "an entry of the page tables is filled in, but for its P bit",
        Place.PAGING,
        ("PDE is 0x82", "entry ends in 2 instead of 3", "not present, though the entry is not 0"),
        "the entry that ended the walk has R/W and an address, or R/W and PS, or no flags at all and"
        " the address of a table, and P is 0",
        "the entry is 0, or none of the kernel's",
        "set bit 0: a table's entry ends in 3, a large page's in 83",
        "4-Level Paging and 5-Level Paging",
        chapters.PAGING,
        (),
        _present_bit,
        over=("identity-map-missing", "higher-half-unmapped", "page-fault-undelivered"),
    ),
    Row(
        "nxe-missing",
        "the page tables use bit 63 (no execute) and EFER.NXE is 0 on this CPU",
        Place.PAGING,
        ("#PF with a reserved bit", "AP dies on its stack", "error code 9 or b"),
        "an entry of the walk has bit 63 set while EFER.NXE=0",
        "EFER.NXE is 1",
        "set EFER.NXE on every CPU, in the same write as EFER.LME, before CR0.PG",
        "Page-Fault Exceptions",
        chapters.PAGING,
        ("PG-14", "AP2-05"),
        _nxe,
        ("ap-nxe-missing",),
    ),
    Row(
        "reserved-bit-set",
        "a paging entry has a reserved bit set: garbage, an address beyond the CPU's width, or a page"
        " of a size that it lacks",
        Place.PAGING,
        ("#PF with a reserved bit", "error code 9", "page tables not zeroed"),
        "an entry of the walk has a bit set that must be 0",
        "all reserved bits are 0",
        "zero the tables before they are used; mask flags out of addresses; ask CPUID for pages of"
        " 1 GiB",
        "Reserved bits",
        chapters.PAGING,
        ("PG-08", "PG-09", "PG-26"),
        _not_tables,
        ("nx-in-bit-51", "direct-map-1g"),
        over=("idt-unmapped",),
    ),
    Row(
        "page-size-misplaced",
        "PS is set in an entry that must point to a table",
        Place.PAGING,
        ("#PF with a reserved bit", "PS in the PML4"),
        "bit 7 is set in a PML4 entry (or PML5, or a PDPT entry without 1 GiB pages)",
        "bit 7 is 0 there",
        "set PS in PD entries only (in PDPT entries for 1 GiB pages)",
        "4-Level Paging and 5-Level Paging",
        chapters.PAGING,
        ("PG-10", "PG-12"),
        _reason(Reason.PS_MISPLACED),
        ("bsp-ps-in-pml4", "direct-map-1g"),
    ),
    Row(
        "large-page-misaligned",
        "a large page's address is not aligned to its size",
        Place.PAGING,
        ("#PF with a reserved bit", "2 MiB page at a 4 KiB address"),
        "address bits below the page's size are set in an entry with PS=1",
        "the address is aligned",
        "align the frame to 2 MiB (1 GiB), or clear PS and point to a table",
        "4-Level Paging and 5-Level Paging",
        chapters.PAGING,
        ("PG-11", "PG-13", "PG-17"),
        _reason(Reason.MISALIGNED_LARGE_PAGE),
        ("bsp-large-page-misaligned",),
    ),
    Row(
        "not-executable",
        "the CPU fetched from a page that is mapped no-execute",
        Place.PAGING,
        ("#PF with error code 11", "instruction fetch from an NX page"),
        "an entry of the walk has bit 63 set and EFER.NXE=1",
        "no entry of the walk has bit 63 set",
        "clear bit 63 at every level above code",
        "Access Rights",
        chapters.PAGING,
        ("PG-15",),
        _reason(Reason.NO_EXECUTE),
        ("ap-trampoline-nx", "text-nx"),
    ),
    Row(
        "write-to-read-only",
        "the CPU wrote to a page that is mapped read-only",
        Place.PAGING,
        ("#PF with error code 3", "dies when CR0.WP is set"),
        "an entry of the walk has R/W=0 and CR0.WP=1",
        "every entry of the walk has R/W=1",
        "map what is written (stack, data, GDT, TSS) writable",
        "Access Rights",
        chapters.PAGING,
        ("PG-16", "FW-05"),
        _reason(Reason.WRITE_PROTECTED),
        ("data-read-only", "stacks-read-only"),
    ),
    Row(
        "user-page-protection",
        "user and supervisor rights of a page do not fit the access",
        Place.PAGING,
        ("#PF with error code 5 or 7", "SMEP", "SMAP"),
        "U/S=0 for an access at CPL 3, or U/S=1 with SMEP or SMAP at CPL 0",
        "U/S fits the access",
        "set U/S at every level of a user page; open SMAP with stac around user accesses",
        "Access Rights",
        chapters.PAGING,
        ("PG-16", "AP2-05"),
        _reason(Reason.USER_SUPERVISOR, Reason.SMEP, Reason.SMAP),
    ),
    Row(
        "tables-changed-or-stale",
        "the page is mapped now: the tables changed since, or the TLB held an older entry",
        Place.PAGING,
        ("#PF although the page is mapped", "invlpg missing"),
        "the walk over memory as it was left allows the access that faulted",
        "the walk fails too",
        "flush the TLB after every change of a live entry, on every CPU; publish tables before use",
        "Invalidation of TLBs and Paging-Structure Caches",
        chapters.PAGING,
        ("PG-24", "AP2-04"),
        _tables_changed,
    ),
)
