# SPDX-License-Identifier: BSD-2-Clause
"""A Bochs log as people paste it, brought into the form that bochs_log reads.

Pure: cleaned text in (see pasted), text out, and what such a text says besides.  Three things that
Bochs also prints are rewritten as log lines: an exception in the form of the debugger's `show int`,
a line that lost its tick, and the instruction pointer of a dump made in the middle of an
instruction, behind which Bochs prints the one that faulted.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

MAX_LINES = 2_000_000
MAX_LINE = 512  # characters of a disassembled line
MAX_SAID = 8

_TICK = re.compile(r"(?<![0-9])([0-9]{5,20})[idep]\[([A-Za-z0-9_ ]{1,8})\]")
_SHOWN = re.compile(
    r"CPU (?P<cpu>[0-9]{1,3}): exception (?P<vector>[0-9a-f]{1,2})h error_code=(?P<code>[0-9a-f]+)"
)
_RAISED = re.compile(r"\[CPU ?([0-9A-Fa-f]{1,2}) *\] exception\(0x([0-9a-f]{1,2})\)")
_POINTER = re.compile(r"\| ([ER]IP)=([0-9a-f]{8,16}) \(([0-9a-f]{8,16})\)")
_THIRD = re.compile(r"3rd \(([0-9]{1,3})\) exception with no resolution")
_LOOSE = re.compile(
    r"^\s*(?:\[?CPU ?(?P<cpu>[0-9A-Fa-f]{1,2}) *[\]:]\s*)?(?P<text>(?:>>PANIC<<\s*)?"
    r"(?:exception\(\): 3rd \(|fetch_raw_descriptor:|interrupt\((?:long mode)?\):|check_cs\(|"
    r"load_seg_reg\(|jump_protected:|iret|LTR:|SetCR[034]\(\)|check_CR[04]|SetEFER|MOV_).*)$"
)
_AT = re.compile(
    r"\((?P<cpu>[0-9]{1,3})\)\.?\s?(?:\[[0-9]+\]\s?)?\[0x(?P<physical>[0-9a-f]{6,16})\]\s"
    r"(?P<cs>[0-9a-f]{4}):(?P<ip>[0-9a-f]{4,16})\s\([^)]{0,80}\):\s(?P<text>.*?)\s*;\s*"
    r"(?P<bytes>[0-9a-f]{2,30})\s*$"
)
_NEXT = re.compile(
    r"0x(?P<ip>[0-9a-f]{8,16})>>\s(?P<text>.*?)\s:\s(?P<bytes>[0-9A-Fa-f]{2,30})\s*$"
)
# What a CPU logs right before it raises an exception, and the exception: a part of a log that
# ends there shows no other trace of it.
_IMPLIED = (
    (re.compile(r"SetCR[034]\(\)|check_CR[04]|SetEFER"), 0x0D),
    (re.compile(r"^(?:fetch_raw_descriptor:|check_cs\(|jump_protected:|LTR:|iret: )"), 0x0D),
    (re.compile(r"^load_seg_reg\((?!SS).*not present"), 0x0B),
    (re.compile(r"^load_seg_reg\("), 0x0D),
)
_NAMED = re.compile(r"index \(([0-9a-f]{1,4})\)|^\w+\((?:[A-Z]S, )?0x([0-9a-f]{1,4})\)")
UNKNOWN_CODE = 0xFFFF_FFFF  # an error code that no CPU pushes
_ANY_EXCEPTION = re.compile(r"exception\(|: exception [0-9a-f]{2}h")


@dataclass(frozen=True)
class Instruction:
    """An instruction that Bochs disassembled where a CPU stood."""

    rip: int
    linear: int
    text: str
    data: bytes

    def __str__(self) -> str:
        return f"{self.text} ({self.data.hex(' ')}) at {self.rip:#x}"


def contradiction(text: str) -> str:
    """What a log that ends in a death says twice, and not the same; "" if nothing.

    At a shutdown the instruction pointer is the one of the instruction that faulted, Bochs prints
    both; the disassembly stands at it; the last exception is the one that has no resolution.
    """
    death = text.rfind("with no resolution")
    pointers = list(_POINTER.finditer(text[:death])) if death >= 0 else []
    if not pointers:
        return ""
    last = pointers[-1]
    if int(last[2], 16) != int(last[3], 16):
        return "the two instruction pointers of the dump differ"
    shown = [one.rip for one in instructions(text[last.end() : death])]
    if shown and shown[-1] != int(last[2], 16):
        return "the disassembly is not at the instruction pointer of the dump"
    third = _THIRD.findall(text[: death + 20])
    raised = _RAISED.findall(text[:death])
    if third and raised and int(third[-1]) != int(raised[-1][1], 16):
        return "the exception without resolution is not the last one that was raised"
    return ""


def canonical(text: str) -> str:
    """The text with the three rewritten."""
    complete = _ANY_EXCEPTION.search(text) is not None
    raised = {(int(c, 16), int(v, 16)) for c, v in _RAISED.findall(text)}
    tick, result = 100000, []
    for line in text.split("\n")[:MAX_LINES]:
        found = _TICK.search(line)
        if found is not None:
            tick = int(found[1])
            result.append(_marked(line, tick, raised))
            if not complete and found[2].startswith("CPU"):
                result += _implied(tick, found[2], line[found.end() :].strip())
            continue
        loose = _LOOSE.match(line)
        if loose is not None:
            level = "p" if loose["text"].startswith(">>PANIC<<") else "e"
            device = f"CPU{loose['cpu'] or '0'}"
            result.append(f"{tick:011d}{level}[{device:6}] {loose['text'].strip()}")
        else:
            result.append(line)
    return "\n".join(result)


def _implied(tick: int, device: str, message: str) -> list[str]:
    """The exception that a message announces, as a log line; none for any other message."""
    for pattern, vector in _IMPLIED:
        if pattern.search(message):
            code = _selector(message)
            return [f"{tick:011d}d[{device}] exception(0x{vector:02x}): error_code={code:x}"]
    return []


def _selector(message: str) -> int:
    """The error code that a message implies; UNKNOWN_CODE if it does not say."""
    if "Set" in message[:3] or "check_CR" in message or "selector null" in message:
        return 0
    found = _NAMED.search(message)
    return int(found[1] or found[2], 16) & 0xFFF8 if found else UNKNOWN_CODE


def _marked(line: str, tick: int, raised: set[tuple[int, int]]) -> str:
    shown = _SHOWN.search(line)
    if shown is not None:
        cpu, vector = int(shown["cpu"]), int(shown["vector"], 16)
        if (cpu, vector) not in raised:
            code = int(shown["code"][:8], 16)
            return f"{tick:011d}d[CPU{cpu:X}  ] exception(0x{vector:02x}): error_code={code:04x}"
    return _POINTER.sub(r"| \1=\3 (\3)", line)


def instructions(text: str) -> tuple[Instruction, ...]:
    """What Bochs disassembled, in the order of the text, the last ones."""
    found: list[Instruction] = []
    for line in text.split("\n"):
        if ";" not in line and ">>" not in line:
            continue
        match = _AT.search(line[:MAX_LINE]) or _NEXT.search(line[:MAX_LINE])
        if match is None or len(match["bytes"]) % 2:
            continue
        data, rip = bytes.fromhex(match["bytes"]), int(match["ip"], 16)
        parts = match.groupdict()
        base = int(parts["cs"], 16) << 4 if parts.get("cs") else 0
        real = rip < 1 << 16 and parts.get("physical") and base + rip == int(parts["physical"], 16)
        found.append(Instruction(rip, base + rip if real else rip, match["text"][:80], data))
    return tuple(found[-MAX_SAID:])
