# SPDX-License-Identifier: BSD-2-Clause
"""What an emulator's own words prove: Bochs names the check that failed before it raises.

The sentences are Bochs 2.7's, as cpu/*.cc logs them at level "error"; other versions differ in
details, so each pattern asks only for the words that carry the meaning.  The first sentence that
means something counts: what follows it is a consequence.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Iterable, Optional

from debug.evidence import Registers
from debug.explain.clues.moment import Moment
from debug.explain.findings import BadControlWrite
from debug.explain.findings.evident import Clue, Evident, Proof
from debug.explain.model import EMULATOR_SAYS, Finding
from debug.x86.exceptions import NP, SS, TS
from debug.x86.refusals import Check
from debug.x86.registers import Rflags

_MAX_SENTENCES = 32
_FLAT_LIMIT = 0xF_FFFF


@dataclass(frozen=True)
class _Word:
    pattern: re.Pattern[str]
    clue: Clue
    proof: Proof
    says: str


def _word(pattern: str, clue: Clue, says: str, proof: Proof = Proof.ALONE) -> _Word:
    return _Word(re.compile(pattern, re.I), clue, proof, says)


_SWITCH = "the stack that the TSS names for the handler was refused: "
_WORDS = (
    _word(
        r"^interrupt\(.*\bSS selector null",
        Clue.STACK_OF_TSS,
        _SWITCH + "SS0 is null, the TSS was not filled in, or it is not the one that was meant",
    ),
    _word(r"^interrupt\(.*\bSS\.rpl", Clue.STACK_OF_TSS, _SWITCH + "SS0's RPL is not 0"),
    _word(
        r"^interrupt\(.*\bSS\.dpl",
        Clue.STACK_OF_TSS,
        _SWITCH + "SS0 names a descriptor whose DPL is not the handler's",
    ),
    _word(
        r"^interrupt\(.*\bSS\b.*(?:not writable|not present|not a data|AR byte)",
        Clue.STACK_OF_TSS,
        _SWITCH + "SS0 names no present, writable data segment",
    ),
    _word(
        r"get_(?:SS_ESP|RSP)_from_TSS.*(?:invalid|not in memory)",
        Clue.TSS_REFUSED,
        "a stack switch was needed, and TR names no usable TSS",
    ),
    _word(
        r"get_(?:SS_ESP|RSP)_from_TSS.*limit",
        Clue.TSS_REFUSED,
        "a stack switch was needed, and the TSS is too short to hold the stack",
    ),
    _word(
        r"^(?:iret(?:64)?|return_protected|long_iret)\w*(?:\(\))?:",
        Clue.RETURN_FRAME,
        "the return refused what it popped from the stack",
    ),
    _word(r"code segment both L and D", Clue.CODE_L_AND_D, "the code descriptor has L and D set"),
    _word(
        r"^(?:check_cs|jump_protected|call_protected|task_gate|call_gate)\b.*"
        r"(?:not a valid code|not a code|unsupported|not code)",
        Clue.CODE_TYPE,
        "the selector of a far transfer names no code segment",
    ),
    _word(
        r"^(?:check_cs|jump_protected|call_protected)\b.*(?:\bdpl\b|\brpl\b)",
        Clue.CODE_PRIVILEGE,
        "the code descriptor's DPL or the selector's RPL does not fit",
    ),
    _word(
        r"^(?:check_cs|jump_protected|call_protected)\b.*not present",
        Clue.CODE_ABSENT,
        "the code descriptor is not present",
    ),
    _word(
        r"^(?:jump_protected|call_protected)\b.*(?:cs == 0|selector null)",
        Clue.CODE_NULL,
        "the selector of a far transfer is null",
    ),
    _word(
        r"^load_seg_reg\(SS\).*null", Clue.STACK_NULL_SELECTOR, "SS was loaded with a null selector"
    ),
    _word(
        r"^load_seg_reg\(.*(?:\brpl\b|\bdpl\b|\bcpl\b)",
        Clue.DATA_PRIVILEGE,
        "a segment register was loaded, and RPL or CPL does not fit the descriptor's DPL",
    ),
    _word(r"^load_seg_reg\(.*not present", Clue.DATA_ABSENT, "the descriptor is not present"),
    _word(
        r"^load_seg_reg\(.*(?:not writable|not data|invalid|not readable)",
        Clue.DATA_TYPE,
        "a segment register was loaded with a descriptor of the wrong type",
    ),
    _word(
        r"^LTR:.*(?:not present|non-canonical|selector\.ti|null|invalid|upper|extended)",
        Clue.TSS_DESCRIPTOR,
        "LTR refused the descriptor",
    ),
    _word(r"^LTR:.*available TSS", Clue.TSS_BUSY, "LTR found no available TSS", Proof.FITS),
    _word(
        r"^interrupt\(.*\):? (?:not accessible or not code|must be 64 bit seg|CS selector null"
        r"|segment not present)",
        Clue.GATE_CODE,
        "an exception or an interrupt could not be delivered: the code selector in its gate was"
        " refused",
    ),
    _word(
        r"^interrupt\(.*\):? (?:gate descriptor is not valid|gate\.type\(|unsupported gate|gate not"
        r" present|gate\.p == 0)",
        Clue.GATE_EMPTY,
        "an exception had to be delivered, and its gate is not valid",
        Proof.HINT,  # what raised it is another matter
    ),
    _word(
        r"^(?:read|write|execute)_virtual_checks\(\):.*beyond limit",
        Clue.SEGMENT_END,
        "an access went beyond the limit of its segment",
    ),
    _word(
        r"vector must be within IDT table limits",
        Clue.IDT_SHORT,
        "the vector that had to be delivered lies beyond the IDT",
    ),
)

# A write to a control register or EFER: the check, and which register.
_CONTROL = (
    (r"reserved bits of CR3", Check.RESERVED_BITS, "cr3"),
    (r"(?:check_CR4|SetCR4|CR4).*reserved", Check.RESERVED_BITS, "cr4"),
    (r"EFER.*reserved|reserved.*EFER", Check.RESERVED_BITS, "efer"),
    (r"without enabling CR4\.PAE", Check.PAE_MISSING, "cr0"),
    (r"enter .*long mode with CS\.L", Check.LONG_CODE, "cr0"),
    (r"TSS286 in TR", Check.TSS16, "cr0"),
    (r"CR0\.PG with CR0\.PE", Check.PG_WITHOUT_PE, "cr0"),
    (r"CR0\.NW with CR0\.CD", Check.NW_WITHOUT_CD, "cr0"),
    (r"(?:clear|leave|change).*CR4\.PAE|leave .*long mode", Check.LEAVES_LONG_MODE, "cr4"),
    (r"CR4\.PCIDE", Check.PCIDE, "cr4"),
    (r"change LME when CR0\.PG", Check.LME_CHANGED, "efer"),
    (r"PDPTR check failed", Check.PDPTE_RESERVED, "cr0"),
)
_CONTROL_WORDS = tuple((re.compile(p, re.I), check, name) for p, check, name in _CONTROL)

_BEYOND = re.compile(
    r"fetch_raw_descriptor: GDT: index \(([0-9a-f]{1,4})\).* limit \(([0-9a-f]+)\)"
)
_GATE = re.compile(r"^interrupt\(.*(?:not valid|not present|unsupported).*vector=0x([0-9a-f]{2})")
_NEAR = 8  # entries behind the end of the GDT: a table that is a little too short
_VECTORS = {Clue.STACK_OF_TSS: (TS, SS, NP)}  # what a refusal of this kind raises


def sentences(words: Iterable[str]) -> list[str]:
    """The single sentences, in order."""
    return [part.strip() for word in words for part in word.split("; ")][:_MAX_SENTENCES]


def spoken(moment: Moment, messages: tuple[str, ...]) -> tuple[Finding, ...]:
    """What the emulator said at the end, as a finding; () if nothing that is known here.

    Where nothing was said at the end itself, the CPU's last `messages` from before it are asked:
    they prove less.
    """
    said = sentences(moment.words)
    for at, sentence in enumerate(said):
        found = _meaning(moment, sentence)
        if found is not None:
            return (found, *_undelivered(moment, said[at + 1 :], found))
    if moment.words or moment.first or moment.vector is None:
        return ()
    mine = [text for text in messages if text.startswith(f"CPU{moment.cpu}: ")]
    found = _meaning(moment, mine[-1].split(": ", 1)[1]) if mine else None
    return (_earlier(moment, found),) if isinstance(found, Evident) else ()


def _undelivered(moment: Moment, rest: list[str], first: Finding) -> tuple[Finding, ...]:
    """Why the exception that `first` tells of could not be delivered, where a gate was refused."""
    for found in (_meaning(moment, sentence) for sentence in rest):
        if isinstance(found, Evident) and found.clue is Clue.GATE_CODE:
            return (found,) if found.clue is not getattr(first, "clue", None) else ()
    return ()


def _meaning(moment: Moment, sentence: str) -> Optional[Finding]:
    said = f'{EMULATOR_SAYS} "{sentence}"'
    for pattern, check, register in _CONTROL_WORDS:
        if pattern.search(sentence):
            rip = moment.get("rip")
            return BadControlWrite(moment.cpu, check, register, None, said, rip)
    beyond = _BEYOND.search(sentence)
    if beyond is not None:
        return _beyond(moment, int(beyond[1], 16), int(beyond[2][:8], 16), said)
    gate = _GATE.search(sentence)
    if gate is not None and int(gate[1], 16) >= 32:
        line = f"interrupt {int(gate[1], 16):#x} had to be delivered, and its gate is not valid"
        return Evident(moment.cpu, Clue.GATE_MISSING, Proof.FITS, (line, said))
    for word in _WORDS:
        if word.pattern.search(sentence):
            proof, lines = _proof(moment, word, sentence), [word.says, said]
            code = moment.registers.segments.get("cs")
            if word.clue is Clue.CODE_TYPE and proof is Proof.ALONE and code is not None:
                lines.append(
                    f"CR0.PE is 1 and CS {code.selector:#06x} still has the base {code.base:#x} and"
                    f" limit {code.limit:#x} of real mode: no far transfer before the one at"
                    f" {moment.get('rip') or 0:#x} has succeeded"
                )
            if word.clue is Clue.SEGMENT_END:
                lines += _small(moment)
            return Evident(moment.cpu, word.clue, proof, tuple(lines))
    return None


def _small(moment: Moment) -> list[str]:
    """The segments whose limit is below that of a flat one."""
    held = moment.registers.segments
    return [
        f"{name.upper()} {held[name].selector:#06x} has the limit {held[name].limit:#x}"
        for name in ("cs", "ds", "es", "ss")
        if name in held and 0 < held[name].limit < _FLAT_LIMIT
    ]


def _proof(moment: Moment, word: _Word, sentence: str) -> Proof:
    """ALONE only where the exception that came of it is one that this refusal raises."""
    raises = _VECTORS.get(word.clue)
    if raises is not None and moment.vector not in raises:
        return Proof.FITS
    if word.clue is Clue.CODE_TYPE:
        return Proof.ALONE if _first_far_transfer(moment.registers) else Proof.FITS
    if word.clue is Clue.IDT_SHORT:
        return _idt_short(moment, sentence)
    return word.proof


def _idt_short(moment: Moment, sentence: str) -> Proof:
    """The vector is not said: a short IDT lacks the gate of an interrupt, or of any exception."""
    limit = re.search(r"limit = 0x([0-9a-f]{1,4})", sentence)
    if limit is None:
        return Proof.HINT
    gates = (int(limit[1], 16) + 1) // (16 if moment.mode.long else 8)
    allowed = (moment.get("rflags") or 0) & Rflags.IF
    # Beyond 20 no exception has a vector but for virtualisation and CET.
    return Proof.FITS if gates >= 20 or gates >= 16 and allowed else Proof.HINT


def _first_far_transfer(registers: Registers) -> bool:
    """PE=1 with the CS that real mode left: no far transfer has succeeded since."""
    code, cr0 = registers.segments.get("cs"), registers.get("cr0")
    if code is None or cr0 is None or not cr0 & 1:
        return False
    return code.base == code.selector << 4 and code.limit == 0xFFFF and not code.big


def _beyond(moment: Moment, last: int, limit: int, said: str) -> Evident:
    """`last` is the last byte of the descriptor that was wanted, `limit` that of the table."""
    selector = last & 0xFFF8
    near = last - limit <= 8 * _NEAR
    line = f"selector {selector:#06x} was used, and the GDT ends at {limit:#x}"
    lines = [line, said]
    if not near:
        lines.insert(1, "that far beyond the end it is no selector of another table of this kernel")
    return Evident(moment.cpu, Clue.BEYOND_GDT, Proof.FITS if near else Proof.HINT, tuple(lines))


def _earlier(moment: Moment, found: Evident) -> Evident:
    """Said before the end: likely its beginning only if a register still holds the selector."""
    selector = re.search(r"selector (0x[0-9a-f]{4}) ", found.lines[0])
    held = [
        name
        for name, value in moment.general()
        if selector is not None and value == int(selector[1], 16) and value
    ]
    if not held:
        return Evident(found.cpu, found.clue, Proof.HINT, found.lines)
    line = f"{moment.shown(held[0])} still holds the selector"
    proof = Proof.FITS if found.proof is not Proof.HINT else Proof.HINT
    return Evident(found.cpu, found.clue, proof, (*found.lines, line))
