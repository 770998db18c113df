# SPDX-License-Identifier: BSD-2-Clause
"""#DE: named where the operands have no quotient, and by nothing else."""

from __future__ import annotations

from typing import Any, Optional

import pytest

from debug.report.diagnosis import diagnose
from tests.python.evidence_builder import NULL_IDT, PAGE, STACKS, Machine, registers
from tests.python.failures.row_cases import CODE, UNTIL_C, at

TOP = STACKS + 5 * PAGE
ALL_ONES = (1 << 64) - 1


def said(code: str, **values: int) -> Optional[str]:
    """What the row says of a #DE at this instruction; None if it does not speak."""
    machine: Machine = at(bytes.fromhex(code), *UNTIL_C)
    machine.ram.write(0x7000, b"\0\0\0\0\x05\0\0\0")
    general: dict[str, Any] = {"rax": 0, "rcx": 0, "rdx": 0, "rbx": 0x7000, **values}
    regs = registers(rip=CODE, rsp=TOP - 16, idtr=NULL_IDT, **general)
    causes = diagnose(machine.kill(regs, 0).evidence()).causes
    found = [cause for cause in causes if cause.row.id == "divide-error"]
    assert [cause.certainty.value for cause in found] in ([], ["certain"])
    return found[0].match.evidence[0] if found else None


@pytest.mark.parametrize(
    "code, values, words",
    [
        ("f7f1", {"rax": 7}, "div ecx: the divisor is 0"),
        ("f733", {"rax": 7}, "the divisor is 0"),  # div dword [rbx]
        ("f7f9", {"rax": 7}, "idiv ecx: the divisor is 0"),
        ("f7f1", {"rdx": 5, "rcx": 2}, "0x500000000 / 0x2 does not fit into 32 bits; EDX"),
        ("48f7f1", {"rdx": 1, "rcx": 1}, "does not fit into 64 bits; RDX"),
        ("f6f1", {"rax": 0x500, "rcx": 5}, "0x500 / 0x5 does not fit into 8 bits; AH"),
        # The lowest number divided by -1, and a dividend whose sign was not extended.
        ("f7f9", {"rdx": ALL_ONES, "rax": 1 << 31, "rcx": ALL_ONES}, "-0x80000000 / -0x1"),
        ("f7f9", {"rax": 1 << 31, "rcx": 1}, "0x80000000 / 0x1 does not fit"),
    ],
)
def test_no_quotient(code: str, values: dict[str, int], words: str) -> None:
    evidence = said(code, **values)
    assert evidence is not None and words in evidence, evidence


@pytest.mark.parametrize(
    "code, values",
    [
        ("f7f1", {"rax": 7, "rcx": 2}),
        ("f77304", {"rax": 7}),  # div dword [rbx + 4]
        ("f7f9", {"rdx": ALL_ONES, "rax": 1 << 31, "rcx": 1}),  # the lowest number itself
        ("f6f1", {"rax": 0x4FF, "rcx": 5}),
        ("90", {}),
        ("cd00", {}),  # int 0
    ],
)
def test_a_quotient_or_no_division(code: str, values: dict[str, int]) -> None:
    assert said(code, **values) is None
