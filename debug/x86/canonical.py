# SPDX-License-Identifier: BSD-2-Clause
"""Canonical addresses [SDM 1 "Canonical Addressing"].

With 4-level paging the upper 16 bits of a linear address must repeat bit 47, with 5-level
paging the upper 7 bits must repeat bit 56.
"""

from __future__ import annotations

MASK64 = (1 << 64) - 1


def is_canonical(address: int, bits: int = 48) -> bool:
    """Whether a 64-bit address is canonical for linear addresses of `bits` bits (48 or 57)."""
    return canonical(address, bits) == address


def canonical(address: int, bits: int = 48) -> int:
    """`address` with its bit `bits`-1 repeated through bit 63."""
    low = address & (1 << bits) - 1
    return low | (MASK64 ^ ((1 << bits) - 1)) if low >> (bits - 1) else low
