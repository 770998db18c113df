# SPDX-License-Identifier: BSD-2-Clause
"""What a waiting CPU reads is named by address and symbol, and who would write it."""

from __future__ import annotations

import struct
from dataclasses import replace

from debug.explain.findings import WaitsFor
from debug.report.diagnosis import Diagnosis, diagnose
from tests.python.evidence_builder import KERNEL, STACKS, Machine, registers

CODE, FLAG = KERNEL + 0x1000, KERNEL + 0x3000
FRAME = KERNEL + 0x9040
PAUSE = b"\xf3\x90"


def waits(code: bytes, at: int, **values: object) -> Machine:
    """CPU 0 stands at this offset of `wait_for_go`; `go` is what it should read."""
    machine = Machine()
    machine.ram.write(0x101000, code)
    machine.symbols.known = {"wait_for_go": (CODE, 0x40), "go": (FLAG, 4)}
    there = registers("long", rip=CODE + at, rsp=KERNEL + 0x9000, rbp=FRAME, **values)
    machine.bsp = replace(machine.bsp, registers=there, halted=False, moved=False)
    return machine


def waited_for(machine: Machine) -> tuple[Diagnosis, WaitsFor]:
    diagnosis = diagnose(machine.evidence())
    return diagnosis, diagnosis.explanation.all(WaitsFor)[0]


def test_a_pointer_that_the_loop_loads_from_its_frame() -> None:
    """while (!*flag), not optimized: the pointer is overwritten by what it reads."""
    # pause; mov rax, [rbp - 0x18]; mov eax, [rax]; test eax, eax; je
    machine = waits(PAUSE + bytes.fromhex("488b45e8 8b00 85c0 74f4"), 0, rax=0)
    machine.ram.write(0x109040 - 0x18, struct.pack("<Q", FLAG))
    assert waited_for(machine)[1].name == "go"


def test_a_limit_in_the_frame_is_not_waited_for() -> None:
    """while (go < end), not optimized."""
    # pause; mov rax, [rip + go]; cmp rax, [rbp - 8]; jb
    machine = waits(PAUSE + bytes.fromhex("488b05f71f0000 483b45f8 72f1"), 0)
    assert waited_for(machine)[1].address == FLAG


def test_a_list_that_the_loop_walks_is_no_flag() -> None:
    """for (; p; p = p->next): each round reads elsewhere."""
    machine = waits(PAUSE + bytes.fromhex("488b00 4885c0 75f6"), 0, rax=FLAG)
    assert not diagnose(machine.evidence()).explanation.all(WaitsFor)


def idle_before_the_write(place: int) -> Machine:
    """CPU 1 halts, interrupts on, at this offset of the function that raises the flag."""
    machine = waits(PAUSE + bytes.fromhex("8b05f81f0000 85c0 74f4"), 0)
    code = b"\xfb\xf4" + b"\xc7\x04\x25" + struct.pack("<iI", FLAG - (1 << 64), 1) + b"\xf4\xeb\xfd"
    machine.ram.write(0x101040, code)
    machine.symbols.known["ap_main"] = (CODE + 0x40, 0x40)
    there = registers(rip=CODE + 0x40 + place, rflags=0x202, rsp=STACKS + 0x4000)
    machine.ap = replace(machine.ap, registers=there, halted=True)
    return machine


def test_who_sleeps_before_its_write_is_named() -> None:
    diagnosis, wait = waited_for(idle_before_the_write(2))
    assert wait.not_come == (1,)
    cause = next(c for c in diagnosis.causes if c.row.id == "flag-never-set")
    assert cause.certainty.value == "possible"
    lines = " ".join(cause.match.evidence)
    assert f"go at {FLAG:#x}" in lines and "an interrupt must wake it" in lines


def test_who_sleeps_behind_its_write_is_not() -> None:
    diagnosis, wait = waited_for(idle_before_the_write(14))
    assert not wait.not_come
    assert "flag-never-set" not in [cause.row.id for cause in diagnosis.causes]


def test_who_halts_for_good_before_its_write_is_the_cause() -> None:
    machine = idle_before_the_write(2)
    off = replace(machine.ap.registers, rflags=2)
    machine.ap = replace(machine.ap, registers=off)
    diagnosis = diagnose(machine.evidence())
    assert diagnosis.causes[0].row.id == "halted-forever"
    assert f"go at {FLAG:#x}" in " ".join(diagnosis.causes[0].match.evidence)


def beside_a_lock(taken: bytes) -> Machine:
    """CPU 0 waits for `go`, which code increments; the word behind it is a lock that code takes."""
    # pause; cmp dword [go], 1; jb
    machine = waits(PAUSE + bytes.fromhex("833c25") + low(FLAG) + bytes.fromhex("01 72f4"), 0)
    counted = bytes.fromhex("f0ff0425") + low(FLAG)  # lock inc dword [go]
    machine.ram.write(0x101040, taken + counted + b"\xc3")
    return machine


def low(address: int) -> bytes:
    return struct.pack("<I", address & 0xFFFFFFFF)


def test_who_writes_the_word_beside_does_not_write_this_one() -> None:
    # lock bts dword [go + 4], 0; test dword [go + 4], 1
    took = bytes.fromhex("f00fba2c25") + low(FLAG + 4) + b"\0"
    machine = beside_a_lock(took + bytes.fromhex("f70425") + low(FLAG + 4) + low(1))
    wait = waited_for(machine)[1]
    assert [text for _, _, text in wait.writers] == [f"lock inc dword ptr [{FLAG:#x}]"]
    assert not wait.lock


def test_a_count_beside_a_ticket_is_no_lock() -> None:
    # lock xadd dword [go + 4], eax
    wait = waited_for(beside_a_lock(bytes.fromhex("f00fc10425") + low(FLAG + 4)))[1]
    assert not wait.lock


def test_a_lock_that_keeps_the_other_cpu_from_its_write_is_the_cause() -> None:
    """CPU 0 waits until CPU 1 raises `go`; CPU 1 tries to take the lock behind it before that."""
    # pause; cmp dword [go], 1; jb
    machine = waits(PAUSE + bytes.fromhex("833c25") + low(FLAG) + bytes.fromhex("01 72f4"), 0)
    # mov eax, 1; xchg [go + 4], eax; test eax, eax; jnz; lock inc dword [go]; ret
    tries = bytes.fromhex("b801000000 870425") + low(FLAG + 4) + bytes.fromhex("85c0 75f0")
    machine.ram.write(0x101040, tries + bytes.fromhex("f0ff0425") + low(FLAG) + b"\xc3")
    machine.ram.write(0x103000, struct.pack("<II", 0, 1))
    machine.symbols.known["ap_main"] = (CODE + 0x40, 0x40)
    machine.stop(registers(rip=CODE + 0x40, rflags=2, rsp=STACKS + 0x4000), moved=False)
    cause = diagnose(machine.evidence()).causes[0]
    assert (cause.row.id, cause.match.cpu) == ("lock-not-released", 1)
    assert f"lock inc dword ptr [{FLAG:#x}]" in " ".join(cause.match.evidence)


def test_a_string_that_is_printed_is_not_waited_for() -> None:
    """All samples may meet a loop that counts in the same round: it goes on nevertheless."""
    # lodsb; test al, al; je beyond; out 0xe9, al; jmp
    prints = waits(bytes.fromhex("ac 84c0 7404 e6e9 ebf7 f4"), 5, rsi=FLAG, rflags=2)
    # cmp byte [rax], 0; je beyond; inc rax; jmp
    walks = waits(bytes.fromhex("803800 7405 48ffc0 ebf6 f4"), 5, rax=FLAG, rflags=2)
    for machine in (prints, walks):
        diagnosis = diagnose(machine.evidence())
        assert not diagnosis.explanation.all(WaitsFor)
        assert diagnosis.explanation.cpus[0].doing.startswith("running")
