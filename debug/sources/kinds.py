# SPDX-License-Identifier: BSD-2-Clause
"""What a file is, told by its content and never by its name."""

from __future__ import annotations

import re
from enum import Enum

SAMPLE = 64 << 10  # bytes of the head and of the tail that are enough


class Kind(Enum):
    QEMU_LOG = "qemu-log"  # -d int,cpu_reset
    QEMU_REGISTERS = "qemu-registers"  # info registers, or the dump of an abort
    QEMU_CORE = "qemu-core"  # dump-guest-memory
    ELF = "elf"  # an ELF file that is no core
    BOCHS_LOG = "bochs-log"
    BOCHS_DEBUGGER = "bochs-debugger"  # a session with Bochs's debugger
    UEFI_DUMP = "uefi-dump"  # what EDK II prints of an exception
    STAGES = "stages"  # stage frames, with or without console text
    EMPTY = "empty"
    UNKNOWN = "unknown"


_PACKED = {  # how it begins: what it is, and what unpacks it to standard output
    b"\x1f\x8b": ("gzip", "zcat"),
    b"\xfd7zXZ\0": ("xz", "xzcat"),
    b"\x28\xb5\x2f\xfd": ("zstd", "zstdcat"),
    b"BZh": ("bzip2", "bzcat"),
    b"PK\x03\x04": ("zip", "unzip -p"),
}
_QEMU_LOG = (
    re.compile(rb"check_exception old: 0x"),
    re.compile(rb"\bv=[0-9a-f]{2}\s+e=[0-9a-f]{4,8}\s+i=[01]"),
    re.compile(rb"Servicing hardware INT=0x"),
    re.compile(rb"CPU Reset \(CPU \d+\)"),
    re.compile(rb"^\s*SMM: (?:enter|after RSM)", re.M),
)
_QEMU_REGISTERS = (
    re.compile(rb"\b[ER]AX=[0-9a-f]{8,16} [ER]BX=[0-9a-f]{8}"),
    re.compile(rb"\b[ER]IP=[0-9a-f]{8,16} [ER]FL=[0-9a-f]{8}"),
    re.compile(rb"^\s*CPU#\d+\s*$", re.M),
)
_BOCHS_LOG = re.compile(rb"^\s*\d{11}[ideps>][\[ ][A-Z0-9 ]{0,8}[A-Za-z0-9 ]*\]", re.M)
_BOCHS_DEBUGGER = re.compile(
    rb"<bochs:\d+>|^\(\d+\)\.?\[\d+\]|^\(\d+\) \[0x[0-9a-f]+\]|^Next at t=\d+|"
    rb"[cdefgs]s:0x[0-9a-f]{4}, dh=0x|^(?:Global|Interrupt) Descriptor Table \((?:base=)?0x",
    re.M,
)
_UEFI_DUMP = re.compile(rb"!!!! (?:X64|IA32) Exception Type - [0-9A-Fa-f]{2}")
_STAGE = re.compile(rb"@[0-9a-f]{2,8}:[0-9a-f]{2}(?:=[0-9a-f]{1,8})?\.[0-9a-f]\*[0-9a-f]{2}")
_LOOSE_BOCHS = re.compile(
    rb"exception\(\): 3rd \(\d+\) exception|fetch_raw_descriptor:|interrupt\(\): gate|"
    rb"\[(?:CPU|APIC|BIOS)\d? *\]"
)


def packed(head: bytes) -> tuple[str, str] | None:
    """The format of a compressed file, and the command that unpacks it."""
    return next((found for magic, found in _PACKED.items() if head.startswith(magic)), None)


def kind_of(head: bytes, tail: bytes = b"") -> Kind:
    """The kind of a file from its first and last bytes (SAMPLE of each, or all of it)."""
    if not head and not tail:
        return Kind.EMPTY
    if head[:4] == b"\x7fELF":
        if len(head) < 18 or head[5] not in (1, 2):
            return Kind.UNKNOWN
        kind = int.from_bytes(head[16:18], "little" if head[5] == 1 else "big")
        return Kind.QEMU_CORE if kind == 4 else Kind.ELF
    sample = (head[:SAMPLE] + b"\n" + tail[-SAMPLE:]).replace(b"\r", b"")
    bochs = len(_BOCHS_LOG.findall(sample))
    log = sum(len(pattern.findall(sample)) for pattern in _QEMU_LOG)
    if bochs and bochs >= log:
        return Kind.BOCHS_LOG
    if log:
        return Kind.QEMU_LOG
    if any(pattern.search(sample) for pattern in _QEMU_REGISTERS):
        return Kind.QEMU_REGISTERS
    if _BOCHS_DEBUGGER.search(sample):
        return Kind.BOCHS_DEBUGGER
    if _LOOSE_BOCHS.search(sample):
        return Kind.BOCHS_LOG
    if _UEFI_DUMP.search(sample):
        return Kind.UEFI_DUMP
    if _STAGE.search(sample):
        return Kind.STAGES
    return Kind.UNKNOWN
