# SPDX-License-Identifier: BSD-2-Clause
"""A stack that ran out and one that never was, in logs: told apart where the registers tell.

The numbers are those of a guest whose recursion met an unmapped page, as compilers made it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from debug.evidence import Cpu, Ending, EventKind, Evidence, ExceptionEvent, Registers
from debug.report.diagnosis import diagnose
from tests.python.evidence_builder import NULL_IDT, registers

GUARD = 0x108000  # the page that is not mapped; the stack is above


def causes(regs: Registers, cr2: int, error: int = 2) -> dict[str, str]:
    """What is said of a page fault that ended the machine, without its memory."""
    kinds = ((EventKind.EXCEPTION, 14), (EventKind.EXCEPTION, 8), (EventKind.TRIPLE_FAULT, 8))
    events = tuple(
        ExceptionEvent(kind, vector, regs, error if vector == 14 else 0, cr2, 0)
        for kind, vector in kinds
    )
    cpus = (Cpu(0, regs, shutdown=True),)
    evidence = Evidence("qemu", ending=Ending.TRIPLE_FAULT, cpus=cpus, events=events)
    found = diagnose(evidence).causes
    return {cause.row.id: cause.certainty.value for cause in found}


def at(rsp: int, mode: str = "long", **values: Any) -> Registers:
    return registers(mode, rip=0x1000E9, rsp=rsp, idtr=NULL_IDT, **values)


@dataclass(frozen=True)
class Stack:
    """RSP, CR2 and what else a register holds."""

    rsp: int
    cr2: int
    rbp: int = 0
    rdi: int = 0x2A


RAN_OUT = {
    "a local, with a frame pointer": Stack(0x108FF0, 0x108FF8, rbp=0x109010),
    "a large frame, with a frame pointer": Stack(0x108F00, 0x108F08, rbp=0x109050),
    "a local, without one": Stack(0x108F80, 0x108F84),
    "a call behind a large frame": Stack(0x108E00, 0x108DF8, rbp=0x109050),
}
EITHER = {
    "the first word of a page": Stack(0x109000, 0x108FF8),
    "the same, with a pointer to a local": Stack(0x109000, 0x108FF8, rdi=0x109008),
    "a call within the page": Stack(0x108FF0, 0x108FE8),
    "the frame pointer is the top that RSP was loaded with": Stack(
        0x108FF0, 0x108FE8, rbp=0x109000
    ),
    "a frame pointer of another stack": Stack(0x108FF0, 0x108FE8, rbp=0x209010),
}


@pytest.mark.parametrize("name", RAN_OUT)
def test_a_stack_that_was_in_use_above(name: str) -> None:
    stack = RAN_OUT[name]
    said = causes(at(stack.rsp, rbp=stack.rbp, rdi=stack.rdi), stack.cr2)
    assert next(iter(said.items())) == ("stack-overflow", "likely")
    assert said["stack-unmapped"] == "possible"


@pytest.mark.parametrize("name", EITHER)
def test_either_is_possible(name: str) -> None:
    stack = EITHER[name]
    said = causes(at(stack.rsp, rbp=stack.rbp, rdi=stack.rdi), stack.cr2)
    assert said["stack-unmapped"] == said["stack-overflow"] == "possible"
    assert "pointer-unmapped" not in said


def test_tables_just_switched_did_not_have_the_stack() -> None:
    said = causes(at(0x108FF0, cr3=0x7000, rax=0x7000), 0x108FE8)
    assert said["stack-unmapped"] == "likely" and "stack-overflow" not in said


def test_a_frame_further_up_than_a_page_is_no_fault_of_the_stack() -> None:
    said = causes(at(0x108F00, rdi=0x10A004), 0x10A004)
    assert "stack-overflow" not in said and "stack-unmapped" not in said


# Paging was turned on, and the code behind MOV CR0 is gone.

LOST = {"cr0": 0x80000011, "cr3": 0x102000, "rax": 0x80000011}


@pytest.mark.parametrize("efer", [0, 1])
def test_pae_without_lme_is_most_likely_a_way_to_long_mode(efer: int) -> None:
    said = causes(at(0x10A000, "prot32", cr4=0x20, efer=efer, **LOST), 0x1000E9, 0)
    assert next(iter(said.items())) == ("lme-missing", "likely")
    assert said["identity-map-missing"] == "possible"


@pytest.mark.parametrize("cr4, efer", [(0, 0), (0x20, 0x500)], ids=["32-bit paging", "LME is 1"])
def test_else_the_code_is_not_mapped(cr4: int, efer: int) -> None:
    said = causes(at(0x10A000, "prot32", cr4=cr4, efer=efer, **LOST), 0x1000E9, 0)
    assert said["identity-map-missing"] == "likely" and "lme-missing" not in said
