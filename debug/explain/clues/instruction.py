# SPDX-License-Identifier: BSD-2-Clause
"""What the vector and the control registers prove about an instruction that can't be read."""

from __future__ import annotations

from typing import Iterator

from debug.explain.clues.moment import Moment
from debug.explain.findings.evident import Clue, Evident, Proof
from debug.x86.exceptions import BR, DE, UD
from debug.x86.modes import Mode
from debug.x86.registers import Cr4


def findings(moment: Moment) -> Iterator[Evident]:
    """The facts about the instruction, most telling first."""
    if not moment.first or not moment.died or moment.mode is Mode.REAL:
        return
    if moment.vector == DE:
        line = (
            "#DE is raised by DIV, IDIV and AAM alone: by 0, or with a quotient that does not fit"
        )
        yield Evident(moment.cpu, Clue.DIVIDE, Proof.FITS, (line,))
    if moment.vector == BR:
        line = (
            "#BR is raised by BOUND alone (opcode 62, the letter b), which no compiler makes: what"
            " runs there is text or data"
        )
        yield Evident(moment.cpu, Clue.NOT_CODE, Proof.FITS, (line,))
    cr4 = moment.get("cr4")
    if moment.mode is not Mode.LONG64 or cr4 is None:
        return  # compilers use SSE in 64-bit code alone unless they are told to
    if moment.vector == UD and not cr4 & Cr4.OSFXSR:
        line = f"CR4 is {cr4:#x}, OSFXSR=0: each SSE instruction raises #UD, of a compiler's too"
        yield Evident(moment.cpu, Clue.SSE_OFF, Proof.HINT, (line,))
