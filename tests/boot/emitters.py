# SPDX-License-Identifier: BSD-2-Clause
"""Where the trampoline's emitters write to the ports."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Iterator

import capstone

from debug.sources.elf_symbols import ElfFile

_MODES = {16: capstone.CS_MODE_16, 32: capstone.CS_MODE_32, 64: capstone.CS_MODE_64}
_REP_OUTSB = 0x6E  # the last byte of the instruction, whatever its prefixes
_OUT_DX_AL = 0xEE


@dataclass(frozen=True)
class Emitter:
    """One emitter; addresses are offsets into the trampoline page."""

    bits: int
    rep_outsb: int  # sends the frame to port 0xE9
    out_com1: int  # sends one byte to COM1


def find_emitter(build: Path, bits: int) -> Emitter:
    """Disassemble emit16, emit32 or emit64."""
    image = (build / "trampoline.bin").read_bytes()
    start = ElfFile(build / "trampoline.elf").address(f"emit{bits}")
    assert start is not None, f"the trampoline has no emit{bits}"
    rep_outsb = out_com1 = None
    for address, code in _instructions(image[start:], start, bits):
        if code[-1] == _REP_OUTSB and rep_outsb is None:
            rep_outsb = address
        if code == bytes([_OUT_DX_AL]) and rep_outsb is not None and out_com1 is None:
            out_com1 = address
    assert rep_outsb is not None and out_com1 is not None
    return Emitter(bits, rep_outsb, out_com1)


def _instructions(code: bytes, start: int, bits: int) -> Iterator[tuple[int, bytes]]:
    decoder = capstone.Cs(capstone.CS_ARCH_X86, _MODES[bits])
    for address, size, _, _ in decoder.disasm_lite(code, start):
        yield address, code[address - start : address - start + size]
