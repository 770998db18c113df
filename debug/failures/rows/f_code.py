# SPDX-License-Identifier: BSD-2-Clause
"""Instructions that this CPU, as it is set up, refuses."""

from __future__ import annotations

from dataclasses import replace
from typing import Optional

from debug.evidence import Evidence
from debug.explain.findings import (
    BadControlWrite,
    CpuDifference,
    DivideError,
    FatalException,
    InvalidOpcode,
    ModeTrap,
    ModeTrapKind,
    OpcodeProblem,
    PageFault,
)
from debug.explain.model import Explanation
from debug.failures import chapters
from debug.failures.row import Certainty, Match, Matcher, Place, Row, certain, likely, told_by


def _problem(*problems: OpcodeProblem, register: str = "") -> Matcher:
    """A matcher: #UD or #NM with one of `problems`; `register`: a difference to the BSP to cite."""

    def match(evidence: Evidence, explanation: Explanation) -> Optional[Match]:
        for invalid in explanation.all(InvalidOpcode):
            if invalid.problem in problems:
                differs = next(
                    (
                        d
                        for d in explanation.all(CpuDifference, invalid.cpu)
                        if d.register == register
                    ),
                    None,
                )
                return certain(invalid, differs)
        return None

    return match


def _not_code(evidence: Evidence, explanation: Explanation) -> Optional[Match]:
    """Bytes that are no instruction, unless the CPU decodes code of another mode."""
    if explanation.all(ModeTrap):
        return None
    return _problem(OpcodeProblem.NOT_CODE)(evidence, explanation)


def _compat(evidence: Evidence, explanation: Explanation) -> Optional[Match]:
    for trap in explanation.all(ModeTrap):
        if trap.kind is ModeTrapKind.COMPAT_NOT_64:
            if any(fault.after_paging for fault in explanation.all(PageFault, trap.cpu)):
                continue  # it had not come to the far jump
            return likely(trap)
    return None


def _avx(evidence: Evidence, explanation: Explanation) -> Optional[Match]:
    """Where CR4.OSXSAVE is 1 and nobody shows XCR0, the CPU may not have the instruction at all."""
    off = _problem(OpcodeProblem.AVX_DISABLED, register="cr4.osxsave")(evidence, explanation)
    hidden = _problem(OpcodeProblem.AVX_NOT_SHOWN, register="cr4.osxsave")(evidence, explanation)
    if off is not None or hidden is None:
        return off
    return replace(hidden, certainty=Certainty.LIKELY)


def _xcr0(evidence: Evidence, explanation: Explanation) -> Optional[Match]:
    for write in explanation.all(BadControlWrite):
        if write.register == "xcr0":
            return certain(write)
    return None


def _other_mode(evidence: Evidence, explanation: Explanation) -> Optional[Match]:
    """An opcode of another mode; where RIP has no name, what runs there may be no code at all, the
    more so where another CPU's place has one."""
    found = _problem(OpcodeProblem.ONLY_LEGACY)(evidence, explanation)
    if found is None:
        return None
    rips = [f.rip for f in explanation.all(InvalidOpcode) if f.rip is not None]
    if any(evidence.symbols.lookup(rip) is not None for rip in rips):
        return found
    places = [cpu.registers.rip for cpu in evidence.cpus if cpu.registers.rip is not None]
    named = any(evidence.symbols.lookup(place) is not None for place in places)
    return replace(found, certainty=Certainty.POSSIBLE if named else Certainty.LIKELY)


ROWS = (
    Row(
        "sse-not-enabled",
        "an SSE instruction with CR4.OSFXSR=0",
        Place.LONG64,
        ("#UD at movaps", "#UD in memcpy", "SSE in the kernel"),
        "#UD at an SSE instruction while CR4.OSFXSR=0",
        "CR4.OSFXSR is 1",
        "set CR4.OSFXSR and OSXMMEXCPT and clear CR0.EM on every CPU, or compile without SSE",
        "Initialization of the SSE Extensions",
        chapters.INTO_C,
        ("FPU-01", "FPU-06", "BLD-06"),
        _problem(OpcodeProblem.SSE_DISABLED, register="cr4.osfxsr"),
        ("ap-sse-not-enabled",),
    ),
    Row(
        "fpu-emulated",
        "an FPU or SSE instruction with CR0.EM=1",
        Place.LONG64,
        ("#UD at an SSE instruction", "#NM at an x87 instruction", "CR0.EM"),
        "CR0.EM is 1",
        "CR0.EM is 0",
        "clear CR0.EM and set CR0.MP on every CPU",
        "Control Registers",
        chapters.INTO_C,
        ("FPU-02", "FPU-06"),
        _problem(OpcodeProblem.FPU_EMULATED, register="cr0.em"),
        ("ap-fpu-emulated",),
    ),
    Row(
        "fpu-task-switched",
        "an FPU or SSE instruction with CR0.TS=1 and no handler for #NM",
        Place.LONG64,
        ("#NM", "device not available", "lazy FPU"),
        "#NM while CR0.TS=1",
        "CR0.TS is 0",
        "execute CLTS, or handle #NM",
        "Interrupt 7-Device Not Available Exception (#NM)",
        chapters.INTO_C,
        ("FPU-03",),
        _problem(OpcodeProblem.FPU_LOCKED),
        ("ap-fpu-task-switched",),
    ),
    Row(
        "avx-not-enabled",
        "an AVX instruction without CR4.OSXSAVE or XCR0",
        Place.LONG64,
        ("#UD at a VEX instruction", "-march=native"),
        "#UD at a VEX or EVEX encoding while CR4.OSXSAVE=0 or XCR0 has no AVX",
        "OSXSAVE is 1 and XCR0 has SSE and AVX",
        "set CR4.OSXSAVE, then XCR0, on every CPU; or compile without AVX",
        "Enabling the XSAVE Feature Set and XSAVE-Enabled Features",
        chapters.INTO_C,
        ("FPU-04", "BLD-06"),
        _avx,
        ("ap-avx-too-early",),
    ),
    Row(
        "xsetbv-not-enabled",
        "XSETBV with CR4.OSXSAVE=0",
        Place.LONG64,
        ("#UD at xsetbv",),
        "#UD at XSETBV or XGETBV while CR4.OSXSAVE=0",
        "CR4.OSXSAVE is 1",
        "set CR4.OSXSAVE before XSETBV",
        "XSETBV-Set Extended Control Register",
        chapters.INTO_C,
        ("FPU-05",),
        _problem(OpcodeProblem.XSETBV_DISABLED),
        ("xsetbv-without-osxsave",),
    ),
    Row(
        "xcr0-invalid",
        "XSETBV was given a combination that XCR0 does not allow",
        Place.LONG64,
        ("#GP(0) at xsetbv",),
        "x87 is missing, or AVX without SSE, or a part of AVX-512",
        "the combination is allowed",
        "keep bit 0 set, set SSE with AVX, and only bits that CPUID.0DH lists",
        "XSETBV-Set Extended Control Register",
        chapters.INTO_C,
        ("FPU-05",),
        _xcr0,
        ("xcr0-avx-without-sse",),
        over=("control-reserved-bits",),
    ),
    Row(
        "unreachable-reached",
        "UD2: code that the compiler or the author marked as unreachable",
        Place.RUNNING,
        ("#UD at ud2", "0f 0b", "sanitizer trap"),
        "the bytes at RIP are 0f 0b",
        "the bytes are another instruction",
        "look at the condition before it: an assertion, a sanitizer, or undefined behaviour",
        "UD-Undefined Instruction",
        chapters.INTO_C,
        ("BLD-07",),
        _problem(OpcodeProblem.UD2),
        ("ap-trap-in-c",),
    ),
    Row(
        "divide-error",
        "a division by 0, or one whose quotient does not fit",
        Place.RUNNING,
        ("#DE", "divide error", "division by zero", "exception 0 without an IDT"),
        "#DE at DIV or IDIV, and what the operands hold has no quotient of this size",
        "the operands have a quotient that fits, or the instruction is no division",
        "test the divisor; before DIV clear the upper half of what is divided (xor edx, edx), before"
        " IDIV extend the sign into it (cdq, cqo)",
        "Interrupt 0-Divide Error Exception (#DE)",
        chapters.EXCEPTIONS,
        (),
        told_by(DivideError, FatalException),
    ),
    Row(
        "mov-to-cs",
        "MOV can't load CS",
        Place.REAL16,
        ("#UD at mov cs, ax", "8e c8"),
        "#UD at 8e /1",
        "the instruction is another",
        "load CS with a far jump",
        "MOV-Move",
        chapters.PROTECTED_MODE,
        ("B16-20",),
        _problem(OpcodeProblem.MOV_CS),
        ("ap-mov-cs",),
    ),
    Row(
        "code-for-another-mode",
        "an opcode that 64-bit mode does not have: code assembled for 32 bits",
        Place.LONG64,
        ("#UD at push es", "wrong BITS directive"),
        "#UD in 64-bit mode at an opcode that only legacy modes have",
        "the opcode exists in 64-bit mode",
        "give each label the BITS (or .code) directive of the mode that the CPU is in there",
        "64-Bit Mode Instructions",
        chapters.LONG_MODE,
        ("BLD-05",),
        _other_mode,
    ),
    Row(
        "no-code-at-rip",
        "the bytes at the instruction pointer are no code",
        Place.RUNNING,
        ("#UD", "jumped into data", "return to garbage"),
        "#UD, and the bytes at RIP are text, a pattern or no instruction",
        "the bytes are an instruction",
        "look at the last jump, call or return: a wrong pointer, or a smashed return address",
        "Interrupt 6-Invalid Opcode Exception (#UD)",
        chapters.INTO_C,
        ("BLD-07", "STK-08", "B16-14", "AP4-02"),
        _not_code,
    ),
    Row(
        "compatibility-mode-left-on",
        "64-bit code runs in compatibility mode: no far jump to a 64-bit segment after CR0.PG",
        Place.LONG64,
        ("REX prefixes decode as inc and dec", "CS.L=0 at a 64-bit symbol"),
        "EFER.LMA=1, CS.L=0, and the bytes at RIP start with a REX prefix",
        "CS.L is 1",
        "jump far to a code segment with L=1 and D=0 right after CR0.PG is set",
        "Initializing IA-32e Mode",
        chapters.LONG_MODE,
        ("LM-01", "LM-02"),
        _compat,
        (
            "ap-no-far-jump",
            "ap-far-jump-code32",
            "ap-code64-not-long",
        ),
    ),
)
