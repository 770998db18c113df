# SPDX-License-Identifier: BSD-2-Clause
"""Does a QEMU log say the same thing twice?  Pure.

Three repetitions tell whether the end of a log is whole:

- A record `v=` repeats the registers below it: IP and pc (CS base + IP), the selectors of CS and
  SS, SP, CPL, and CR2 of a page fault or RAX.
- `check_exception old: A new B` repeats the vector of the record behind it and of the one before.
- The records of one chain repeat all registers: a delivery that fails changes CR2 and nothing else.

Where they agree a verdict may rest on the log; where they differ a digit was lost or changed.  Then
each repetition is a reading of its own, and a verdict that all of them give does not depend on it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Optional, Sequence

from debug.evidence import Registers
from debug.sources.excerpt import Piece
from debug.sources.qemu_text import parse_registers
from debug.sources.witness import Ceiling

LOOKED_AT = 4  # records: the longest chain that ends in a shutdown, and the one before
DUMP = 6000  # characters: a dump with FPU and XMM registers is shorter
NOTHING_TWICE = "the records lack what would confirm them"
NO_RECORD = "there is no record of the exception that ended it, only its trace"

_VECTORS = 256  # an "old" that is none of these: nothing was being delivered
_DOUBLES = frozenset((0, 10, 11, 12, 13, 14))  # two of these make a double fault
_NEARLY = 2  # registers: two records that differ in so few are one record and a slip
_MASK = (1 << 64) - 1
_NAMES = {  # of a check, and the register that it is about
    "IP": "rip", "SP": "rsp", "CS": "cs", "SS": "ss", "CPL": "cpl", "pc": "cs", "CR2": "cr2",
    "RAX": "rax",
}  # fmt: skip
_IGNORED = frozenset(("cr2", "dr6", "dr7"))
_RESUME = 1 << 16

_ITEM = re.compile(
    r"^check_exception old: 0x(?P<old>[0-9a-f]{1,8}) new 0x(?P<new>[0-9a-f]{1,8})|"
    r"^[^\n]{0,200}?v=(?P<vector>[0-9a-f]{2})\s+e=[0-9a-f]{4,8}\s+i=(?P<soft>[01])"
    r"(?:\s+cpl=(?P<cpl>[0-3]))?"
    r"\s+IP=(?P<cs>[0-9a-f]{4}):(?P<ip>[0-9a-f]{8,16})\s+pc=(?P<pc>[0-9a-f]{8,16})"
    r"\s+SP=(?P<ss>[0-9a-f]{4}):(?P<sp>[0-9a-f]{8,16})"
    r"(?:\s+(?P<last>CR2|env->regs\[R_EAX\])=(?P<value>[0-9a-f]{8,16}))?",
    re.MULTILINE,
)
_END = re.compile(r"^(?:check_exception|Servicing|CPU Reset|Triple fault|[^\n]{0,16}v=)", re.M)


@dataclass(frozen=True)
class Record:
    """A record with the check_exception in front of it, if there is one, and its dump."""

    vector: int
    check: Optional[tuple[int, int]]
    registers: Registers
    wrong: tuple[str, ...]  # what its first line and its dump disagree on
    confirmed: bool  # they had enough in common
    readings: tuple["Reading", ...] = ()  # where they disagree: either may be right


@dataclass(frozen=True)
class Reading:
    """What a record says of registers that another one gives other values: one possible truth."""

    registers: Registers
    names: tuple[str, ...]  # lower-case, as differences() gives them

    def of(self, registers: Registers) -> Registers:
        """`registers` with these values in their places."""
        parts = {
            part: {
                **getattr(registers, part),
                **{n: v for n, v in getattr(self.registers, part).items() if n in self.names},
            }
            for part in ("general", "control", "segments")
        }
        plain = {
            name: getattr(self.registers, name)
            for name in ("rip", "rflags", "gdtr", "idtr", "cpl")
            if name in self.names and getattr(self.registers, name) is not None
        }
        return replace(registers, **parts, **plain)


@dataclass(frozen=True)
class Agreement:
    """The ceiling of verdicts from a log, and why it is not CERTAIN ("" if it is).

    `readings` are what its last `records` records may have said, where a digit of them was lost.
    """

    ceiling: Ceiling
    why: str = ""
    readings: tuple[Reading, ...] = ()
    records: int = 0


def judge(pieces: Sequence[Piece]) -> Agreement:
    """Whether the end of this log agrees with itself."""
    text = "\n".join(piece.data.decode("utf-8", "replace") for piece in pieces[-8:])
    death = text.rfind("\nTriple fault")
    records, last = _records(text if death < 0 else text[:death])
    if not records:
        return Agreement(Ceiling.LIKELY, NO_RECORD)
    chain = _chain(records)
    for record in chain:
        if record.wrong:
            what = (
                f"the record of v={record.vector:02x} and the registers below it differ in"
                f" {', '.join(record.wrong)}"
            )
            others = [one.registers for one in chain if one is not record and not one.wrong]
            return _lost(what, chain, _outvoted(record.readings, others))
    if (fault := _out_of_order(chain, last)) is not None:
        return _lost(fault)
    for one, other in zip(chain, chain[1:]):
        if names := differences(one.registers, other.registers):
            return _differ("two records of one chain", one, other, names, chain)
    before = records[-len(chain) - 1] if len(records) > len(chain) else None
    if before is not None and _same_place(before.registers, chain[0].registers):
        names = differences(before.registers, chain[0].registers)
        if before.wrong and not names:
            readings = _outvoted(before.readings, [record.registers for record in chain])
            return _lost(
                "two records at one place differ in themselves", [before, *chain], readings
            )
        if 0 < len(names) <= _NEARLY or before.wrong:
            return _differ("two records at one place", before, chain[0], names, chain)
    if len(chain) < 2 or not all(record.confirmed for record in chain):
        return Agreement(Ceiling.LIKELY, NOTHING_TWICE)
    return Agreement(Ceiling.CERTAIN)


def _lost(what: str, chain: Sequence[Record] = (), readings: tuple[Reading, ...] = ()) -> Agreement:
    why = f"{what}: a digit was lost or changed"
    return Agreement(Ceiling.POSSIBLE, why, readings, len(chain))


def _differ(
    what: str, one: Record, other: Record, names: Sequence[str], chain: Sequence[Record]
) -> Agreement:
    shown = ", ".join(name.upper() for name in names[:4])
    readings = tuple(Reading(record.registers, tuple(names)) for record in (one, other))
    others = [record.registers for record in chain if record not in (one, other)]
    return _lost(f"{what} differ in {shown}", chain, _outvoted(readings, others))


def _outvoted(readings: tuple[Reading, ...], others: Sequence[Registers]) -> tuple[Reading, ...]:
    """The readings that another record of the chain confirms; all if none does."""
    confirmed = tuple(
        reading
        for reading in readings
        if any(not set(differences(reading.of(one), one)) & set(reading.names) for one in others)
    )
    return confirmed or readings


def _records(text: str) -> tuple[list[Record], Optional[tuple[int, int]]]:
    """The last records, and the check_exception behind the last of them."""
    found: list[Record] = []
    check: Optional[tuple[int, int]] = None
    items = list(_ITEM.finditer(text))[-4 * LOOKED_AT :]
    for item in items:
        if item["old"] is not None:
            check = int(item["old"], 16), int(item["new"], 16)
            continue
        rest = text[item.end() : item.end() + DUMP]
        following = _END.search(rest)
        dump = parse_registers(rest[: following.start()] if following else rest)[0]
        checks = compare(item, dump)
        wrong = tuple(name for name, equal in checks if not equal)
        readings = _readings(item, dump, wrong) if wrong else ()
        vector, enough = int(item["vector"], 16), len(checks) >= 4
        found.append(Record(vector, check, dump, wrong, enough, readings))
        check = None
    return found[-LOOKED_AT:], check


def _readings(
    item: re.Match[str], dump: Registers, wrong: Sequence[str]
) -> tuple[Reading, Reading]:
    """What the record's first line says of what it and its dump disagree on, and the dump."""
    segments = dict(dump.segments)
    ip = int(item["ip"], 16)
    for name, key in (("CS", "cs"), ("SS", "ss")):
        if name in wrong and key in segments:
            segments[key] = replace(segments[key], selector=int(item[key], 16))
    if "pc" in wrong and "cs" in segments:
        segments["cs"] = replace(segments["cs"], base=int(item["pc"], 16) - ip & _MASK)
    line = Registers(
        rip=ip,
        general={"rsp": int(item["sp"], 16), "rax": int(item["value"] or "0", 16)},
        control={"cr2": int(item["value"] or "0", 16)},
        segments=segments,
        cpl=int(item["cpl"]) if item["cpl"] else None,
    )
    names = tuple(dict.fromkeys(_NAMES[name] for name in wrong))
    return Reading(line, names), Reading(dump, names)


def _chain(records: Sequence[Record]) -> list[Record]:
    """The last records, back to the one that was raised while nothing was being delivered."""
    chain: list[Record] = []
    for record in reversed(records):
        chain.insert(0, record)
        if record.check is None or record.check[0] >= _VECTORS:
            break
    return chain


def _out_of_order(chain: Sequence[Record], last: Optional[tuple[int, int]]) -> Optional[str]:
    """What contradicts itself in the vectors of a chain; None if nothing does.

    An `old` of 0 may stand for nothing: a CPU that was never interrupted has it.
    """
    for place, record in enumerate(chain):
        if record.check is None:
            continue
        old, new = record.check
        doubles = record.vector == 8 and old in _DOUBLES and new in _DOUBLES
        if record.vector != new and not doubles:
            return f"check_exception says new {new:#x}, its record v={record.vector:02x}"
        if 0 < old < _VECTORS and (place == 0 or chain[place - 1].vector != old):
            return f"check_exception says old {old:#x}, and no record before it is of that vector"
    if last is not None and (last[0] != chain[-1].vector or last[1] not in _DOUBLES):
        return f"check_exception says old {last[0]:#x} new {last[1]:#x} behind the last record"
    return None


def _same_place(one: Registers, other: Registers) -> bool:
    names = ("rip", "rsp")
    return all(one.get(name) is not None and one.get(name) == other.get(name) for name in names)


def differences(one: Registers, other: Registers) -> list[str]:
    """The names of the registers that differ or that only one knows, CR2 and RFLAGS.RF apart,
    in lower case.

    Of a dump that is missing altogether nothing differs.
    """
    if not one.general or not other.general:
        return []
    names: list[str] = []
    for known, others in (
        (one.general, other.general),
        (one.control, other.control),
        (one.segments, other.segments),
    ):
        both = {**known, **others}
        names += [n for n in both if known.get(n) != others.get(n) and n not in _IGNORED]
    for name in ("rip", "gdtr", "idtr", "cpl"):
        mine, its = getattr(one, name), getattr(other, name)
        if mine is not None and its is not None and mine != its:
            names.append(name)
    if one.rflags is not None and other.rflags is not None:
        if (one.rflags ^ other.rflags) & ~_RESUME:
            names.append("rflags")
    return list(dict.fromkeys(names))


def compare(record: re.Match[str], registers: Registers) -> list[tuple[str, bool]]:
    """(name, equal) of what the record's first line and the dump below it both say."""
    code, stack = registers.segments.get("cs"), registers.segments.get("ss")
    checks: list[tuple[str, bool]] = []
    # The 32-bit layout, outside 64-bit mode, shows lower halves; the first line never does.
    mask = (1 << 64 if "r8" in registers.general else 1 << 32) - 1

    def check(name: str, said: str, shown: Optional[int]) -> None:
        if shown is not None:
            checks.append((name, int(said, 16) & mask == shown & mask))

    check("IP", record["ip"], registers.rip)
    check("SP", record["sp"], registers.general.get("rsp"))
    check("CS", record["cs"], code.selector if code else None)
    check("SS", record["ss"], stack.selector if stack else None)
    if record["cpl"]:
        check("CPL", record["cpl"], registers.cpl)
    if code is not None and registers.rip is not None:
        check("pc", record["pc"], code.base + registers.rip)
    if record["last"] == "CR2" and record["value"]:
        check("CR2", record["value"], registers.control.get("cr2"))
    elif record["value"]:
        check("RAX", record["value"], registers.general.get("rax"))
    return checks
