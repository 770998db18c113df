# SPDX-License-Identifier: BSD-2-Clause
"""A wait loop is seen from each of its instructions."""

from __future__ import annotations

import pytest

from debug.explain.code import in_wait_loop
from debug.explain.context import Machine as Seen
from tests.python.evidence_builder import KERNEL, STACKS, Machine, registers

# mov eax, [rbx]; cmp eax, ecx; jne out; pause; rdtsc; cmp rax, rdx; js again; out: ret
LOOP = b"\x8b\x03\x39\xc8\x75\x09\xf3\x90\x0f\x31\x48\x39\xd0\x78\xf1\xc3"


@pytest.mark.parametrize("offset", [0, 2, 4, 6, 8, 10, 13])
def test_the_way_out_is_not_taken_for_the_end(offset: int) -> None:
    machine = Machine()
    machine.ram.write(0x101000, LOOP)
    at = registers(rip=KERNEL + 0x1000 + offset, rsp=STACKS + 0x4000)
    machine.stop(at)
    assert in_wait_loop(Seen(machine.evidence()), at) == (True, False)
