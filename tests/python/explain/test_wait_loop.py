# SPDX-License-Identifier: BSD-2-Clause
"""A wait loop is seen from each of its instructions."""

from __future__ import annotations

import struct
from dataclasses import replace

import pytest

from debug.explain.callers import caller_of
from debug.explain.code import in_wait_loop
from debug.explain.context import Machine as Seen
from debug.explain.model import CpuState
from debug.explain.state import describe
from debug.explain.waiting import loop_body
from debug.report.diagnosis import diagnose
from tests.python.evidence_builder import KERNEL, PAGE, STACKS, Machine, registers

# mov eax, [rbx]; cmp eax, ecx; jne out; pause; rdtsc; cmp rax, rdx; js again; out: ret
LOOP = b"\x8b\x03\x39\xc8\x75\x09\xf3\x90\x0f\x31\x48\x39\xd0\x78\xf1\xc3"


@pytest.mark.parametrize("offset", [0, 2, 4, 6, 8, 10, 13])
def test_the_way_out_is_not_taken_for_the_end(offset: int) -> None:
    machine = Machine()
    machine.ram.write(0x101000, LOOP)
    at = registers(rip=KERNEL + 0x1000 + offset, rsp=STACKS + 0x4000)
    machine.stop(at)
    assert in_wait_loop(Seen(machine.evidence()), at) == (True, False)


# ret; (the loop) mov eax, [rbx]; cmp eax, ecx; jne to the ret; pause; rdtsc; cmp rax, rdx; js again
BEFORE = b"\xc3\x8b\x03\x39\xc8\x75\xf9\xf3\x90\x0f\x31\x48\x39\xd0\x78\xf1"


@pytest.mark.parametrize("offset", [1, 3, 5, 7, 9, 11, 14])
def test_a_way_out_may_lead_back(offset: int) -> None:
    machine = Machine()
    machine.ram.write(0x101000, BEFORE)
    there = registers(rip=KERNEL + 0x1000 + offset, rbx=KERNEL + 0x3000, rsp=STACKS + 0x4000)
    machine.stop(there)
    seen = Seen(machine.evidence())
    assert in_wait_loop(seen, there) == (True, False)
    assert [one.mnemonic for one in loop_body(seen, there)][:1] == ["mov"]


# call look; test al, al; jne out; pause; jmp again; out: ret
CALLER = b"\xe8\x3b\x00\x00\x00\x84\xc0\x75\x04\xf3\x90\xeb\xf3\xc3"
# push rbp; mov rbp, rsp; in al, 0x61; shr al, 5; pop rbp; ret
CALLEE = b"\x55\x48\x89\xe5\xe4\x61\xc0\xe8\x05\x5d\xc3"


@pytest.mark.parametrize("offset, pushed", [(0, 0), (1, 1), (4, 1), (6, 1), (9, 1), (10, 0)])
@pytest.mark.parametrize("pause", [True, False])
def test_a_loop_that_calls_is_seen_from_the_function(offset: int, pushed: int, pause: bool) -> None:
    machine = Machine()
    machine.ram.write(0x101000, CALLER if pause else CALLER.replace(b"\xf3\x90", b"\x66\x90"))
    machine.ram.write(0x101040, CALLEE)
    top = STACKS + PAGE + 0x800
    machine.ram.write(0x300800, struct.pack("<QQ", KERNEL + 0x1005, 0))
    if pushed:
        machine.ram.write(0x300800 - 8, struct.pack("<Q", STACKS + PAGE + 0x900))
    there = registers(rip=KERNEL + 0x1040 + offset, rsp=top - 8 * pushed, rbp=top - 8)
    machine.stop(there, moved=True)
    seen = Seen(machine.evidence())
    caller = caller_of(seen, there)
    assert caller is not None and caller.rip == KERNEL + 0x1005
    view, _ = describe(seen, seen.cpus[1], False)
    assert (view.state is CpuState.SPINNING) is pause


def test_a_function_that_decides_has_no_caller() -> None:
    machine = Machine()
    machine.ram.write(0x101000, b"\x74\x01\xc3")  # je; ret
    there = registers(rip=KERNEL + 0x1000, rsp=STACKS + PAGE + 0x800)
    assert caller_of(Seen(machine.stop(there).evidence()), there) is None


def test_a_way_out_that_stands_before_the_jump_to_it_is_no_loop() -> None:
    """`out: xor eax, eax; jmp end; start: ...; je out`, in a function that a poll of the keyboard
    calls."""
    machine = Machine()
    machine.ram.write(0x103000, bytes.fromhex("e8 fb 0f 00 00 e4 64 a8 01 74 f5 c3"))
    machine.ram.write(0x104000, bytes.fromhex("31 c0 eb 0a 90 84 c9 74 f7 b8 01 00 00 00 c3"))
    machine.ram.write(0x109000, struct.pack("<Q", KERNEL + 0x3005))  # call; in al, 64h; test; jz
    here = registers(rip=KERNEL + 0x4000, rflags=0x202, rsp=KERNEL + 0x9000)
    machine.bsp = replace(machine.bsp, registers=here, halted=False, moved=True)
    assert loop_body(Seen(machine.evidence()), here) == ()
    machine.stop(registers("prot32", rip=0xFD09A), halted=True)
    found = diagnose(machine.evidence())
    assert found.status == "healthy"
    assert any("port 0x64" in note for note in found.explanation.notes)
