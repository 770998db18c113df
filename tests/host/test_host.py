# SPDX-License-Identifier: BSD-2-Clause
"""The kernel's pure C on the host against iasl and against the Python decoder.

What needs no other program is tested in C: make test-host.
"""

from __future__ import annotations

import random
import re
import subprocess
from pathlib import Path
from typing import NamedTuple, Optional

import pytest

from debug.stages.trace import decode
from tests.tree import TREE

LIMIT = 120  # seconds that one program may take on a busy machine


def run(*argv: object, text: str = "", cwd: Optional[Path] = None) -> str:
    """The program's output; it must succeed, and whatever it says is in the failure."""
    done = subprocess.run(
        [str(word) for word in argv],
        input=text.encode(),
        capture_output=True,
        timeout=LIMIT,
        cwd=cwd,
        check=False,
    )
    output = done.stdout.decode("latin-1")
    assert done.returncode == 0, output + done.stderr.decode("latin-1")
    return output


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the programs are built."""
    build = tmp_path_factory.mktemp("host")
    run("make", "-s", "-f", "tests/host/host.mk", f"BUILD={build}", "host-tools", cwd=TREE)
    return build / "host"


# --- the MADT against iasl


class Cpu(NamedTuple):
    kind: int
    apic_id: int
    uid: int
    enabled: int
    online_capable: int


HEADER = """\
[004]  Signature : "APIC"    [Multiple APIC Description Table (MADT)]
[004]  Table Length : 00000000
[001]  Revision : 05
[001]  Checksum : 00
[006]  Oem ID : "LAMP  "
[008]  Oem Table ID : "LAMPPOST"
[004]  Oem Revision : 00000001
[004]  Asl Compiler ID : "INTL"
[004]  Asl Compiler Revision : 20200925
[004]  Local Apic Address : FEE00000
[004]  Flags (decoded below) : 00000001
       PC-AT Compatibility : 1
"""
LOCAL_APIC = """\
[001]  Subtable Type : 00
[001]  Length : 08
[001]  Processor ID : {uid:02X}
[001]  Local Apic ID : {apic_id:02X}
[004]  Flags (decoded below) : {flags:08X}
       Processor Enabled : {enabled}
       Runtime Online Capable : {online_capable}
"""
LOCAL_X2APIC = """\
[001]  Subtable Type : 09
[001]  Length : 10
[002]  Reserved : 0000
[004]  Processor x2Apic ID : {apic_id:08X}
[004]  Flags (decoded below) : {flags:08X}
       Processor Enabled : {enabled}
[004]  Processor UID : {uid:08X}
"""
OTHERS = """\
[001]  Subtable Type : 01
[001]  Length : 0C
[001]  I/O Apic ID : 00
[001]  Reserved : 00
[004]  Address : FEC00000
[004]  Interrupt : 00000000

[001]  Subtable Type : 02
[001]  Length : 0A
[001]  Bus : 00
[001]  Source : 00
[004]  Interrupt : 00000002
[002]  Flags (decoded below) : 0000
       Polarity : 0
       Trigger Mode : 0

[001]  Subtable Type : 04
[001]  Length : 06
[001]  Processor ID : FF
[002]  Flags (decoded below) : 0005
       Polarity : 1
       Trigger Mode : 1
[001]  Interrupt Input LINT : 01
"""


def table_text(seed: int) -> str:
    """A MADT with CPUs of both types in any order, and other entries between them."""
    chance = random.Random(seed)
    ids8 = chance.sample(range(0xFF), chance.randrange(1, 40))
    ids32 = chance.sample(range(0x100, 0xFFFFFFFF), chance.randrange(0, 40))
    entries = []
    for template, ids in ((LOCAL_APIC, ids8), (LOCAL_X2APIC, ids32)):
        for i in ids:
            enabled = chance.randrange(2)
            # This iasl knows the second flag in type 0 only.
            capable = chance.randrange(2) if template is LOCAL_APIC else 0
            entries.append(
                template.format(
                    uid=i & 0xFF if template is LOCAL_APIC else i,
                    apic_id=i,
                    flags=enabled | capable << 1,
                    enabled=enabled,
                    online_capable=capable,
                )
            )
    entries.append(OTHERS)
    chance.shuffle(entries)
    return HEADER + "\n" + "\n".join(entries)


def disassembled_cpus(text: str) -> list[Cpu]:
    """The CPUs in what `iasl -d` says about a MADT."""
    cpus = []
    for entry in re.split(r"(?=^\[.*Subtable Type : )", text, flags=re.MULTILINE)[1:]:
        fields = dict(re.findall(r"^\[[^\]]*\] *(.*?) : ([0-9A-Fa-f]+)", entry, re.MULTILINE))
        kind = int(fields["Subtable Type"], 16)
        if kind not in (0, 9):
            continue
        identity, uid = (
            ("Local Apic ID", "Processor ID")
            if kind == 0
            else ("Processor x2Apic ID", "Processor UID")
        )
        flags = int(fields["Flags (decoded below)"], 16)
        cpus.append(
            Cpu(kind, int(fields[identity], 16), int(fields[uid], 16), flags & 1, flags >> 1 & 1)
        )
    return cpus


@pytest.mark.parametrize("seed", range(4))
def test_madt_reads_what_iasl_reads(host: Path, tmp_path: Path, seed: int) -> None:
    (tmp_path / "madt.asl").write_text(table_text(seed))
    run("iasl", "-p", "table", "madt.asl", cwd=tmp_path)
    run("iasl", "-p", "back", "-d", "table.aml", cwd=tmp_path)
    expected = disassembled_cpus((tmp_path / "back.dsl").read_text())
    assert expected, "iasl saw no CPU in its own table"
    read = [
        Cpu(*map(int, line.split()))
        for line in run(host / "madt_cpus", tmp_path / "table.aml").splitlines()
    ]
    assert read == expected


# --- the frame writer against the Python decoder


class Event(NamedTuple):
    apic_id: int
    code: int
    sequence: int
    argument: Optional[int]


def test_decoder_reads_what_the_kernel_writes(host: Path) -> None:
    chance = random.Random(2)
    arguments = [None, 0, 1, 0xF, 0x10, 0x8000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF]
    events = []
    for apic_id in [0, 1, 9, 0xA, 0x7F, 0xFE, 0xFF, 0x100, 0x12345, 0xFFFFFFFE]:
        for count in range(600):
            argument = arguments[count] if count < len(arguments) else chance.getrandbits(32)
            events.append(Event(apic_id, count & 0xFF, count & 15, argument))
    lines = []
    for event in events:
        argument_text = "" if event.argument is None else f" {event.argument:x}"
        lines.append(f"{event.apic_id:x} {event.code:x} {event.sequence:x}{argument_text}\n")
    trace = decode(run(host / "frames", text="".join(lines)).encode("latin-1"))
    assert trace.damage == ()
    assert [
        Event(f.apic_id, f.code, f.sequence, f.argument)
        for f in trace.frames
        if f.sequence is not None
    ] == events


# --- weakened sources, which the tests must catch


@pytest.fixture(scope="module")
def mutants(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the programs with one memory order weakened are built."""
    build = tmp_path_factory.mktemp("mutants")
    run("make", "-s", "-f", "tests/host/host.mk", f"BUILD={build}", "host-mutants", cwd=TREE)
    return build / "host"


@pytest.mark.parametrize(
    ("mutant", "sentence"),
    [
        ("deque-take", r"[1-9]\d* tasks lost|[1-9]\d* done twice"),
        ("deque-publication-tsan", "ThreadSanitizer: data race"),
    ],
)
def test_a_weakened_order_is_caught(mutants: Path, mutant: str, sentence: str) -> None:
    done = subprocess.run(
        [mutants / f"mutant-{mutant}"],
        env={"TSAN_OPTIONS": "halt_on_error=1"},
        capture_output=True,
        timeout=LIMIT,
        check=False,
    )
    output = (done.stdout + done.stderr).decode("latin-1")
    assert done.returncode != 0, f"nothing noticed it: {output}"
    assert re.search(sentence, output), output
