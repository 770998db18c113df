# SPDX-License-Identifier: BSD-2-Clause
"""Instruction decoding in 16-, 32- and 64-bit code.  Bytes may be anything.

The one module that knows the disassembler library.  [SDM 2 "Instruction Format"]
"""

from __future__ import annotations

import importlib
import sys
from typing import Any, Optional

from debug.x86.instruction import (
    ImmediateOperand,
    Instruction,
    Kind,
    MemoryOperand,
    Operand,
    RegisterOperand,
)


def _library() -> Any:
    """The disassembler.  It imports distutils, whose hook would load all of setuptools first; that
    takes longer than everything else here."""
    hooks = [finder for finder in sys.meta_path if type(finder).__name__ == "DistutilsMetaFinder"]
    for hook in hooks:
        sys.meta_path.remove(hook)
    try:
        return importlib.import_module("capstone")
    finally:
        sys.meta_path[:0] = hooks


capstone = _library()
x86_const = importlib.import_module("capstone.x86_const")

MAX_LENGTH = 15  # bytes of one instruction

_MODES = {16: capstone.CS_MODE_16, 32: capstone.CS_MODE_32, 64: capstone.CS_MODE_64}
_ENGINES: dict[int, Any] = {}


def _engine(width: int) -> Any:
    engine = _ENGINES.get(width)
    if engine is None:
        engine = _ENGINES[width] = capstone.Cs(capstone.CS_ARCH_X86, _MODES[width])
        engine.detail = True
    return engine


def decode(data: bytes, address: int, width: int) -> Optional[Instruction]:
    """The instruction at the start of `data`, which lies at offset `address` of its code segment.

    `width` is 16, 32 or 64.  None when the bytes are no instruction, or too few of one.
    """
    if width not in _MODES or not data:
        return None
    address &= (1 << max(width, 32)) - 1
    for found in _engine(width).disasm(bytes(data[:MAX_LENGTH]), address, 1):
        return _instruction(found, address, width)
    return None


def decode_many(data: bytes, address: int, width: int, count: int) -> tuple[Instruction, ...]:
    """Up to `count` instructions one after the other; ends at the first that does not decode."""
    found: list[Instruction] = []
    at = 0
    while len(found) < count:
        one = decode(data[at : at + MAX_LENGTH], address + at, width)
        if one is None:
            break
        found.append(one)
        at += one.length
    return tuple(found)


_FAR = {"ljmp": Kind.FAR_JUMP, "lcall": Kind.FAR_CALL}
_KINDS: dict[str, Kind] = {
    **_FAR,
    "wrmsr": Kind.WRMSR,
    "rdmsr": Kind.RDMSR,
    "xsetbv": Kind.XSETBV,
    "lgdt": Kind.LGDT,
    "lidt": Kind.LIDT,
    "lldt": Kind.LLDT,
    "ltr": Kind.LTR,
    "lmsw": Kind.WRITE_CONTROL,
    "clts": Kind.WRITE_CONTROL,
    "retf": Kind.FAR_RETURN,
    "retfq": Kind.FAR_RETURN,
    "iret": Kind.IRET,
    "iretd": Kind.IRET,
    "iretq": Kind.IRET,
    "syscall": Kind.SYSCALL,
    "sysret": Kind.SYSCALL,
    "sysretq": Kind.SYSCALL,
    "sysexitq": Kind.SYSCALL,
    "sysenter": Kind.SYSCALL,
    "sysexit": Kind.SYSCALL,
    "jmp": Kind.NEAR_JUMP,
    "call": Kind.NEAR_CALL,
    "ret": Kind.NEAR_RETURN,
    "int": Kind.SOFTWARE_INTERRUPT,
    "int3": Kind.SOFTWARE_INTERRUPT,
    "int1": Kind.SOFTWARE_INTERRUPT,
    "into": Kind.SOFTWARE_INTERRUPT,
    "hlt": Kind.HALT,
    "ud2": Kind.INVALID,
    "ud2b": Kind.INVALID,
    "ud0": Kind.INVALID,
    "cli": Kind.INTERRUPT_FLAG,
    "sti": Kind.INTERRUPT_FLAG,
    "swapgs": Kind.SWAPGS,
    "invlpg": Kind.INVLPG,
    "invpcid": Kind.INVLPG,
    "invd": Kind.CACHE,
    "wbinvd": Kind.CACHE,
    "pause": Kind.PAUSE,
    "lds": Kind.LOAD_SEGMENT,
    "les": Kind.LOAD_SEGMENT,
    "lss": Kind.LOAD_SEGMENT,
    "lfs": Kind.LOAD_SEGMENT,
    "lgs": Kind.LOAD_SEGMENT,
}
_PORTS = frozenset("in out insb insw insd outsb outsw outsd".split())
_SEGMENTS = frozenset("cs ss ds es fs gs".split())
_PRIVILEGED = frozenset(
    "lgdt lidt lldt ltr lmsw clts hlt wrmsr rdmsr xsetbv invlpg invpcid invd wbinvd swapgs "
    "sysret sysretq sysexit sysexitq rsm vmxon vmlaunch vmresume vmptrld vmrun stgi clgi skinit".split()
)
# Legacy SSE instructions whose 16-byte memory operand may lie anywhere.
_UNALIGNED = frozenset("movups movupd movdqu lddqu".split()) | frozenset(
    "pcmpestri pcmpestrm pcmpistri pcmpistrm".split()
)
# Instructions that want their memory operand aligned in any encoding.
_ALIGNED = frozenset(
    "movaps movapd movdqa movntps movntpd movntdq movntdqa vmovaps vmovapd vmovdqa vmovntps "
    "vmovntpd vmovntdq vmovntdqa vmovdqa32 vmovdqa64".split()
)
_FIXED_ALIGNMENT = {"fxsave": 16, "fxrstor": 16, "fxsave64": 16, "fxrstor64": 16}
_FIXED_ALIGNMENT |= {name: 64 for name in "xsave xsave64 xrstor xrstor64 xsaveopt".split()}
_FIXED_ALIGNMENT |= {name: 64 for name in "xsaveopt64 xsavec xsavec64 xsaves xsaves64".split()}
_FIXED_ALIGNMENT |= {"xrstors": 64, "xrstors64": 64, "cmpxchg16b": 16}
_ADDRESS_ONLY = frozenset("lea nop invlpg prefetchnta prefetcht0 prefetcht1 prefetcht2".split())
# The library says nothing, or something wrong, about how these use their memory operand.
_READ_AND_WRITTEN = frozenset("cmpxchg cmpxchg8b cmpxchg16b xadd xchg".split())
_ONLY_READ = frozenset(("test",))
_STORES = frozenset("vmovaps vmovapd vmovups vmovupd vmovdqa vmovdqu".split())


def _instruction(found: Any, address: int, width: int) -> Instruction:
    data, words = bytes(found.bytes), found.mnemonic.split()
    mnemonic = words[-1] if words else ""
    operand_size = _operand_size(found, width)
    operands = _operands(found, mnemonic, operand_size, width)
    evex = x86_const.X86_GRP_AVX512 in found.groups or _first_opcode(data, width) == 0x62
    vex = _first_opcode(data, width) in (0xC4, 0xC5) and not evex and mnemonic not in ("les", "lds")
    groups = {found.group_name(group) for group in found.groups}
    names = {item.name[:3] for item in operands if isinstance(item, RegisterOperand)}
    sse = not (vex or evex) and (bool(groups & _SSE_GROUPS) or "xmm" in names)
    kind = _kind(mnemonic, operands)
    privileged = mnemonic in _PRIVILEGED or kind in _CONTROL_KINDS
    return Instruction(
        address=address,
        width=width,
        data=data,
        mnemonic=mnemonic,
        text=f"{found.mnemonic} {found.op_str}".strip(),
        kind=kind,
        operands=operands,
        operand_size=operand_size,
        privileged=privileged,
        sse=sse and mnemonic not in _NOT_SSE,
        x87=bool(groups & {"fpu", "mmx"}),
        vex=vex,
        evex=evex,
        alignment=_alignment(mnemonic, operands, sse),
    )


_CONTROL_KINDS = (Kind.WRITE_CONTROL, Kind.READ_CONTROL, Kind.DEBUG_REGISTER)
_SSE_GROUPS = frozenset("sse1 sse2 sse3 ssse3 sse41 sse42 sse4a aes pclmul sha".split())
# In an SSE group, yet they need no CR4.OSFXSR.
_NOT_SSE = frozenset(
    "pause lfence mfence sfence clflush prefetchnta prefetcht0 prefetcht1 prefetcht2 movnti "
    "popcnt crc32 monitor mwait".split()
)


def _kind(mnemonic: str, operands: tuple[Operand, ...]) -> Kind:
    if mnemonic in _PORTS:
        return Kind.PORT
    if mnemonic in _KINDS:
        return _KINDS[mnemonic]
    if mnemonic == "mov" and len(operands) == 2:
        to, source = operands
        if isinstance(to, RegisterOperand):
            if to.name[:2] == "cr":
                return Kind.WRITE_CONTROL
            if to.name in _SEGMENTS:
                return Kind.LOAD_SEGMENT
        if isinstance(source, RegisterOperand) and source.name[:2] == "cr":
            return Kind.READ_CONTROL
        if any(isinstance(item, RegisterOperand) and item.name[:2] == "dr" for item in operands):
            return Kind.DEBUG_REGISTER
    if mnemonic == "pop" and operands and isinstance(operands[0], RegisterOperand):
        return Kind.LOAD_SEGMENT if operands[0].name in _SEGMENTS else Kind.OTHER
    if mnemonic[:1] == "j" or mnemonic[:4] == "loop":
        return Kind.CONDITIONAL_JUMP
    return Kind.OTHER


def _first_opcode(data: bytes, width: int) -> int:
    """The first byte that is no legacy prefix."""
    for byte in data:
        if byte not in b"\x26\x2e\x36\x3e\x64\x65\x66\x67\xf0\xf2\xf3":
            return byte
    return 0


def _operand_size(found: Any, width: int) -> int:
    override = found.prefix[2] == 0x66
    if width == 64:
        return 8 if found.rex & 8 else 2 if override else 4
    return 2 if (width == 16) != override else 4


def _alignment(mnemonic: str, operands: tuple[Operand, ...], sse: bool) -> int:
    memory = [item for item in operands if isinstance(item, MemoryOperand)]
    if not memory:
        return 1
    if mnemonic in _FIXED_ALIGNMENT:
        return _FIXED_ALIGNMENT[mnemonic]
    if mnemonic in _ALIGNED:
        return memory[0].size
    return 16 if sse and memory[0].size == 16 and mnemonic not in _UNALIGNED else 1


def _operands(found: Any, mnemonic: str, operand_size: int, width: int) -> tuple[Operand, ...]:
    operands: list[Operand] = []
    bits = found.addr_size * 8 if found.addr_size in (2, 4, 8) else width
    for position, item in enumerate(found.operands):
        read, written = bool(item.access & 1), bool(item.access & 2)
        written = written and mnemonic not in _ONLY_READ
        if item.type == x86_const.X86_OP_REG:
            name = found.reg_name(item.reg) or ""
            operands.append(RegisterOperand(name, item.size, read or not written, written))
        elif item.type == x86_const.X86_OP_IMM:
            operands.append(_immediate(item, mnemonic, width))
        elif item.type == x86_const.X86_OP_MEM:
            size = item.size
            if mnemonic in _FAR:
                size = operand_size + 2
            elif mnemonic in ("lgdt", "lidt", "sgdt", "sidt"):
                size = 10 if width == 64 else 6
            if mnemonic in _READ_AND_WRITTEN:
                read = written = True
            elif mnemonic in _STORES:
                read, written = position != 0, position == 0
            base = found.reg_name(item.mem.base) or ""
            operands.append(
                MemoryOperand(
                    segment=_segment(found, item, base),
                    base=base if base not in ("riz", "eiz") else "",
                    index=_index(found, item),
                    scale=item.mem.scale,
                    displacement=item.mem.disp,
                    size=size,
                    read=read or not written,
                    written=written,
                    address_bits=bits,
                    address_only=mnemonic in _ADDRESS_ONLY,
                )
            )
    return tuple(operands)


def _immediate(item: Any, mnemonic: str, width: int) -> ImmediateOperand:
    size = item.size if item.size in (1, 2, 4, 8) else width // 8
    return ImmediateOperand(item.imm & (1 << size * 8) - 1, size)


def _index(found: Any, item: Any) -> str:
    name = found.reg_name(item.mem.index) or ""
    return name if name not in ("riz", "eiz") else ""


def _segment(found: Any, item: Any, base: str) -> str:
    named = found.reg_name(item.mem.segment) or ""
    if named in _SEGMENTS:
        return named
    return "ss" if base in ("rsp", "esp", "sp", "rbp", "ebp", "bp") else "ds"
