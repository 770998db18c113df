# SPDX-License-Identifier: BSD-2-Clause
"""The kernel inside a bzImage [Linux, "The Linux/x86 Boot Protocol"]."""

from __future__ import annotations

import struct
from typing import Iterator

import lz4.block

from tests.machines.packages import MachineError

_SETUP_SECTORS, _MAGIC, _PAYLOAD = 0x1F1, 0x202, 0x248
_LZ4_LEGACY = 0x184C2102
_BLOCK = 8 << 20  # unpacked bytes that a block of this format holds at most


def unpack(image: bytes) -> bytes:
    """The ELF file that the bzImage holds.  Raises MachineError."""
    if image[_MAGIC : _MAGIC + 4] != b"HdrS":
        raise MachineError("no bzImage: the boot protocol's magic is missing")
    offset, length = struct.unpack_from("<II", image, _PAYLOAD)
    start = (image[_SETUP_SECTORS] + 1) * 512 + offset
    packed = image[start : start + length]
    (magic,) = struct.unpack_from("<I", packed)
    if magic != _LZ4_LEGACY:
        raise MachineError(f"the kernel is packed with something else than LZ4: {magic:#x}")
    data = b"".join(_blocks(packed[4:-4]))  # the last 4 bytes are the size of all of it
    if not data.startswith(b"\x7fELF"):
        raise MachineError("what the bzImage holds is no ELF file")
    return data


def _blocks(packed: bytes) -> Iterator[bytes]:
    at = 0
    while at + 4 <= len(packed):
        (size,) = struct.unpack_from("<I", packed, at)
        yield lz4.block.decompress(packed[at + 4 : at + 4 + size], uncompressed_size=_BLOCK)
        at += 4 + size
