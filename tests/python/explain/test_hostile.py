# SPDX-License-Identifier: BSD-2-Clause
"""Whatever the evidence is, the diagnosis is one: no exception, no hang, a valid report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Optional

import jsonschema
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from debug.evidence import (
    Cpu,
    Ending,
    EventKind,
    Evidence,
    ExceptionEvent,
    IpiEvent,
    IpiKind,
    Registers,
    ResetEvent,
    Segment,
    StageEvent,
    Symbol,
    TableRegister,
)
from debug.report import text
from debug.report.diagnosis import diagnose
from debug.report.machine import SCHEMA_PATH, to_json

SCHEMA = json.loads(Path(SCHEMA_PATH).read_text(encoding="utf-8"))
U64 = st.one_of(
    st.sampled_from([0, 1, 0x7FFF, 0x8000, 0xFFFF, 0x10000, 1 << 31, 1 << 47, (1 << 64) - 1]),
    st.integers(0, (1 << 64) - 1),
)
U32, U16 = st.integers(0, (1 << 32) - 1), st.integers(0, 0xFFFF)


class NoisyMemory:
    """Memory that answers every read with a pattern, or nothing."""

    def __init__(self, pattern: bytes) -> None:
        self.pattern = pattern

    def read(self, physical: int, length: int) -> Optional[bytes]:
        if not self.pattern:
            return None
        copies = self.pattern * (length // len(self.pattern) + 2)
        return copies[physical % len(self.pattern) :][:length]


class WildSymbols:
    def lookup(self, address: int) -> Optional[Symbol]:
        return Symbol("\x1b[31mname\x07", address & 0xFFF) if address & 1 else None

    def address(self, name: str) -> Optional[int]:
        return 0xFFFFFFFF80000000


SEGMENTS = st.dictionaries(
    st.sampled_from("cs ss ds es fs gs ldt tr".split()),
    st.builds(Segment, U16, U64, U32, U32),
)
REGISTERS = st.builds(
    Registers,
    rip=st.none() | U64,
    rflags=st.none() | U32,
    general=st.dictionaries(st.sampled_from("rax rbx rcx rdx rsi rdi rbp rsp r8".split()), U64),
    control=st.dictionaries(
        st.sampled_from("cr0 cr2 cr3 cr4 efer gs_base apic_base".split()),
        st.one_of(U64, st.sampled_from([0x80010013, 0x11, 0x620, 0xD00, 0x500])),
    ),
    segments=SEGMENTS,
    gdtr=st.none() | st.builds(TableRegister, U64, U16),
    idtr=st.none() | st.builds(TableRegister, U64, U16),
    cpl=st.none() | st.integers(0, 3),
)
CPUS = st.lists(
    st.builds(
        Cpu,
        index=st.integers(0, 3),
        registers=REGISTERS,
        apic_id=st.none() | st.integers(0, 300),
        halted=st.none() | st.booleans(),
        waiting_for_sipi=st.none() | st.booleans(),
        shutdown=st.none() | st.booleans(),
        executed=st.none() | st.booleans(),
        moved=st.none() | st.booleans(),
    ),
    max_size=3,
)
EVENTS = st.lists(
    st.builds(
        ExceptionEvent,
        kind=st.sampled_from(EventKind),
        vector=st.integers(0, 255),
        registers=REGISTERS,
        error_code=st.none() | U16,
        cr2=st.none() | U64,
        cpu=st.none() | st.integers(0, 4),
        while_delivering=st.none() | st.integers(-1, 255),
        reason=st.text(max_size=20),
    ),
    max_size=5,
)
EVIDENCE = st.builds(
    Evidence,
    emulator=st.sampled_from(["", "qemu", "bochs", "\x1b[2J"]),
    ending=st.sampled_from(Ending),
    exit_code=st.none() | st.integers(0, 255),
    cpus=CPUS.map(tuple),
    events=EVENTS.map(tuple),
    ipis=st.lists(
        st.builds(
            IpiEvent,
            kind=st.sampled_from(IpiKind),
            source=st.none() | st.integers(0, 4),
            destination=st.none() | U32,
            shorthand=st.none() | st.sampled_from(["self", "all", "all-but-self"]),
            vector=st.none() | st.integers(0, 300),
        ),
        max_size=4,
    ).map(tuple),
    resets=st.lists(st.builds(ResetEvent, st.none() | st.integers(0, 3)), max_size=2).map(tuple),
    stages=st.lists(
        st.builds(
            StageEvent,
            apic_id=st.integers(0, 4),
            code=st.integers(0, 255),
            argument=st.none() | U32,
            source=st.sampled_from(["e9", "com1", "memory"]),
            damaged=st.booleans(),
        ),
        max_size=8,
    ).map(tuple),
    memory=st.binary(max_size=64).map(NoisyMemory),
    symbols=st.just(WildSymbols()),
    console=st.text(max_size=60),
    expected_cpus=st.none() | st.integers(0, 8),
)


@settings(deadline=None, max_examples=300, suppress_health_check=list(HealthCheck))
@given(EVIDENCE)
def test_any_evidence_gives_a_report(evidence: Evidence) -> None:
    diagnosis = diagnose(evidence)
    jsonschema.validate(json.loads(to_json(diagnosis)), SCHEMA)
    shown = text.render(diagnosis)
    assert not any(ord(c) < 32 and c != "\n" or 0x7F <= ord(c) < 0xA0 for c in shown)
