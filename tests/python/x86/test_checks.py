# SPDX-License-Identifier: BSD-2-Clause
"""What the CPU refuses: segments, delivery, control registers, instructions."""

from __future__ import annotations

from typing import Optional

import pytest
from hypothesis import given
from hypothesis import strategies as st

from debug.evidence import Registers, Segment, TableRegister
from debug.x86.control_checks import check_control_write, check_wrmsr, check_xsetbv
from debug.x86.decode import decode
from debug.x86.delivery import deliver
from debug.x86.instruction_checks import check_fetch, check_instruction
from debug.x86.linear import LinearMemory
from debug.x86.refusals import Check, Refusal, Undecided, Verdict
from debug.x86.segment_checks import check_far_transfer, check_lldt, check_load, check_ltr
from tests.python.x86.x86_machine import (
    CODE16,
    CODE32,
    CODE64,
    DATA,
    GDT,
    IDT,
    TSS,
    TSS64,
    USER_CODE64,
    USER_DATA,
    gate32,
    gate64,
    long_mode,
    protected,
    with_registers,
    words,
)

PRESENT, BIG = 1 << 47, 1 << 54
TABLE = words(0, CODE64, DATA, TSS64, 0, CODE32, USER_DATA, USER_CODE64, CODE16)
C64, SS, TR, C32, UDATA, UCODE, C16 = 0x8, 0x10, 0x18, 0x28, 0x30, 0x38, 0x40


def outcome(verdict: Verdict) -> object:
    """(check, vector, error code) of a refusal, for comparing."""
    if isinstance(verdict, Refusal):
        return verdict.check, verdict.vector, verdict.error_code
    return verdict


@pytest.mark.parametrize(
    "gdt, selector, offset, expected",
    [
        (TABLE, C64, 0xA000, None),
        (TABLE, C32, 0xA000, None),
        (TABLE, 0, 0, (Check.NULL_SELECTOR, 13, 0)),
        (TABLE, 3, 0, (Check.NULL_SELECTOR, 13, 0)),
        (TABLE, 0x48, 0, (Check.BEYOND_LIMIT, 13, 0x48)),
        (TABLE, 0xFFF8, 0, (Check.BEYOND_LIMIT, 13, 0xFFF8)),
        (TABLE, 0x0C, 0, (Check.NO_TABLE, 13, 0x0C)),
        (TABLE, SS, 0, (Check.WRONG_TYPE, 13, 0x10)),
        (TABLE, TR, 0, (Check.WRONG_TYPE, 13, 0x18)),
        (words(0, 0), 8, 0, (Check.WRONG_TYPE, 13, 8)),
        (words(0, CODE64 & ~PRESENT), 8, 0, (Check.NOT_PRESENT, 11, 8)),
        (words(0, CODE64 | BIG), 8, 0, (Check.LONG_AND_BIG, 13, 8)),
        (words(0, CODE64 & ~PRESENT | BIG), 8, 0, (Check.LONG_AND_BIG, 13, 8)),
        (TABLE, UCODE, 0, (Check.PRIVILEGE, 13, 0x38)),
        (TABLE, C64 | 3, 0, (Check.PRIVILEGE, 13, 8)),
        (TABLE, C64, 1 << 47, (Check.NON_CANONICAL, 13, 0)),
        (TABLE, C16, 0x10000, (Check.OFFSET, 13, 0)),
    ],
)
def test_far_jumps_in_long_mode(gdt: bytes, selector: int, offset: int, expected: object) -> None:
    assert outcome(check_far_transfer(long_mode(gdt), selector, offset)) == expected


def test_far_jumps_before_long_mode_let_l_and_d_pass() -> None:
    assert check_far_transfer(protected(words(0, CODE64 | BIG)), 8) is None
    assert check_far_transfer(with_registers(protected(b""), gdtr=None), 8) is not None


def test_a_gdt_that_is_not_mapped_is_a_page_fault() -> None:
    verdict = check_far_transfer(long_mode(TABLE, absent=(GDT,)), C64)
    assert isinstance(verdict, Refusal)
    assert (verdict.check, verdict.vector, verdict.error_code) == (Check.TABLE_UNMAPPED, 14, 0)
    assert verdict.cr2 == GDT + 8 and verdict.raises == "#PF(0) CR2=0x6008"


@pytest.mark.parametrize(
    "register, selector, expected",
    [
        ("ss", SS, None),
        ("ss", 0, None),  # 64-bit mode, CPL 0
        ("ss", 3, (Check.NULL_SELECTOR, 13, 0)),
        ("ss", SS | 3, (Check.PRIVILEGE, 13, 0x10)),
        ("ss", C64, (Check.WRONG_TYPE, 13, 0x8)),
        ("ss", UDATA, (Check.PRIVILEGE, 13, 0x30)),
        ("ds", 0, None),
        ("ds", C64, None),
        ("ds", UDATA | 3, None),
        ("ds", SS | 3, (Check.PRIVILEGE, 13, 0x10)),
        ("es", TR, (Check.WRONG_TYPE, 13, 0x18)),
        ("fs", 0x100, (Check.BEYOND_LIMIT, 13, 0x100)),
        ("cs", C64, (Check.MODE, 6, None)),
    ],
)
def test_segment_loads(register: str, selector: int, expected: object) -> None:
    assert outcome(check_load(long_mode(TABLE), register, selector)) == expected


def test_segment_loads_of_absent_and_read_only_data() -> None:
    absent = protected(words(0, CODE32, DATA & ~PRESENT))
    assert outcome(check_load(absent, "ds", 0x10)) == (Check.NOT_PRESENT, 11, 0x10)
    assert outcome(check_load(absent, "ss", 0x10)) == (Check.NOT_PRESENT, 12, 0x10)
    assert outcome(check_load(absent, "ss", 0)) == (Check.NULL_SELECTOR, 13, 0)
    fixed = protected(words(0, CODE32, DATA & ~(1 << 41)))
    assert outcome(check_load(fixed, "ss", 0x10)) == (Check.WRONG_TYPE, 13, 0x10)
    assert check_load(fixed, "ds", 0x10) is None


@pytest.mark.parametrize(
    "tss, selector, expected",
    [
        (words(TSS64, 0), TR, None),
        (words(TSS64, 0), 0, (Check.NULL_SELECTOR, 13, 0)),
        (words(TSS64, 0), TR | 4, (Check.WRONG_TABLE, 13, TR | 4)),
        (words(TSS64), TR, (Check.BEYOND_LIMIT, 13, TR)),  # only 8 of 16 bytes
        (words(TSS64, 0), SS, (Check.WRONG_TYPE, 13, SS)),
        (words(TSS64 | 1 << 41, 0), TR, (Check.BUSY, 13, TR)),
        (words(TSS64 & ~PRESENT, 0), TR, (Check.NOT_PRESENT, 11, TR)),
        (words(TSS64, CODE64), TR, (Check.UPPER_HALF, 13, TR)),
        (words(TSS64, 0x8000), TR, (Check.NON_CANONICAL, 13, TR)),
    ],
)
def test_ltr(tss: bytes, selector: int, expected: object) -> None:
    memory = long_mode(words(0, CODE64, DATA) + tss)
    assert outcome(check_ltr(memory, selector)) == expected


def test_ltr_and_lldt_elsewhere() -> None:
    assert outcome(check_ltr(long_mode(TABLE, cr0=0x10), TR)) == (Check.MODE, 6, None)
    assert check_lldt(long_mode(TABLE), 0) is None
    assert outcome(check_lldt(long_mode(TABLE), TR)) == (Check.WRONG_TYPE, 13, TR)


HANDLER = gate64(C64, 0xA000)
NO_GATE = bytes(16)


def idt(gate: bytes, vector: int = 14) -> bytes:
    """An IDT whose last gate is `vector`."""
    return NO_GATE * vector + gate


@pytest.mark.parametrize(
    "table, expected",
    [
        (idt(HANDLER), None),
        (idt(HANDLER)[:-1], (Check.IDT_LIMIT, 13, 0x73)),
        (b"\0", (Check.IDT_LIMIT, 13, 0x73)),
        (idt(NO_GATE), (Check.GATE_TYPE, 13, 0x73)),
        (idt(gate64(C64, 0xA000, 0x0E)), (Check.GATE_NOT_PRESENT, 11, 0x73)),
        (idt(gate64(C64, 0xA000, 0x85)), (Check.GATE_TYPE, 13, 0x73)),  # task gate
        (idt(gate64(C64, 0xA000, 0x8C)), (Check.GATE_TYPE, 13, 0x73)),  # call gate
        (idt(gate32(C64, 0xA000) * 2), (Check.UPPER_HALF, 13, 0x73)),  # 32-bit layout
        (idt(gate64(0, 0xA000)), (Check.NULL_SELECTOR, 13, 1)),
        (idt(gate64(0x100, 0xA000)), (Check.BEYOND_LIMIT, 13, 0x101)),
        (idt(gate64(SS, 0xA000)), (Check.WRONG_TYPE, 13, 0x11)),
        (idt(gate64(C32, 0xA000)), (Check.NOT_64BIT, 13, 0x29)),
        (idt(gate64(UCODE, 0xA000)), (Check.PRIVILEGE, 13, 0x39)),
        (idt(gate64(C64, 1 << 47)), (Check.NON_CANONICAL, 13, 1)),
        (idt(gate64(C64, 0xA000, ist=1)), (Check.STACK_UNMAPPED, 14, 2)),  # IST1 is 0
    ],
)
def test_delivery_in_long_mode(table: bytes, expected: object) -> None:
    found = deliver(long_mode(TABLE, table), 14)
    assert outcome(found.refusal) == expected and not found.undecided
    if expected is None:
        assert found.entered and found.handler == 0xA000
        assert found.stack is not None and found.stack.origin == "RSP"
        assert found.frame_bytes == 48


def test_an_ist_of_zero_wraps_below_the_address_space() -> None:
    found = deliver(long_mode(TABLE, idt(gate64(C64, 0xA000, ist=1))), 14)
    assert found.refusal is not None and found.refusal.cr2 == 0xFFFF_FFFF_FFFF_FFF8
    assert "IST 1" in found.refusal.sentence


def test_delivery_pushes_onto_an_absent_page() -> None:
    found = deliver(long_mode(TABLE, idt(HANDLER), absent=(0x8000,)), 14)
    assert outcome(found.refusal) == (Check.STACK_UNMAPPED, 14, 2)
    assert found.refusal is not None and found.refusal.cr2 == 0x8FF8
    low = deliver(long_mode(TABLE, idt(HANDLER), absent=(0x8000,), rsp=0x9019), 14)
    assert low.refusal is not None and low.refusal.cr2 == 0x8FF8  # aligned to 0x9010, 3rd push


def test_delivery_reads_the_idt_through_the_page_tables() -> None:
    found = deliver(long_mode(TABLE, idt(HANDLER), absent=(IDT,)), 14)
    assert outcome(found.refusal) == (Check.TABLE_UNMAPPED, 14, 0)
    assert found.refusal is not None and found.refusal.cr2 == IDT + 14 * 16


def test_delivery_with_a_stack_that_is_not_canonical() -> None:
    found = deliver(long_mode(TABLE, idt(HANDLER), rsp=1 << 47), 14)
    assert outcome(found.refusal) == (Check.STACK_NON_CANONICAL, 12, 1)


def test_delivery_from_user_mode_takes_rsp0() -> None:
    tss = bytes(4) + words(0x8800) + bytes(0x5C)
    user = long_mode(TABLE, idt(HANDLER), ram={TSS: tss}, cpl=3)
    found = deliver(user, 14)
    assert found.entered and found.stack is not None
    assert (found.stack.pointer, found.stack.origin) == (0x8800, "RSP0 of the TSS")
    short = Segment(TR, TSS, 0x7, 0x8B00)
    cut = with_registers(user, segments={**user.registers.segments, "tr": short})
    assert outcome(deliver(cut, 14).refusal) == (Check.TSS_LIMIT, 10, 0x19)


def test_software_interrupts_ask_the_gate_for_its_dpl() -> None:
    user = long_mode(TABLE, idt(HANDLER, 3), cpl=3)
    found = deliver(user, 3, software=True)
    assert outcome(found.refusal) == (Check.GATE_PRIVILEGE, 13, 3 << 3 | 2)
    assert deliver(long_mode(TABLE, idt(HANDLER, 3)), 3, software=True).frame_bytes == 40


def test_delivery_in_protected_mode() -> None:
    gdt = words(0, CODE32, DATA)
    table = bytes(8) * 13 + gate32(8, 0xA000)
    found = deliver(protected(gdt, table), 13)
    assert found.entered and (found.handler, found.frame_bytes) == (0xA000, 16)
    # The real-mode vector table, still in IDTR: entries are read as gates.
    stale = with_registers(protected(gdt), idtr=TableRegister(0, 0x3FF))
    assert outcome(deliver(stale, 13).refusal) == (Check.GATE_TYPE, 13, 0x6B)
    empty = with_registers(protected(gdt), idtr=TableRegister(0, 0))
    assert outcome(deliver(empty, 8).refusal) == (Check.IDT_LIMIT, 13, 0x43)


def test_delivery_without_the_facts_is_undecided() -> None:
    nothing = LinearMemory(long_mode(b"").memory, Registers())
    found = deliver(nothing, 14)
    assert found.refusal is None and found.undecided and not found.entered
    no_stack = with_registers(long_mode(TABLE, idt(HANDLER)), general={})
    assert deliver(no_stack, 14).undecided == "RSP is not known"


def state(cr0: int = 0x11, cr4: int = 0, efer: int = 0, **more: int) -> Registers:
    segments = {"cs": Segment(8, 0, 0xFFFFFFFF, more.pop("cs", 0xC09B00))}
    return Registers(control={"cr0": cr0, "cr4": cr4, "efer": efer, **more}, segments=segments)


PG = 0x80000011


@pytest.mark.parametrize(
    "registers, name, value, expected",
    [
        (state(), "cr0", 0x80000010, Check.PG_WITHOUT_PE),
        (state(), "cr0", 0x20000011, Check.NW_WITHOUT_CD),
        (state(), "cr0", 1 << 32, Check.RESERVED_BITS),
        (state(cr4=0x20, efer=0x100), "cr0", PG, None),
        (state(cr4=0, efer=0x100), "cr0", PG, Check.PAE_MISSING),
        (state(cr4=0x20, efer=0x100, cs=0xA09B00), "cr0", PG, Check.LONG_CODE),
        (state(cr0=PG, cr4=0x20, efer=0x500, cs=0xA09B00), "cr0", 0x11, Check.LEAVES_LONG_MODE),
        (state(cr0=PG, cr4=0x20, efer=0x500), "cr0", 0x11, None),
        (state(cr0=PG, cr4=0x20, efer=0x500, cs=0xA09B00), "cr4", 0, Check.LEAVES_LONG_MODE),
        (state(cr0=PG, cr4=0x20, efer=0x500), "cr4", 0x1020, Check.LA57_CHANGED),
        (state(), "cr4", 0x20020, Check.PCIDE),
        (state(cr0=PG, cr4=0x20, efer=0x500, cr3=0x1001), "cr4", 0x20020, Check.PCIDE),
        (state(cr0=PG, cr4=0x20, efer=0x500, cr3=0x1000), "cr4", 0x20020, None),
        (state(), "cr4", 1 << 15, Check.RESERVED_BITS),
        (state(), "cr8", 0x10, Check.RESERVED_BITS),
        (state(), "cr3", 1 << 52, Check.RESERVED_BITS),
    ],
)
def test_control_registers(
    registers: Registers, name: str, value: int, expected: Optional[Check]
) -> None:
    verdict = check_control_write(registers, name, value)
    assert (verdict.check if isinstance(verdict, Refusal) else verdict) == expected


def test_paging_without_lme_reads_the_pml4_as_directory_pointers() -> None:
    memory = long_mode(b"").memory  # its PML4's first entry is 0x2007
    registers = state(cr4=0x20, cr3=0x1000)
    verdict = check_control_write(registers, "cr0", PG, memory)
    assert isinstance(verdict, Refusal) and verdict.check is Check.PDPTE_RESERVED
    assert "PDPT[0]" in verdict.sentence
    assert check_control_write(state(cr4=0x20, cr3=0x1000, efer=0x100), "cr0", PG, memory) is None


@pytest.mark.parametrize(
    "registers, number, value, expected",
    [
        (state(), 0xC0000080, 0x100, None),
        (state(), 0xC0000080, 1 << 9, Check.RESERVED_BITS),
        (state(cr0=PG), 0xC0000080, 0x100, Check.LME_CHANGED),
        (state(cr0=PG, efer=0x500), 0xC0000080, 0xD01, None),
        (state(cr0=PG, efer=0x500), 0xC0000101, 1 << 47, Check.NON_CANONICAL),
        (state(), 0x1B, 0xFEE00400, Check.RESERVED_BITS),
        (state(), 0x1B, 0xFEE00C00, None),
    ],
)
def test_wrmsr(registers: Registers, number: int, value: int, expected: Optional[Check]) -> None:
    verdict = check_wrmsr(registers, number, value)
    assert (verdict.check if isinstance(verdict, Refusal) else verdict) == expected


def test_xsetbv() -> None:
    assert check_xsetbv(0, 7) is None
    assert [outcome(check_xsetbv(*pair)) for pair in ((0, 6), (0, 5), (1, 7), (0, 0x27))] == [
        (Check.RESERVED_BITS, 13, 0)
    ] * 4


def run(memory: LinearMemory, code: str) -> object:
    mode64 = memory.registers.segments["cs"].long
    instruction = decode(bytes.fromhex(code), memory.registers.rip or 0, 64 if mode64 else 32)
    assert instruction is not None
    return outcome(check_instruction(memory, instruction))


FRAME = 0x8F00


def frame(*slots: int) -> dict[int, bytes]:
    return {FRAME: words(*slots)}


@pytest.mark.parametrize(
    "code, changes, expected",
    [
        ("90", {}, None),
        ("50", {}, None),  # push rax
        ("50", {"rsp": 0}, (Check.NOT_PRESENT, 14, 2)),
        ("50", {"rsp": 1 << 47 | 8}, (Check.NON_CANONICAL, 12, 0)),
        ("48890424", {"rsp": 1 << 47}, (Check.NON_CANONICAL, 12, 0)),  # mov [rsp], rax
        ("488b00", {"rax": 1 << 63}, (Check.NON_CANONICAL, 13, 0)),  # mov rax, [rax]
        ("488b00", {"rax": 0x400000}, (Check.NOT_PRESENT, 14, 0)),
        ("0f2900", {"rax": 0x8008}, (Check.MISALIGNED, 13, 0)),  # movaps [rax], xmm0
        ("0f2900", {"rax": 0x8010}, None),
        ("0f1100", {"rax": 0x8008}, None),  # movups
        ("0f28c1", {"cr4": 0x20}, (Check.MODE, 6, None)),  # no OSFXSR
        ("0f28c1", {"cr0": 0x80010015}, (Check.MODE, 6, None)),  # EM
        ("0f28c1", {"cr0": 0x80010019}, (Check.MODE, 7, None)),  # TS
        ("d9e8", {"cr0": 0x80010015}, (Check.MODE, 7, None)),  # fld1 with EM
        ("c5f877", {}, (Check.MODE, 6, None)),  # vzeroupper without OSXSAVE
        ("c4e2f0f2c1", {}, None),  # andn: VEX on general registers
        ("0f01d1", {}, (Check.MODE, 6, None)),  # xsetbv without OSXSAVE
        ("0f0b", {}, (Check.MODE, 6, None)),
        ("f4", {"cpl": 3}, (Check.CPL, 13, 0)),
        ("0f22e0", {"rax": 0}, (Check.LEAVES_LONG_MODE, 13, 0)),  # mov cr4, rax
        ("0f22c0", {"rax": 0x11}, (Check.LEAVES_LONG_MODE, 13, 0)),
        ("0f30", {"rcx": 0xC0000080, "rax": 1, "rdx": 0}, (Check.LME_CHANGED, 13, 0)),
        ("0f00d8", {"rax": 0x100}, (Check.BEYOND_LIMIT, 13, 0x100)),  # ltr ax
        ("8ed0", {"rax": C64}, (Check.WRONG_TYPE, 13, 8)),  # mov ss, eax
        ("ffe0", {"rax": 1 << 47}, (Check.NON_CANONICAL, 13, 0)),  # jmp rax
        ("cd80", {}, (Check.IDT_LIMIT, 13, 0x402)),  # int 0x80
        ("48cf", {"rsp": FRAME}, None),
    ],
)
def test_instructions_in_64_bit_mode(code: str, changes: dict[str, int], expected: object) -> None:
    good = frame(0xA000, C64, 2, 0x9000, SS)
    memory = long_mode(TABLE, b"", good, (), **changes)
    assert run(memory, code) == expected


@pytest.mark.parametrize(
    "slots, expected",
    [
        ((0xA000, C64, 2, 0x9000, 0), None),
        ((0xA000, 0, 2, 0x9000, SS), (Check.NULL_SELECTOR, 13, 0)),
        ((C64, 0x46, 0x9000, SS, 0), (Check.BEYOND_LIMIT, 13, 0x44)),  # error code not popped
        ((0xA000, C64, 2, 0x9000, 0x100), (Check.BEYOND_LIMIT, 13, 0x100)),
        ((0xA000, C64, 2, 0x9000, C64), (Check.WRONG_TYPE, 13, 8)),
        ((0xA000, UCODE | 3, 2, 0x9000, UDATA | 3), None),
        ((0xA000, UCODE | 3, 2, 0x9000, 0), (Check.NULL_SELECTOR, 13, 0)),
        ((0xA000, SS, 2, 0x9000, SS), (Check.WRONG_TYPE, 13, 0x10)),
        ((1 << 47, C64, 2, 0x9000, SS), (Check.NON_CANONICAL, 13, 0)),
    ],
)
def test_iretq(slots: tuple[int, ...], expected: object) -> None:
    found = run(long_mode(TABLE, ram=frame(*slots), rsp=FRAME), "48cf")
    if expected == (Check.BEYOND_LIMIT, 13, 0x44):
        expected = (Check.NO_TABLE, 13, 0x44)  # 0x46 has TI set, and LDTR is null
    assert found == expected


def test_segment_limits_before_long_mode() -> None:
    memory = protected(words(0, CODE32, DATA), rax=0x10000)
    small = Segment(0x10, 0, 0xFFFF, 0x9300)  # as real mode left it
    memory = with_registers(memory, segments={**memory.registers.segments, "ds": small})
    assert run(memory, "8b00") == (Check.SEGMENT_LIMIT, 13, 0)  # mov eax, [eax]
    null = Segment(0, 0, 0, 0)
    memory = with_registers(memory, segments={**memory.registers.segments, "ds": null})
    assert run(memory, "8b00") == (Check.NULL_SELECTOR, 13, 0)


def test_the_fetch() -> None:
    assert check_fetch(long_mode(TABLE)) is None
    assert outcome(check_fetch(long_mode(TABLE, absent=(0xA000,)))) == (Check.NOT_PRESENT, 14, 0x10)
    assert outcome(check_fetch(long_mode(TABLE, rip=1 << 47))) == (Check.NON_CANONICAL, 13, 0)
    memory = protected(words(0, CODE32))
    code = Segment(8, 0, 0xFFFF, 0x9B00)
    memory = with_registers(memory, rip=0x10000, segments={"cs": code})
    assert outcome(check_fetch(memory)) == (Check.SEGMENT_LIMIT, 13, 0)
    assert isinstance(check_fetch(LinearMemory(memory.memory, Registers())), Undecided)


@given(
    st.binary(min_size=1, max_size=15),
    st.binary(max_size=48),
    st.binary(max_size=256),
    st.sampled_from((0x10, 0x11, 0x80000011)),
    st.sampled_from((0, 0x500)),
    st.sampled_from((0, 0xA09B00, 0xC09B00, 0x9B00)),
    st.integers(0, 2**64 - 1),
)
def test_any_machine_gives_an_answer(
    code: bytes, gdt: bytes, table: bytes, cr0: int, efer: int, cs: int, value: int
) -> None:
    memory = long_mode(gdt, table, rsp=value, rax=value, cr0=cr0, efer=efer, rip=value)
    segments = {**memory.registers.segments, "cs": Segment(value & 0xFFFF, 0, 0xFFFFF, cs)}
    memory = with_registers(memory, segments=segments, cpl=value & 3)
    for width in (16, 32, 64):
        instruction = decode(code, value, width)
        if instruction is not None:
            check_instruction(memory, instruction)
    check_fetch(memory)
    for vector in (0, 8, 14, 255):
        found = deliver(memory, vector)
        assert found.entered or found.refusal is not None or found.undecided
