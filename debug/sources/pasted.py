# SPDX-License-Identifier: BSD-2-Clause
"""Text that people paste, given back the shape that the program wrote.

Pure: bytes in, bytes out, never an exception; text that is whole comes back as it was.  What a
terminal, a forum, a mail, a CI system or an editor does to a log and is undone here: UTF-16 and byte
order marks, escape sequences, CRLF, HTML entities, quoted-printable, no-break spaces, quotation
marks, comment signs, Markdown fences, prompts and timestamps in front of lines, lines that were
wrapped, line ends that were lost.  What is missing stays missing.
"""

from __future__ import annotations

import html
import quopri
import re

from debug.sources import gdb_registers
from debug.sources.console import plain

MAX_LINE = 1 << 20  # characters of a line that are looked at
MAX_JOINED = 4  # pieces that one line was wrapped into

_UTF16 = ((b"\xff\xfe", "utf-16-le"), (b"\xfe\xff", "utf-16-be"))
_SPACES: dict[int, str] = dict.fromkeys((0xA0, 0x2007, 0x202F, 0x3000), " ")
_SPACES.update(dict.fromkeys((0x200B, 0x200C, 0x200D, 0xFEFF, 0xAD), ""))

# Where a record of QEMU's log begins, whatever stands before it.
_HEAD = re.compile(
    r"(?:check_exception old: 0x|(?<![\d:.])\d{1,10}:\s*v=[0-9a-f]{2}\s+e=|\bv=[0-9a-f]{2}\s+e=|"
    r"Servicing hardware INT=|CPU Reset \(CPU |SMM: (?:enter|after)|"
    r"(?<![a-z] )Triple fault(?=\s*(?:$|CPU Reset|check_exc|SMM|Servicing)|\.\s+Halting)|"
    r"CPU#\d{1,5}(?=\s*$|\s+[ER]AX)|(?<![\w*])[ER]AX=[0-9a-f]{8}|"
    r"KVM internal error|apic_(?:mem|register)_write|qemu(?:-system-[a-z0-9_]+)?: )"
)
# Where another line of a dump begins.
_FIELD = re.compile(
    r"(?<![\w*])(?:[ER](?:SI|IP)=|R8 =|R12=|[CDEFGS]S =|LDT=|TR =|GDT=|IDT=|CR0=|DR[06]=|CC[SD]=|EFER=|"
    r"FCW=|FPR\d=|XMM\d\d=)"
    r"[0-9a-f ]{4}"
)
_RECORD = re.compile(r"v=[0-9a-f]{2}\s+e=")
_RECORD_END = re.compile(r"(?:CR2=|R_EAX\]=)(?:[0-9a-f]{16}|[0-9a-f]{8})(?![0-9a-f])")
_BOCHS = re.compile(r"(?<![0-9])[0-9]{8,20}[idep]\[[A-Za-z0-9_ ]{1,8}\]")
_CUT_VALUE = re.compile(r"\b([A-Z][A-Z0-9]{1,3}) ?= ?([0-9a-f]{0,15})$")
_REST = re.compile(r"[0-9a-f]{1,16}\b(?!\s?=)")
_WIDE = re.compile(r"\b(?:R[A-Z0-9]{1,2}|R1[0-5]|EFER) ?=")
_QUOTED = re.compile(r"\b[ER]IP=3D[0-9a-f]{8}")  # a mail's source: no value has a capital D
_FENCE = re.compile(r"^\s*(?:```|~~~)[\w+-]*\s*$")
_MONITOR = re.compile(r"^\s*\(qemu\)\s?")
_KNOWN = re.compile(
    r"^\s*(?:[ER][A-DSI][XPI]=|R8 |R9 |R1[0-5]=|[CDEFGS]S ?=|LDT=|TR ?=|GDT=|IDT=|CR0=|DR[0-7]=|"
    r"CC[SDO]=|EFER=|F[CS]W=|FPR|XMM|YMM|CPU#|\(|<bochs|Next at|bx_dbg)"
)


def clean(data: bytes) -> bytes:
    """The text as it was written, in UTF-8 with line feeds."""
    text = plain(_decode(data), len(data) + 1) if _dirty(data) else data.decode("latin-1")
    if _QUOTED.search(text):
        text = quopri.decodestring(text.encode("utf-8", "replace")).decode("utf-8", "replace")
    if "\xa0" in text or not text.isascii():
        text = text.translate(_SPACES)
    if "&" in text:
        text = html.unescape(text)
    text += gdb_registers.as_qemu(text) if gdb_registers.HEAD.search(text) else ""
    lines: list[str] = []
    for line in text.split("\n"):
        lines += _split(line[:MAX_LINE])
    return "\n".join(_join(lines)).encode("utf-8", "replace")


def _dirty(data: bytes) -> bool:
    return b"\x1b" in data or b"\r" in data or not data.isascii() or b"\0" in data


def _decode(data: bytes) -> bytes:
    """UTF-8 from UTF-16, which is what a redirection in PowerShell writes."""
    for mark, name in _UTF16:
        if data.startswith(mark):
            return data[2:].decode(name, "replace").encode("utf-8", "replace")
    if data[1:64:2].count(0) == 32 and not data[:64:2].count(0):  # a piece from the middle
        return data.decode("utf-16-le", "replace").encode("utf-8", "replace")
    return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")


def _split(line: str) -> list[str]:
    """The lines in a line: what stands before a record goes, a record inside begins a line."""
    if _FENCE.match(line):
        return []
    line = _MONITOR.sub("", line)
    marks = [found.start() for found in _BOCHS.finditer(line)]
    marks = marks or [found.start() for found in _HEAD.finditer(line)]
    if not marks:
        field = _FIELD.search(line)
        before = line[: field.start()] if field is not None else ""
        return [line[len(before) :] if before.strip() and "=" not in before else line]
    parts = [line[: marks[0]]] if "=" in line[: marks[0]] else []
    for start, end in zip(marks, [*marks[1:], len(line)]):
        part = line[start:end]
        parts += _after_record(part)
    return [part for part in parts if part]


def _after_record(part: str) -> list[str]:
    """The register fields that follow a record on the same line get lines of their own."""
    if not _RECORD.search(part):
        return [part]
    end = _RECORD_END.search(part)
    if end is None or not part[end.end() :].strip():
        return [part]
    return [part[: end.end()], part[end.end() :].strip()]


def _join(lines: list[str]) -> list[str]:
    """Lines that were wrapped, whole again."""
    result: list[str] = []
    at = 0
    while at < len(lines):
        line, taken = lines[at], 0
        while taken < MAX_JOINED and at + 1 < len(lines):
            joined = _continued(line, lines[at + 1])
            if joined is None:
                break
            line, at, taken = joined, at + 1, taken + 1
        result.append(line)
        at += 1
    return result


def _continued(line: str, following: str) -> str | None:
    """`line` with the piece that was wrapped off it; None if `following` is a line of its own."""
    tail = following.strip(" \t>|")
    if not tail or _HEAD.match(tail) or _BOCHS.search(following):
        return None
    bochs = _BOCHS.match(line)
    if bochs is not None:
        longer = len(line) > 60 and not _KNOWN.match(following) and "| " not in line[:40]
        return line + following if longer else None
    if _RECORD.search(line[:40]) and not _RECORD_END.search(line):
        if _KNOWN.match(following) or len(line) > 400:
            return None
        glued = line + following.lstrip()
        return glued if _fits(glued) else line.rstrip() + " " + following.strip()
    cut, rest = _CUT_VALUE.search(line), _REST.match(tail)
    if cut is None or rest is None or _KNOWN.match(following):
        return None
    have, more = len(cut[2]), len(rest[0])
    if have + more == 16 or have + more == 8 and not _WIDE.match(cut[0]):
        return line + tail
    return None


_BROKEN = re.compile(r"\b(?:pc|IP|SP|CR2|R_EAX\])=(?:[0-9a-f]{4}:)?[0-9a-f]{17,}")


def _fits(record: str) -> bool:
    """Whether a record glued together without a blank still has fields of the right width."""
    return _BROKEN.search(record) is None
