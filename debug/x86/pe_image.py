# SPDX-License-Identifier: BSD-2-Clause
"""PE images in memory: UEFI's drivers are such [UEFI, "UEFI Images"; Microsoft, "PE Format"]."""

from __future__ import annotations

from typing import Callable, Optional

Reader = Callable[[int, int], Optional[bytes]]

DRIVERS = (11, 12)  # subsystems: boot service driver, runtime driver
_PAGE, _FURTHEST = 4096, 512  # pages before an address that its image may begin in
_HEADER = 0x400


def subsystem(read: Reader, address: int) -> Optional[int]:
    """The subsystem of the 64-bit PE image that holds the address; None if none does."""
    page = address & -_PAGE
    for start in range(page, max(page - _FURTHEST * _PAGE, -_PAGE), -_PAGE):
        if read(start, 2) == b"MZ" and (found := _subsystem(read, start, address)) is not None:
            return found
    return None


def _subsystem(read: Reader, start: int, address: int) -> Optional[int]:
    data = read(start, _HEADER) or b""
    at = int.from_bytes(data[0x3C:0x40], "little")
    header = data[at : at + 24 + 0x46]
    if len(header) < 24 + 0x46 or header[:4] != b"PE\0\0" or header[24:26] != b"\x0b\x02":
        return None
    size = int.from_bytes(header[24 + 0x38 : 24 + 0x3C], "little")
    if not start <= address < start + size:
        return None
    return int.from_bytes(header[24 + 0x44 : 24 + 0x46], "little")
