# SPDX-License-Identifier: BSD-2-Clause
"""Instructions that need a feature which is off, or which this CPU does not have."""

from __future__ import annotations

import re
from typing import Optional

from debug.evidence import Evidence
from debug.explain.findings import InvalidOpcode, OpcodeProblem
from debug.explain.firmware import in_rom
from debug.explain.model import Explanation
from debug.failures import chapters
from debug.failures.row import Match, Place, Row, certain, likely

_SWITCH = re.compile(r"(?:CR4|EFER)\.[A-Z0-9]+=0")


def _feature_off(evidence: Evidence, explanation: Explanation) -> Optional[Match]:
    for invalid in explanation.all(InvalidOpcode):
        if invalid.problem is OpcodeProblem.UNKNOWN and _SWITCH.search(invalid.sentence):
            return certain(invalid)
    return None


def _unsupported(evidence: Evidence, explanation: Explanation) -> Optional[Match]:
    """The instruction is known, everything that it needs is on, and it is undefined."""
    for invalid in explanation.all(InvalidOpcode):
        if invalid.problem is not OpcodeProblem.UNKNOWN or not invalid.instruction:
            continue
        if invalid.rip is not None and in_rom(invalid.rip):
            continue  # it went astray: firmware is no code for another mode
        if "could not be read" in invalid.sentence or _SWITCH.search(invalid.sentence):
            continue
        return likely(invalid)
    return None


ROWS = (
    Row(
        "feature-not-enabled",
        "an instruction whose feature is turned off in CR4 or EFER",
        Place.LONG64,
        ("#UD at wrgsbase", "#UD at syscall", "#UD at rdfsbase", "CR4.FSGSBASE"),
        "#UD at an instruction that needs a bit of CR4 or EFER which is 0",
        "the bit is 1",
        "test CPUID, then set the bit on every CPU before the instruction is used",
        "Control Registers",
        chapters.INTO_C,
        ("CPU-06", "FPU-06"),
        _feature_off,
        ("fsgsbase-not-enabled",),
    ),
    Row(
        "instruction-unsupported",
        "an instruction that this CPU model does not have",
        Place.LONG64,
        ("#UD at rdrand", "#UD at invpcid", "ILLOPC", "works with -cpu max only"),
        "#UD at a valid instruction, and every control bit that it needs is set",
        "the bytes are no instruction, or a control bit is off",
        "test the instruction's CPUID bit first, and say what is missing; compile without -march",
        "Interrupt 6-Invalid Opcode Exception (#UD)",
        chapters.INTO_C,
        ("CPU-06", "BLD-06"),
        _unsupported,
        ("ap-rdrand-unsupported",),
    ),
)
