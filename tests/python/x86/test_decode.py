# SPDX-License-Identifier: BSD-2-Clause
"""Instruction decoding against ndisasm, on what NASM assembles."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from debug.evidence import Registers, Segment, TableRegister
from debug.x86.accesses import (
    accesses,
    control_write,
    effective_address,
    far_target,
    linear_address,
    msr_write,
    selector_load,
    table_load,
)
from debug.x86.decode import decode, decode_many
from debug.x86.instruction import Instruction, Kind

# What mode switches, handlers and C code are made of.
CORPUS = {
    16: """
        cli
        cld
        xor ax, ax
        mov ds, ax
        mov ss, ax
        mov sp, 0x7c00
        lgdt [0x8100]
        o32 lgdt [cs:0x100]
        lidt [0x8110]
        mov eax, cr0
        or al, 1
        mov cr0, eax
        lmsw ax
        jmp 0x8:0x8040
        jmp dword 0x8:0x8040
        jmp far [0x8200]
        jmp far dword [bx + si + 4]
        call 0x10:0x1234
        retf
        o32 retf
        iret
        o32 iret
        mov eax, [eax + ecx * 4 + 0x1000]
        mov ax, [bp + di - 3]
        push eax
        push word [0x8000]
        pusha
        popf
        out 0xe9, al
        in al, dx
        rep movsb
        a32 rep stosd
        hlt
        int 0x10
        .loop: jmp .loop
        jnz .loop
        call .loop
        mov byte [es:di], 0x41
        wrmsr
        """,
    32: """
        mov eax, cr4
        bts eax, 5
        mov cr4, eax
        mov cr3, ebx
        mov ecx, 0xc0000080
        rdmsr
        wrmsr
        jmp 0x18:0x8100
        jmp far [0x9000]
        call 0x8:0x12345678
        ltr ax
        lldt [0x9000]
        lgdt [eax]
        lidt [esp + 4]
        mov ds, eax
        mov ax, ss
        pop es
        push dword [ebp + 8]
        pushad
        popfd
        enter 16, 0
        leave
        iretd
        retf 8
        ret
        invlpg [eax]
        movaps xmm0, [esp]
        movups [eax], xmm1
        fninit
        fxsave [eax]
        out dx, eax
        int 0x80
        lss esp, [0x9000]
        bound eax, [ebx]
        clts
        ud2
        sti
        pause
        .loop: jmp .loop
        """,
    64: """
        mov rax, cr0
        mov cr4, rax
        mov cr8, rcx
        mov dr7, rax
        mov ecx, 0xc0000101
        wrmsr
        lgdt [rel $ + 64]
        lidt [rdi]
        ltr di
        mov ss, eax
        mov gs, eax
        swapgs
        push rax
        push 0x10
        push qword [rsp + 8]
        pop r15
        call rax
        call [rel $ + 16]
        jmp [rax * 8 + 0x1000]
        jmp far [rsp]
        o64 jmp far [rsp]
        retfq
        iretq
        iretd
        mov rax, [gs:0x28]
        mov rax, [fs:rbx + r12 * 2 - 8]
        mov qword [rdi], 0
        mov rax, 0x1122334455667788
        mov eax, [0x1000]
        lea rsi, [rel $ + 32]
        movaps [rsp - 24], xmm0
        movapd xmm1, [rax]
        movdqa xmm15, [r8]
        movdqu xmm2, [rdi]
        addps xmm0, [rax]
        pxor xmm0, xmm0
        vmovaps [rax], ymm3
        vmovdqu ymm1, [rsi]
        vzeroupper
        xsetbv
        xgetbv
        xsave [rax]
        fxrstor64 [rdi]
        cpuid
        syscall
        o64 sysret
        rdfsbase rax
        invpcid rax, [rdi]
        cmpxchg16b [rdi]
        lock inc dword [rax]
        lock bts qword [rdi], 3
        rep stosq
        movsq
        hlt
        int3
        ud2
        leave
        ret
        .loop: pause
        jmp .loop
        a32 mov eax, [ebx]
        """,
}

# Where the two disassemblers name the same instruction differently.
SAME = {
    "ljmp": "jmp",
    "lcall": "call",
    "iretd": "iret",
    "retfq": "retf",
    "pushaw": "pusha",
    "pushal": "pusha",
    "pushad": "pusha",
    "popfd": "popf",
    "popfw": "popf",
    "pushfd": "pushf",
    "movabs": "mov",
    "retfd": "retf",
    "vmovqqu": "vmovdqu",
    "je": "jz",
    "jne": "jnz",
    "sysretq": "sysret",
    "o64": "",
    "fxrstor64": "fxrstor",
}


def assemble(source: str, width: int, folder: Path) -> bytes:
    """`source` as flat code at 0x8000."""
    (folder / "code.asm").write_text(f"bits {width}\norg 0x8000\nstart:\n{source}")
    command = ["nasm", "-f", "bin", "-o", str(folder / "code.bin"), str(folder / "code.asm")]
    subprocess.run(command, check=True, timeout=30)
    return (folder / "code.bin").read_bytes()


def ndisasm(folder: Path, width: int) -> list[tuple[int, bytes, str]]:
    """(address, bytes, text) of each instruction."""
    command = ["ndisasm", f"-b{width}", "-o0x8000", str(folder / "code.bin")]
    text = subprocess.run(command, check=True, capture_output=True, text=True, timeout=30).stdout
    found: list[tuple[int, bytes, str]] = []
    for line in text.splitlines():
        if line.strip().startswith("-"):  # the rest of a long instruction's bytes
            address, data, words = found[-1]
            found[-1] = (address, data + bytes.fromhex(line.strip()[1:]), words)
            continue
        at, data_text, words = line.split(None, 2)
        found.append((int(at, 16), bytes.fromhex(data_text), words))
    return found


def words_of(text: str) -> tuple[str, frozenset[str], frozenset[int]]:
    """(mnemonic, registers, numbers) of one line in either syntax."""
    text = text.lower().replace("repne", "rep")
    text = re.sub(
        r"\b(xmmword|ymmword|qword|dword|word|byte|ptr|tword|far|short|near|rel|xword)\b", " ", text
    )
    text = re.sub(r"^\s*((lock|rep|repe|o16|o32|o64|a32|a16|es|cs)\s+)*", "", text)
    mnemonic = text.split()[0]
    rest = text[len(mnemonic) :]
    registers = frozenset(
        re.findall(
            r"\b(?:[re]?[abcd]x|[abcd][lh]|[re]?[sd]i|[re]?[sb]p|r\d+|cr\d|dr\d|[xy]mm\d+)\b", rest
        )
    )
    numbers = frozenset(int(item, 16) for item in re.findall(r"0x[0-9a-f]+", rest))
    return SAME.get(mnemonic, mnemonic), registers, numbers


@pytest.mark.parametrize("width", (16, 32, 64))
def test_every_instruction_agrees_with_ndisasm(width: int, tmp_path: Path) -> None:
    code = assemble(CORPUS[width], width, tmp_path)
    ours = decode_many(code, 0x8000, width, 1000)
    theirs = ndisasm(tmp_path, width)
    assert [item.data.hex() for item in ours] == [data.hex() for _, data, _ in theirs]
    assert sum(item.length for item in ours) == len(code)
    for item, (address, _, text) in zip(ours, theirs):
        assert item.address == address
        mnemonic, registers, _ = words_of(item.text)
        expected = words_of(text)
        assert mnemonic == expected[0], (item.text, text)
        if not re.search(r"(movs|stos|ins|outs)[bwdq]\b|^(in|out|mov (ss|ds|gs))\b", item.text):
            assert registers == expected[1], (item.text, text)
        if item.target is not None:
            assert item.target in expected[2], (item.text, text)
        if item.far_immediate is not None:
            assert set(item.far_immediate) == expected[2], (item.text, text)


def one(text: str, width: int, tmp_path: Path, address: int = 0x8000) -> Instruction:
    found = decode(assemble(text, width, tmp_path), address, width)
    assert found is not None
    return found


FLAT = Segment(0x10, 0, 0xFFFF_FFFF, 0xCF9300)


def long_mode(**general: int) -> Registers:
    control = {"cr0": 0x80000011, "cr3": 0x1000, "cr4": 0x20, "efer": 0x500}
    code = Segment(0x8, 0, 0xFFFF_FFFF, 0xAF9B00)
    segments = {"cs": code, "ss": FLAT, "ds": FLAT, "es": FLAT, "gs": Segment(0, 0x5000, 0, 0)}
    return Registers(0x8000, 2, general, control, segments, cpl=0)


def real_mode(**general: int) -> Registers:
    segment = Segment(0x800, 0x8000, 0xFFFF, 0x9300)
    names = ("cs", "ss", "ds", "es", "fs", "gs")
    return Registers(0, 2, general, {"cr0": 0x10}, dict.fromkeys(names, segment))


def test_far_jumps_name_selector_and_offset(tmp_path: Path) -> None:
    def no_memory(address: int, length: int) -> None:
        return None

    jump = one("jmp dword 0x18:0x12345678", 16, tmp_path)
    assert jump.kind is Kind.FAR_JUMP
    assert jump.far_immediate == (0x18, 0x12345678)
    pointer = one("jmp far dword [0x200]", 16, tmp_path)
    assert far_target(pointer, real_mode(), no_memory) is None

    def reader(address: int, length: int) -> bytes:
        assert address in (0x8200, 0x8204)
        return bytes.fromhex("785634120800")[address - 0x8200 :][:length]

    assert far_target(pointer, real_mode(), reader) == (8, 0x12345678)


@pytest.mark.parametrize(
    "text, offset, linear",
    [
        ("mov rax, [rsp - 8]", 0xFF8, 0xFF8),
        ("mov rax, [rel $ + 0x100]", 0x8100, 0x8100),
        ("mov eax, [gs:0x28]", 0x28, 0x5028),
        ("mov eax, [rbx + rcx * 4 - 4]", 0x2000 + 12 - 4, 0x2000 + 12 - 4),
        ("mov eax, [-8]", 0xFFFF_FFFF_FFFF_FFF8, 0xFFFF_FFFF_FFFF_FFF8),
        ("a32 mov eax, [ebx - 0x3000]", 0xFFFF_F000, 0xFFFF_F000),
    ],
)
def test_effective_address(text: str, offset: int, linear: int, tmp_path: Path) -> None:
    registers = long_mode(rsp=0x1000, rbx=0x2000, rcx=3)
    instruction = one(text, 64, tmp_path)
    assert effective_address(instruction, registers) == offset
    assert linear_address(instruction, registers) == linear


def test_effective_address_in_real_mode_wraps_and_uses_the_segment(tmp_path: Path) -> None:
    registers = real_mode(rbp=0x10, rdi=0xFFF0, rbx=0)
    assert linear_address(one("mov ax, [bp + di + 4]", 16, tmp_path), registers) == 0x8004
    assert linear_address(one("mov ax, [0x9000]", 16, tmp_path), registers) == 0x11000


@pytest.mark.parametrize(
    "text, expected",
    [
        ("push rax", [("push", 0xFF8, 8, True)]),
        ("pop rax", [("pop", 0x1000, 8, False)]),
        ("call rax", [("push", 0xFF8, 8, True)]),
        ("push word 5", [("push", 0xFFE, 2, True)]),
        ("ret", [("pop", 0x1000, 8, False)]),
        ("leave", [("pop", 0x3000, 8, False)]),
        ("movaps [rsp - 24], xmm0", [("operand", 0xFE8, 16, True)]),
        ("add [rbp], eax", [("operand", 0x3000, 4, False), ("operand", 0x3000, 4, True)]),
        ("lea rax, [rbp]", []),
        ("cmp dword [rbp], 1", [("operand", 0x3000, 4, False)]),
        ("iretq", [("pop", 0x1000 + 8 * index, 8, False) for index in range(5)]),
        ("o64 retf", [("pop", 0x1000, 8, False), ("pop", 0x1008, 8, False)]),
        ("push qword [rbp]", [("operand", 0x3000, 8, False), ("push", 0xFF8, 8, True)]),
        ("rep stosb", []),
    ],
)
def test_accesses(text: str, expected: list[tuple[str, int, int, bool]], tmp_path: Path) -> None:
    registers = long_mode(rsp=0x1000, rbp=0x3000, rcx=0, rdi=0)
    found = accesses(one(text, 64, tmp_path), registers)
    assert [(item.what, item.linear, item.size, item.write) for item in found] == expected


@pytest.mark.parametrize(
    "width, text, kind, privileged, alignment, flags",
    [
        (64, "movaps xmm0, [rax]", Kind.OTHER, False, 16, "sse"),
        (64, "movups xmm0, [rax]", Kind.OTHER, False, 1, "sse"),
        (64, "addps xmm0, [rax]", Kind.OTHER, False, 16, "sse"),
        (64, "addss xmm0, [rax]", Kind.OTHER, False, 1, "sse"),
        (64, "vaddps xmm0, xmm0, [rax]", Kind.OTHER, False, 1, "vex"),
        (64, "vmovaps [rax], ymm0", Kind.OTHER, False, 32, "vex"),
        (64, "fld dword [rax]", Kind.OTHER, False, 1, "x87"),
        (64, "fxsave [rax]", Kind.OTHER, False, 16, ""),
        (64, "mov cr3, rax", Kind.WRITE_CONTROL, True, 1, ""),
        (64, "mov rax, cr2", Kind.READ_CONTROL, True, 1, ""),
        (64, "wrmsr", Kind.WRMSR, True, 1, ""),
        (64, "pause", Kind.PAUSE, False, 1, ""),
        (32, "les eax, [ebx]", Kind.LOAD_SEGMENT, False, 1, ""),
        (32, "pop ds", Kind.LOAD_SEGMENT, False, 1, ""),
        (16, "hlt", Kind.HALT, True, 1, ""),
        (16, "out 0xe9, al", Kind.PORT, False, 1, ""),
    ],
)
def test_what_an_instruction_is(
    width: int, text: str, kind: Kind, privileged: bool, alignment: int, flags: str, tmp_path: Path
) -> None:
    found = one(text, width, tmp_path)
    assert (found.kind, found.privileged, found.alignment) == (kind, privileged, alignment)
    assert [name for name in ("sse", "vex", "x87") if getattr(found, name)] == flags.split()


@pytest.mark.parametrize("width", (16, 32, 64))
def test_a_jump_to_itself(width: int) -> None:
    found = decode(b"\xeb\xfe", 0x8123, width)
    assert found is not None and found.jumps_to_itself and found.target == 0x8123
    other = decode(b"\xeb\xfd", 0x8123, width)
    assert other is not None and not other.jumps_to_itself


def test_values_that_instructions_write(tmp_path: Path) -> None:
    registers = long_mode(rax=0x1234_8000_0011, rcx=0xFFFF_C000_0080, rdx=1, rdi=0x9000)
    assert control_write(one("mov cr4, rax", 64, tmp_path), registers) == ("cr4", 0x1234_8000_0011)
    assert control_write(one("mov cr0, eax", 32, tmp_path), registers) == ("cr0", 0x8000_0011)
    assert control_write(one("lmsw ax", 64, tmp_path), registers) == ("cr0", 0x8000_0011)
    assert msr_write(registers) == (0xC000_0080, 0x1_8000_0011)

    def reader(address: int, length: int) -> bytes:
        return bytes.fromhex("7f00 0020 4060 80ff ffff 1800")[address - 0x9000 :][:length]

    table = table_load(one("lgdt [rdi]", 64, tmp_path), registers, reader)
    assert table == TableRegister(0xFFFF_FF80_6040_2000, 0x7F)
    load = selector_load(one("ltr [rdi + 10]", 64, tmp_path), registers, reader)
    assert load == ("tr", 0x18)
    narrow = decode(bytes.fromhex("0f0115 00900000"), 0, 32)
    assert narrow is not None
    flat = Registers(0, 2, {}, {"cr0": 0x11}, {"cs": FLAT, "ds": FLAT})
    assert table_load(narrow, flat, reader) == TableRegister(0x6040_2000, 0x7F)


@given(st.binary(max_size=20), st.integers(0, 2**64 - 1), st.sampled_from((16, 32, 64)))
def test_any_bytes_decode_or_not(data: bytes, address: int, width: int) -> None:
    found = decode(data, address, width)
    if found is not None:
        assert data.startswith(found.data) and 1 <= found.length <= 15
        for registers in (long_mode(rsp=address), real_mode(), Registers()):
            for access in accesses(found, registers):
                assert access.size > 0
            control_write(found, registers)
            selector_load(found, registers, lambda address, length: bytes(length))
            far_target(found, registers, lambda address, length: None)


@pytest.mark.parametrize("code", ["f7042500100000 01000000", "f6042500100000 01", "85042500100000"])
def test_what_only_tests_does_not_write(code: str) -> None:
    one = decode(bytes.fromhex(code), 0, 64)
    assert one is not None and one.mnemonic == "test" and one.memory is not None
    assert one.memory.read and not one.memory.written
