# SPDX-License-Identifier: BSD-2-Clause
"""Control registers, EFER and MSRs on the way to long mode."""

from __future__ import annotations

from typing import Optional

from debug.evidence import Evidence
from debug.explain.findings import (
    BadControlWrite,
    FatalException,
    Laxness,
    LongModeMissing,
    PageFault,
    SelectorFault,
    StageReached,
)
from debug.explain.findings.tables import PaeTablesWithoutPae
from debug.explain.model import Explanation, Status
from debug.failures import chapters
from debug.failures.row import Match, Matcher, Place, Row, certain, likely
from debug.x86.refusals import Check
from debug.x86.registers import Cr0, Cr4, Efer

LONG_CODE = 1 << 53  # a descriptor's L bit
_REFUSED_WITHOUT_PAE = "without enabling CR4.PAE"  # Bochs at the MOV to CR0, in any mode
_LAST = 16  # events: real mode's handler may raise the exception again
_X2APIC = frozenset(f"{number:x}" for number in range(0x800, 0x900))
_EVERY_LONG_MODE = Cr4.LA57 - 1 & ~Cr4.UMIP  # what each CPU with long mode has in CR4
_TO_LONG_MODE = ("cr0", "cr4", "efer")


def _control(check: Check, register: str = "") -> Matcher:
    """A matcher: a control register write that failed `check`, or that the emulator let pass."""

    def match(evidence: Evidence, explanation: Explanation) -> Optional[Match]:
        for write in explanation.all(BadControlWrite):
            if write.check is check and register in ("", write.register):
                return certain(write)
        for lax in explanation.all(Laxness):
            if lax.check is check and explanation.status is not Status.HEALTHY and not register:
                return certain(lax)
        return None

    return match


def _pae(evidence: Evidence, explanation: Explanation) -> Optional[Match]:
    """As `_control`; where the write left no trace, the CPU's own stage must say that it was."""
    for lax in explanation.all(Laxness):
        if lax.check is not Check.PAE_MISSING or explanation.status is Status.HEALTHY:
            continue
        reached = explanation.first(StageReached, lax.cpu)
        view = explanation.view(lax.cpu)
        stages = view.stages if view is not None else ()
        if "ignores" in lax.sentence and not {0x34, 0xB5} & set(stages):
            return likely(lax, reached)
        return certain(lax, reached)
    for event in reversed(evidence.events[-_LAST:]):
        if _REFUSED_WITHOUT_PAE in event.reason and explanation.status is not Status.HEALTHY:
            return certain(cpu=event.cpu, extra=(f'the emulator says "{event.reason}"',))
    legacy = explanation.first(PaeTablesWithoutPae)
    if legacy is not None:
        return likely(legacy, explanation.first(StageReached, legacy.cpu))
    return _control(Check.PAE_MISSING)(evidence, explanation) or _paging_refused(
        evidence, explanation
    )


def _paging_refused(evidence: Evidence, explanation: Explanation) -> Optional[Match]:
    """A jump to 64-bit code while LME is set and neither PAE nor paging is: QEMU ignores a write
    to CR0 that sets PG without PAE, and the descriptor then counts with its limit."""
    fault = explanation.first(SelectorFault)
    if fault is None or fault.check is not Check.OFFSET or not (fault.descriptor or 0) & LONG_CODE:
        return None
    cpu = next((cpu for cpu in evidence.cpus if cpu.index == fault.cpu), None)
    values = [cpu.registers.get(name) if cpu is not None else None for name in _TO_LONG_MODE]
    cr0, cr4, efer = values
    if cr0 is None or cr4 is None or efer is None or cr0 & Cr0.PG or cr4 & Cr4.PAE:
        return None
    if not efer & Efer.LME:
        return None
    text = "EFER.LME=1, CR4.PAE=0 and paging is off at a jump to a 64-bit code segment"
    return likely(fault, extra=(text,))


def _without_long_mode(explanation: Explanation) -> Optional[LongModeMissing]:
    """Where the code set EFER.LME, or wanted to, on a CPU that does not have the bit."""
    for missing in explanation.all(LongModeMissing):
        if missing.model is False or missing.model is None and missing.in_vain is not None:
            return missing
    return None


def _no_long_mode(evidence: Evidence, explanation: Explanation) -> Optional[Match]:
    """EFER refused the bit with #GP, or, as QEMU's does, ignored it."""
    refused = _unsupported("efer")(evidence, explanation)
    missing = _without_long_mode(explanation)
    if refused is not None or missing is None:
        return refused
    fault = explanation.first(PageFault, missing.cpu)
    firm = missing.model is False and missing.works_as_long
    return certain(missing, fault) if firm else likely(missing, fault)


def _lme(evidence: Evidence, explanation: Explanation) -> Optional[Match]:
    if _without_long_mode(explanation) is not None:
        return None
    for write in explanation.all(BadControlWrite):
        if write.check is Check.PDPTE_RESERVED:
            return likely(write)
    for missing in explanation.all(LongModeMissing):
        if missing.works_as_long or missing.as_bsp:
            fatal = explanation.first(PageFault, missing.cpu)
            return certain(missing, fatal) if fatal is not None else likely(missing)
        stage = explanation.first(StageReached, missing.cpu)
        if stage is not None and stage.code in (0x32, 0x33, 0x34, 0xB3, 0xB4, 0xB5):
            return likely(missing, stage)
    return None


def _unsupported(register: str) -> Matcher:
    """A matcher: a write to `register` was refused, and no rule but the CPU's model says why."""

    def match(evidence: Evidence, explanation: Explanation) -> Optional[Match]:
        for write in explanation.all(BadControlWrite):
            if write.register == register and write.check is None:
                view = explanation.view(write.cpu)
                in_long_mode = view is not None and view.mode.startswith("64-bit")
                plain = write.value is not None and not write.value & ~_EVERY_LONG_MODE
                if register == "cr4" and in_long_mode and plain:
                    continue  # no CPU that is in long mode lacks one of these
                return likely(write, explanation.first(FatalException, write.cpu))
        return None

    return match


def _msr(evidence: Evidence, explanation: Explanation) -> Optional[Match]:
    """A read tells for sure; what is written may have a bit that is reserved."""
    for write in explanation.all(BadControlWrite):
        if write.register.startswith("msr ") and write.check is None:
            x2apic = write.register.removeprefix("msr 0x") in _X2APIC
            return certain(write) if write.value is None or x2apic else likely(write)
    return None


ROWS = (
    Row(
        "pae-missing",
        "CR4.PAE is 0 when paging is turned on for long mode, or with tables of 8-byte entries",
        Place.PAGING,
        ("#GP at mov cr0", "works in QEMU, dies on hardware", "without enabling CR4.PAE"),
        "CR0.PG is set while CR4.PAE=0, with EFER.LME=1 or with CR3 naming PAE tables",
        "CR4.PAE is 1",
        "set CR4.PAE before CR0.PG",
        "Initializing IA-32e Mode",
        chapters.LONG_MODE,
        ("PG-01",),
        _pae,
        ("ap-pae-missing", "bsp-pae-missing"),
        over=(
            *("long-segment-too-early", "iret-frame-bad", "no-code-at-rip", "null-pointer"),
            *("executing-zeros", "pic-not-remapped", "gate-empty", "idt-missing"),
            *(
                "protection-not-enabled",
                "stack-null",
                "higher-half-unmapped",
                "identity-map-missing",
            ),
            "page-fault-undelivered",
        ),
    ),
    Row(
        "lme-missing",
        "EFER.LME was never set: the CPU walks the PML4 as PAE tables",
        Place.PAGING,
        ("#PF right after mov cr0", "#GP at mov cr0: PDPTR check failed", "EFER=0"),
        "CR0.PG=1 or is being set, EFER.LME=0, and the tables are those of long mode",
        "EFER.LME is 1",
        "wrmsr with ECX=0xc0000080 and bit 8 set, before CR0.PG",
        "Initializing IA-32e Mode",
        chapters.LONG_MODE,
        ("PG-02",),
        _lme,
        ("ap-lme-missing", "bsp-lme-missing"),
    ),
    Row(
        "long-mode-left",
        "CR4.PAE or CR0.PG was cleared in long mode",
        Place.LONG64,
        ("#GP at mov cr4", "#GP at mov cr0", "attempt to clear CR4.PAE"),
        "the value written clears PAE or PG while EFER.LMA=1",
        "PAE and PG stay set",
        "read CR0 and CR4 and change bits in them, instead of writing a constant",
        "Control Registers",
        chapters.LONG_MODE,
        ("LM-09",),
        _control(Check.LEAVES_LONG_MODE),
        ("ap-cr4-pae-cleared",),
        over=("idt-unmapped",),
    ),
    Row(
        "lme-changed-under-paging",
        "EFER.LME was changed while paging was on",
        Place.PAGING,
        ("#GP at wrmsr", "attempt to change LME when CR0.PG=1"),
        "WRMSR to EFER changes LME while CR0.PG=1",
        "CR0.PG is 0",
        "set LME before CR0.PG",
        "Initializing IA-32e Mode",
        chapters.LONG_MODE,
        ("PG-03",),
        _control(Check.LME_CHANGED),
        ("ap-lme-cleared",),
    ),
    Row(
        "pcide-too-early",
        "CR4.PCIDE was set before long mode was active, or with CR3[11:0] not 0",
        Place.PAGING,
        ("#GP at mov cr4", "attempt to set CR4.PCIDE"),
        "CR4.PCIDE is set while EFER.LMA=0, or CR3[11:0] is not 0",
        "EFER.LMA is 1 and CR3[11:0] is 0",
        "set PCIDE in 64-bit mode, as the last step",
        "Process-Context Identifiers (PCIDs)",
        chapters.STRICTER,
        ("PG-18",),
        _control(Check.PCIDE),
        ("ap-pcide-early",),
    ),
    Row(
        "cs-long-at-paging",
        "paging was turned on from a code segment with L=1",
        Place.PAGING,
        ("#GP at mov cr0", "attempt to enter x86-64 long mode with CS.L"),
        "CR0.PG is set with EFER.LME=1 while CS.L=1",
        "CS.L is 0",
        "turn paging on from a 32-bit code segment, then jump to the 64-bit one",
        "Initializing IA-32e Mode",
        chapters.LONG_MODE,
        ("PG-19",),
        _control(Check.LONG_CODE),
        ("code32-has-l",),
    ),
    Row(
        "tss16-at-paging",
        "TR holds a 16-bit TSS when long mode is entered",
        Place.PAGING,
        ("#GP at mov cr0", "TSS286 in TR"),
        "CR0.PG is set with EFER.LME=1 while TR holds a 16-bit TSS",
        "TR is null or holds another TSS",
        "load no 16-bit TSS",
        "Initializing IA-32e Mode",
        chapters.LONG_MODE,
        ("PG-20",),
        _control(Check.TSS16),
    ),
    Row(
        "control-reserved-bits",
        "a reserved bit was set in a control register or EFER",
        Place.PAGING,
        ("#GP at mov cr4", "#GP at wrmsr EFER", "attempt to set reserved bits"),
        "the value written has a bit set that no CPU has",
        "all set bits exist",
        "name the bits; write sums of names, not constants, and assign them: a bit that the firmware"
        " left set stays set where bits are only added",
        "Control Registers",
        chapters.LONG_MODE,
        ("B32-08", "FW-02"),
        _control(Check.RESERVED_BITS),
    ),
    Row(
        "cr4-unsupported",
        "CR4 was given a bit that this CPU model does not have",
        Place.PROTECTED,
        ("#GP at mov cr4", "write of CR4 not supported"),
        "#GP(0) at mov to CR4, and no other rule forbids the value",
        "a rule of the architecture forbids the value",
        "test the feature with CPUID before its bit is set",
        "Control Registers",
        chapters.LONG_MODE,
        ("B32-09", "CPU-06"),
        _unsupported("cr4"),
        ("ap-la57",),
    ),
    Row(
        "no-long-mode",
        "the CPU has no long mode (or no NX): EFER refuses the bit, or ignores it",
        Place.PROTECTED,
        ("#GP at wrmsr EFER", "qemu32", "EFER stays 0", "qemu-system-i386"),
        "#GP(0) at the access to EFER, and no other rule forbids the value; or EFER.LME stayed 0 on a"
        " CPU model without long mode, or behind a WRMSR that sets it",
        "a rule of the architecture forbids the value",
        "choose a CPU model with long mode, and qemu-system-x86_64, not -i386; test"
        " CPUID.80000001H:EDX bits 29 and 20 first, and say what is missing",
        "IA32_EFER",
        chapters.LONG_MODE,
        ("B32-07", "CPU-06"),
        _no_long_mode,
    ),
    Row(
        "msr-unknown",
        "an MSR was accessed that this CPU does not have, or not in this mode, or was given a reserved"
        " bit",
        Place.LONG64,
        ("#GP at rdmsr", "#GP at wrmsr", "x2APIC MSR without x2APIC"),
        "#GP(0) at RDMSR or WRMSR with this number in ECX",
        "the MSR exists",
        "test the feature with CPUID first; x2APIC MSRs need IA32_APIC_BASE.EXTD=1",
        "RDMSR-Read From Model Specific Register",
        chapters.INTO_C,
        ("CPU-01", "AP0-08"),
        _msr,
        ("x2apic-msr-in-xapic",),
    ),
)
