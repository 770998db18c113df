# SPDX-License-Identifier: BSD-2-Clause
"""QEMU's cores: a machine's, made here, against the monitor's word; and what is no core."""

from __future__ import annotations

import os
import socket
import struct
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from debug.evidence import Registers
from debug.sources.qemu_core import (
    Core,
    CoreError,
    CoreMemory,
    Range,
    core_evidence,
    read_core,
    refused,
)
from debug.sources.qemu_text import parse_registers, split_cpus
from debug.sources.qmp import QmpClient
from debug.x86.modes import mode_of

GUEST = Path(__file__).resolve().parent / "guests" / "protected.asm"
STATE = struct.Struct("<II18Q" + "IIIIQ" * 10 + "5Q")


def segment(selector: int, base: int, limit: int, flags: int) -> tuple[int, ...]:
    return (selector, limit, flags, 0, base)


CODE64 = segment(8, 0, 0xFFFFFFFF, 0x00AF9B00)
CODE32 = segment(8, 0, 0xFFFFFFFF, 0x00CF9B00)
DATA = segment(0x10, 0, 0xFFFFFFFF, 0x00CF9300)
TABLE = segment(0, 0x6000, 0x1F, 0)


def state(
    code: tuple[int, ...], rip: int, cr0: int, cr3: int, cr4: int, extra: bytes = b""
) -> bytes:
    general = [*range(1, 17), rip, 2]
    segments = [*code, *DATA * 5, *TABLE * 4]
    return STATE.pack(1, STATE.size, *general, *segments, cr0, 0, 0x1234, cr3, cr4) + extra


def note(name: bytes, kind: int, content: bytes) -> bytes:
    padded = name + b"\0" * (-len(name) % 4)
    body = content + b"\0" * (-len(content) % 4)
    return struct.pack("<III", len(name), len(content), kind) + padded + body


def core(states: list[bytes], ram: bytes, wide: bool = True, machine: int = 62) -> bytes:
    """A core with these CPUs and `ram` at physical address 0x1000."""
    notes = b"".join(note(b"QEMU\0", 0, one) for one in states)
    size, entry = (64, 56) if wide else (52, 32)
    at = size + 2 * entry
    if wide:
        head = struct.pack("<HHIQQQIHHHHHH", 4, machine, 1, 0, 64, 0, 0, 64, 56, 2, 0, 0, 0)
        one = struct.pack("<IIQQQQQQ", 4, 0, at, 0, 0, len(notes), len(notes), 0)
        two = struct.pack("<IIQQQQQQ", 1, 0, at + len(notes), 0, 0x1000, len(ram), len(ram), 0)
    else:
        head = struct.pack("<HHIIIIIHHHHHH", 4, machine, 1, 0, 52, 0, 0, 52, 32, 2, 0, 0, 0)
        one = struct.pack("<8I", 4, at, 0, 0, len(notes), len(notes), 0, 0)
        two = struct.pack("<8I", 1, at + len(notes), 0, 0x1000, len(ram), len(ram), 0, 0)
    magic = b"\x7fELF" + bytes((2 if wide else 1, 1, 1)) + bytes(9)
    return magic + head + one + two + notes + ram


def parse(data: bytes) -> Core:
    return read_core(lambda offset, length: data[offset : offset + length], len(data))


LONG = state(CODE64, 0xFFFFFFFF80001000, 0x80000011, 0x2000, 0x20)
REAL = state(segment(0x800, 0x8000, 0xFFFF, 0x9B00), 0x10, 0x10, 0, 0)
FLAT = state(CODE32, 0x100000, 0x11, 0, 0)


def test_a_64_bit_core() -> None:
    found = parse(core([LONG, REAL], b"RAM!" * 1024))
    bsp, ap = found.cpus
    assert bsp.registers.rip == 0xFFFFFFFF80001000
    assert bsp.registers.general["rsi"] == 5 and bsp.registers.general["r15"] == 16
    assert bsp.registers.gdtr is not None and bsp.registers.gdtr.base == 0x6000
    assert [mode_of(cpu.registers).value for cpu in (bsp, ap)] == ["64-bit mode", "real mode"]
    assert bsp.registers.get("cr3") == 0x2000 and bsp.registers.get("cr2") == 0x1234
    assert found.memory.read(0x1000, 8) == b"RAM!RAM!"
    assert found.memory.read(0x1FFC, 4) == b"RAM!"
    assert found.memory.read(0x1FFD, 4) is None and found.memory.read(0xFFF, 2) is None


@pytest.mark.parametrize("wide", [True, False])
def test_a_core_that_calls_itself_i386_has_the_same_notes(wide: bool) -> None:
    found = parse(core([FLAT, LONG], b"1234", wide, machine=3))
    assert [mode_of(cpu.registers).value for cpu in found.cpus] == [
        "32-bit protected mode",
        "64-bit mode",
    ]
    assert found.memory.read(0x1000, 4) == b"1234"


def test_compatibility_mode_is_told_by_the_type_of_the_core() -> None:
    compat = state(CODE32, 0x8000, 0x80000011, 0x2000, 0x20)
    assert mode_of(parse(core([compat], b"")).cpus[0].registers).value.endswith(
        "compatibility mode"
    )
    plain = parse(core([compat], b"", machine=3)).cpus[0]
    assert mode_of(plain.registers).value == "32-bit protected mode"
    assert parse(core([LONG, compat], b"")).cpus[1].registers.get("efer") is None


def test_a_cut_core_keeps_what_is_there() -> None:
    data = core([LONG], b"A" * 4096)
    found = parse(data[:-1000])
    assert found.memory.read(0x1000, 3096) == b"A" * 3096
    assert found.memory.read(0x1000, 3097) is None
    assert any("cut off" in limit for limit in core_evidence(found).limits)


@pytest.mark.parametrize(
    "data, words",
    [
        (b"", "no ELF header"),
        (core([LONG], b"", machine=183), "AArch64"),
        (core([], b""), "no note of a CPU"),
        (core([LONG], b"")[:70], "no note of a CPU"),
        (core([LONG], b"").replace(b"QEMU", b"CORE"), "no note of a CPU"),
        (core([LONG], b"").replace(b"\x04\0>", b"\x02\0>", 1), "no core"),
    ],
)
def test_what_is_no_core_is_named(data: bytes, words: str) -> None:
    with pytest.raises(CoreError, match=words):
        parse(data)


def test_compressed_dumps_are_named() -> None:
    assert "kdump" in (refused(b"KDUMP   \0\0") or "")
    assert refused(b"\x7fELF") is None


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_a_damaged_core_never_raises_anything_else(data: st.DataObject) -> None:
    whole = core([LONG, REAL], b"RAM!" * 64, data.draw(st.booleans()))
    damaged = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 8))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(damaged[: data.draw(st.integers(0, len(damaged)))])
    try:
        found = parse(cut)
    except CoreError:
        return
    for address in (0, 0x1000, 0x10FF, (1 << 64) - 1):
        assert found.memory.read(address, 16) is None or len(found.memory.read(address, 16) or b"")


def test_overlapping_ranges_do_not_loop() -> None:
    memory = CoreMemory(lambda o, n: b"x" * n, tuple(Range(n, 0, 0) for n in range(1000)))
    assert memory.read(5, 4) is None


@dataclass(frozen=True)
class Dead:
    """A machine that triple-faulted, as its core and its monitor show it."""

    core: Path
    registers: dict[int, Registers]
    log: Path


@pytest.fixture(scope="module", params=[0, 1], ids=["protected", "long"])
def dead(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Dead]:
    folder = tmp_path_factory.mktemp("core")
    image, log, dump = folder / "guest.img", folder / "int.log", folder / "guest.core"
    defines = [f"-DLONG={request.param}", "-DAP=0"]
    subprocess.run(["nasm", "-f", "bin", *defines, str(GUEST), "-o", str(image)], check=True)
    ours, theirs = socket.socketpair()
    os.set_inheritable(theirs.fileno(), True)
    arguments = ["qemu-system-x86_64", "-display", "none", "-nodefaults", "-m", "16", "-smp", "2"]
    arguments += ["-drive", f"format=raw,if=floppy,file={image}", "-d", "int,cpu_reset"]
    arguments += ["-D", str(log), "-action", "reboot=shutdown,shutdown=pause"]
    arguments += ["-chardev", f"socket,id=qmp,fd={theirs.fileno()}", "-mon", "qmp,mode=control"]
    process = subprocess.Popen(arguments, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL)
    theirs.close()
    try:
        qmp = QmpClient(ours)
        qmp.handshake()
        deadline = time.monotonic() + 30
        while qmp.command("query-status")["status"] == "running":
            assert time.monotonic() < deadline
            qmp.poll(0.1)
        text = qmp.monitor("info registers -a")
        qmp.command("dump-guest-memory", {"paging": False, "protocol": f"file:{dump}"})
        registers = {n: parse_registers(part)[0] for n, part in split_cpus(text).items()}
        yield Dead(dump, registers, log)
    finally:
        process.kill()
        process.wait()
        ours.close()


@pytest.mark.emulator
def test_a_core_agrees_with_the_monitor(dead: Dead) -> None:
    data = dead.core.read_bytes()
    cpus = parse(data).cpus
    assert len(cpus) == len(dead.registers) == 2
    for cpu in cpus:
        told = dead.registers[cpu.index]
        assert cpu.registers.rip == told.rip and cpu.registers.rflags == told.rflags
        assert cpu.registers.segments == dict(told.segments)
        assert (cpu.registers.gdtr, cpu.registers.idtr) == (told.gdtr, told.idtr)
        for name in ("cr0", "cr2", "cr3", "cr4", "rsp", "rax", "rdi"):
            assert cpu.registers.get(name) == told.get(name), name
        assert mode_of(cpu.registers) is mode_of(told)


@pytest.mark.emulator
def test_its_memory_holds_the_guest(dead: Dead) -> None:
    sector = parse(dead.core.read_bytes()).memory.read(0x7C00, 512)
    assert sector is not None and sector[510:] == b"\x55\xaa"
