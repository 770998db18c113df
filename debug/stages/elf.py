# SPDX-License-Identifier: BSD-2-Clause
"""The stage table and the sites in an ELF file (docs/stage-codes.md "In the ELF file").

The file is not trusted.  Only its section headers are followed, each read is bounded, and
whatever does not fit is a StageTableError.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import BinaryIO, Iterable, NamedTuple, Optional

from debug.stages import tsv
from debug.stages.model import MODES, Site, StageTable, StageTableError
from debug.stages.table import BUILT_IN

TABLE_SECTION = ".lamppost.stages"
SITES_SECTION = ".lamppost.sites"
_MAX_SITES = 1 << 14
_SITE = struct.Struct("<QBB6x")
_PROGBITS = 1
_MODE_NAMES = {number: name for name, number in MODES.items()}


class _Layout(NamedTuple):
    """Where one ELF class keeps what is needed here."""

    header: struct.Struct  # e_shoff, e_shentsize, e_shnum, e_shstrndx
    section: struct.Struct  # sh_name, sh_type, sh_offset, sh_size


_LAYOUTS = {  # by EI_CLASS and EI_DATA
    b"\1\1": _Layout(struct.Struct("<32xI10xHHH"), struct.Struct("<II8xII16x")),
    b"\2\1": _Layout(struct.Struct("<40xQ10xHHH"), struct.Struct("<II16xQQ24x")),
}


def read_table(path: str) -> StageTable:
    """The stage table inside the ELF file.

    Raises OSError if the file can't be read, StageTableError if it is no ELF, has no table or a
    malformed one.
    """
    with open(path, "rb") as file:
        data = _section(file, path, TABLE_SECTION, tsv.MAX_BYTES)
    if data is None:
        raise StageTableError(
            f"{path}: ELF without a stage table: it has no section {TABLE_SECTION}. "
            "Give the kernel's own ELF file, not stripped; without one, the built-in table is used"
        )
    return tsv.parse_tsv(data, path)


def own_table(paths: Iterable[str | Path]) -> Optional[StageTable]:
    """The first stage table in these ELF files; None if they have none, or only damaged ones."""
    for path in paths:
        try:
            return read_table(str(path))
        except (OSError, StageTableError):
            continue
    return None


def read_sites(path: str) -> tuple[Site, ...]:
    """The places in the code that emit stages, in the file's order; none without the section.

    Raises OSError and StageTableError as read_table() does.
    """
    with open(path, "rb") as file:
        data = _section(file, path, SITES_SECTION, _MAX_SITES * _SITE.size)
    sites = []
    for address, code, mode in _SITE.iter_unpack(_whole_sites(data or b"", path)):
        if mode not in _MODE_NAMES:
            raise StageTableError(f"{path}: {SITES_SECTION} holds a site of unknown mode {mode}")
        sites.append(Site(address, code, _MODE_NAMES[mode]))
    return tuple(sites)


def table_for(path: Optional[str]) -> StageTable:
    """The table of the ELF file at `path`, or the built-in one when there is no path."""
    return BUILT_IN if path is None else read_table(path)


def _whole_sites(data: bytes, path: str) -> bytes:
    if len(data) % _SITE.size:
        raise StageTableError(
            f"{path}: {SITES_SECTION} has {len(data)} bytes, expected a multiple of {_SITE.size}"
        )
    return data


def _section(file: BinaryIO, path: str, name: str, most: int) -> Optional[bytes]:
    """A section's bytes, None if there is no such section [ELF "Section Header"]."""
    header = file.read(16)
    if header[:4] != b"\x7fELF":
        raise StageTableError(f"{path}: not an ELF file: it does not begin with 7f 45 4c 46")
    layout = _LAYOUTS.get(header[4:6])
    if layout is None:
        raise StageTableError(f"{path}: not an x86 ELF file: expected 32 or 64 bits, little endian")
    size = os.fstat(file.fileno()).st_size
    table, stride, count, names = layout.header.unpack(_at(file, 0, layout.header.size, path))
    if count and stride < layout.section.size:
        raise StageTableError(f"{path}: damaged ELF file: section headers of {stride} bytes")
    headers = [
        layout.section.unpack(_at(file, table + n * stride, layout.section.size, path))
        for n in range(count)
    ]
    if not names < count:
        return None
    wanted = name.encode("ascii") + b"\0"
    for name_offset, kind, offset, length in headers:
        start = headers[names][2] + name_offset
        if start + len(wanted) > size or _at(file, start, len(wanted), path) != wanted:
            continue
        if kind != _PROGBITS or length > most or offset + length > size:
            raise StageTableError(
                f"{path}: section {name} is damaged: {length} bytes at {offset:#x}"
            )
        return _at(file, offset, length, path)
    return None


def _at(file: BinaryIO, offset: int, length: int, path: str) -> bytes:
    """Exactly `length` bytes at `offset`."""
    data = b""
    if offset + length <= os.fstat(file.fileno()).st_size:
        file.seek(offset)
        data = file.read(length)
    if len(data) != length:
        raise StageTableError(f"{path}: damaged ELF file: it ends before offset {offset:#x}")
    return data
