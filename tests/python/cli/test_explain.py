# SPDX-License-Identifier: BSD-2-Clause
"""`lamppost explain`: what it says of a file, and of the same file as people paste it."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import struct
from pathlib import Path
from typing import Any, Callable

import jsonschema
import pytest

from debug.cli.exit_codes import ExitCode
from debug.cli.main import main
from debug.report.machine import SCHEMA_PATH

RECORDED = Path(__file__).resolve().parents[2] / "recorded" / "qemu"
LONG = (RECORDED / "ap-long-mode.log").read_bytes()
CR3_ZERO = LONG.replace(b"CR3=0000000000001000", b"CR3=0000000000000000")
REGISTERS = (RECORDED / "info-registers.txt").read_bytes()

BOCHS = b"""\
00000000000i[      ] Bochs x86 Emulator 2.7
00017404821i[BIOS  ] Booting from 0000:7c00
00017405000i[APIC1 ] Deliver Start Up IPI
00017405000i[CPU1  ] CPU 1 started up at 0800:00000000 by APIC
00017405120e[CPU1  ] check_cs(0x0008): not a valid code segment !
00017405120e[CPU1  ] interrupt(): gate descriptor is not valid sys seg (vector=0x0d)
00017405120e[CPU1  ] interrupt(): gate descriptor is not valid sys seg (vector=0x08)
00017405120i[CPU1  ] CPU is in protected mode (active)
00017405120i[CPU1  ] CS.mode = 16 bit
00017405120i[CPU1  ] SS.mode = 16 bit
00017405120i[CPU1  ] EFER   = 0x00000000
00017405120i[CPU1  ] | EAX=60000011  EBX=00000000  ECX=00000000  EDX=00000000
00017405120i[CPU1  ] | ESP=00000000  EBP=00000000  ESI=00000000  EDI=00000000
00017405120i[CPU1  ] | IOPL=0 id vip vif ac vm RF nt of df if tf sf zf af PF cf
00017405120i[CPU1  ] | SEG sltr(index|ti|rpl)     base    limit G D
00017405120i[CPU1  ] |  CS:0800( 1e00| 0|  0) 00008000 0000ffff 0 0
00017405120i[CPU1  ] |  DS:0800( 0000| 0|  0) 00008000 0000ffff 0 0
00017405120i[CPU1  ] |  SS:0000( 0000| 0|  0) 00000000 0000ffff 0 0
00017405120i[CPU1  ] |  ES:0000( 0000| 0|  0) 00000000 0000ffff 0 0
00017405120i[CPU1  ] |  FS:0000( 0000| 0|  0) 00000000 0000ffff 0 0
00017405120i[CPU1  ] |  GS:0000( 0000| 0|  0) 00000000 0000ffff 0 0
00017405120i[CPU1  ] | EIP=00000031 (00000031)
00017405120i[CPU1  ] | CR0=0x60000011 CR2=0x00000000
00017405120i[CPU1  ] | CR3=0x00000000 CR4=0x00000000
00017405120p[CPU1  ] >>PANIC<< exception(): 3rd (13) exception with no resolution, shutdown status\
 is 00h, resetting
"""
BOCHS = BOCHS.replace(b"\\\n", b"")

Damage = Callable[[bytes], bytes]


def each_line(prefix: str) -> Damage:
    return lambda data: b"".join(prefix.encode() + line for line in data.splitlines(True))


def wrapped(width: int) -> Damage:
    def damage(data: bytes) -> bytes:
        lines = []
        for line in data.splitlines():
            lines += [line[at : at + width] for at in range(0, len(line), width)] or [b""]
        return b"\n".join(lines) + b"\n"

    return damage


def coloured(data: bytes) -> bytes:
    return b"\n".join(b"\x1b[31m" + line + b"\x1b[0m" for line in data.split(b"\n"))


DAMAGES: dict[str, Damage] = {
    "CRLF": lambda data: data.replace(b"\n", b"\r\n"),
    "colours": coloured,
    "quoted": each_line("> "),
    "indented": each_line("\t    "),
    "comment": each_line("# "),
    "C comment": each_line("// "),
    "CI time": each_line("boot-test\t2024-05-06T07:08:09.1234567Z "),
    "kernel time": each_line("[   12.345678] "),
    "fenced": lambda data: b"It reboots, why?\n```text\n" + data + b"\n```\nThanks!\n",
    "no-break spaces": lambda data: data.replace(b"  ", b"\xc2\xa0 "),
    "entities": lambda data: data.replace(b">", b"&gt;").replace(b"<", b"&lt;"),
    "UTF-16": lambda data: "\ufeff".encode("utf-16-le")
    + data.decode("latin-1").encode("utf-16-le"),
    "UTF-8 mark": lambda data: b"\xef\xbb\xbf" + data,
    "wrapped at 80": wrapped(80),
    "wrapped at 100": wrapped(100),
    "blank lines": lambda data: data.replace(b"\n", b"\n\n"),
    "cut before": lambda data: data[len(data) // 10 :],
}


def explain(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    *contents: bytes,
    options: tuple[str, ...] = (),
) -> tuple[int, dict[str, Any]]:
    """The exit code and the JSON report on files with these contents."""
    paths = []
    for number, content in enumerate(contents):
        path = tmp_path / f"file{number}"
        path.write_bytes(content)
        paths.append(str(path))
    code = main(["explain", "--json", *options, *paths])
    report = json.loads(capsys.readouterr().out)
    jsonschema.validate(report, json.loads(SCHEMA_PATH.read_text()))
    return code, report


def gist(report: dict[str, Any]) -> tuple[Any, ...]:
    """What must not depend on how a log was pasted."""
    steps = [(s["vector"], s["rip"], s["error_code"]) for s in report["chain"]]
    causes = [(cause["id"], cause["certainty"]) for cause in report["causes"]]
    return report["status"], report["culprit"], steps, causes[:1]


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", ["qemu", "bochs"])
def test_a_paste_is_read_as_the_log(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, name: str, damage: str
) -> None:
    whole = {"qemu": LONG, "bochs": BOCHS}[name]
    code, before = explain(capsys, tmp_path, whole)
    assert code == ExitCode.TRIPLE_FAULT and before["causes"]
    _, after = explain(capsys, tmp_path, DAMAGES[damage](whole))
    assert gist(after) == gist(before)


@pytest.mark.parametrize("damage", DAMAGES)
def test_pasted_registers_are_read(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, damage: str
) -> None:
    before = explain(capsys, tmp_path, REGISTERS)[1]["cpus"]
    assert [cpu["rip"] for cpu in before] == [0x7C77, 0x7CEA]
    if damage != "cut before":
        after = explain(
            capsys, tmp_path, b"(qemu) info registers -a\n" + DAMAGES[damage](REGISTERS)
        )
        assert [(cpu["rip"], cpu["mode"]) for cpu in after[1]["cpus"]] == [
            (cpu["rip"], cpu["mode"]) for cpu in before
        ]


def test_lines_that_were_glued_together(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    before = explain(capsys, tmp_path, LONG)[1]
    after = explain(capsys, tmp_path, LONG.replace(b"\n", b" "))[1]
    assert gist(after) == gist(before)


def test_a_lost_digit_takes_the_certainty_away(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert explain(capsys, tmp_path, CR3_ZERO)[1]["causes"][0]["certainty"] == "certain"
    at = CR3_ZERO.rindex(b"CR3=0000000000000000")
    changed = CR3_ZERO[:at] + b"CR3=0000000000001000" + CR3_ZERO[at + 20 :]
    report = explain(capsys, tmp_path, changed)[1]
    assert {cause["certainty"] for cause in report["causes"]} == {"possible"}
    assert any("differ in CR3" in note for note in report["notes"])


def test_a_digit_that_two_records_outvote_changes_nothing(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    slip = CR3_ZERO.replace(b"RSP=0000000000007000", b"RSP=0000000000007700", 1)
    assert slip != CR3_ZERO
    report = explain(capsys, tmp_path, slip)[1]
    assert report["causes"][0]["certainty"] == "certain"
    assert any("differ in SP" in note and "the same" in note for note in report["notes"])


def test_a_digit_that_no_cause_rests_on_takes_no_certainty(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    slip = CR3_ZERO.replace(b"R15=0000000000000000", b"R15=0000000000000009", 1)
    assert slip != CR3_ZERO
    report = explain(capsys, tmp_path, slip)[1]
    assert report["causes"][0]["certainty"] == "certain"
    assert any("R15" in note and "whichever is right" in note for note in report["notes"])


def test_no_certain_cause_without_a_name(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    report = explain(capsys, tmp_path, LONG)[1]
    assert (report["causes"][0]["id"], report["causes"][0]["certainty"]) == (
        "page-fault-undelivered",
        "likely",
    )


def test_the_last_of_several_deaths_is_explained(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    earlier = LONG.replace(b"7cea", b"7bbb")
    report = explain(capsys, tmp_path, earlier + LONG)[1]
    assert report["chain"][0]["rip"] == 0x7CEA
    assert any("2 triple faults" in note for note in report["notes"])


def test_registers_alone_prove_nothing(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    report = explain(capsys, tmp_path, REGISTERS)[1]
    assert {cause["certainty"] for cause in report["causes"]} <= {"possible"}


def test_registers_beside_a_log_name_the_cpu(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert explain(capsys, tmp_path, LONG)[1]["culprit"] is None
    registers = REGISTERS.replace(b"CR3=0000000000001000", b"CR3=0000000000000000")
    code, report = explain(capsys, tmp_path, CR3_ZERO, registers)
    assert (code, report["culprit"]) == (ExitCode.TRIPLE_FAULT, 1)
    assert any("witnesses of one machine" in note for note in report["notes"])
    assert report["causes"][0]["certainty"] == "certain"


def test_files_of_different_runs_are_told_apart(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    moved = REGISTERS.replace(b"7cea", b"1234")
    report = explain(capsys, tmp_path, LONG, moved)[1]
    assert any("disagree" in note for note in report["notes"])
    assert {cause["certainty"] for cause in report["causes"]} == {"possible"}
    report = explain(capsys, tmp_path, BOCHS, REGISTERS)[1]
    assert any("different emulators" in note for note in report["notes"])


def test_a_trace_shows_how_far_it_came(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    from debug.stages.checksum import encode

    frames = b"".join(encode(0, code, None, n) for n, code in enumerate((0xB0, 0xB1, 0xB2)))
    report = explain(capsys, tmp_path, b"booting\n" + frames)[1]
    assert all(cause["certainty"] == "possible" for cause in report["causes"])
    assert any("stage trace" in note for note in report["notes"])


def test_standard_input(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(LONG)))
    assert main(["explain", "-"]) == ExitCode.TRIPLE_FAULT
    assert "64-bit mode at 0x7cea" in capsys.readouterr().out


def test_an_abort_of_kvm_is_no_fault_of_the_guest(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    text = b"KVM internal error. Suberror: 1\nemulation failure\n" + REGISTERS
    report = explain(capsys, tmp_path, text + b"Code=00 00 <66> 0f 6f 00\n")[1]
    assert report["status"] == "unknown" and report["emulator"]["accelerator"] == "kvm"


FOREIGN = b"\x7fELF\x02\x01\x01" + bytes(9) + struct.pack("<HH", 4, 183) + bytes(44)


@pytest.mark.parametrize(
    "content, words",
    [
        (b"", "it is empty"),
        (b"Dear diary, today my kernel reported a Triple fault again.\n", "nothing in its"),
        (bytes(5000), "nothing in its"),
        (b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x02\x00" + bytes(46), "--elf"),
        (FOREIGN, "AArch64"),
        (b"KDUMP   " + bytes(100), "kdump"),
        (b"\x7fELF", "nothing in its"),
        (gzip.compress(b"Triple fault", mtime=0), "zcat "),
        (lzma.compress(b"Triple fault"), "xzcat "),
        (bz2.compress(b"Triple fault"), "compressed (bzip2)"),
    ],
)
def test_what_is_no_evidence_is_said(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, content: bytes, words: str
) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    assert main(["explain", str(path)]) == ExitCode.BAD_INPUT
    said = capsys.readouterr().err
    assert words in said and str(path) in said and said.count("\n") == 1
    code, report = explain(capsys, tmp_path, content)
    assert (code, report["status"]) == (ExitCode.BAD_INPUT, "bad-input")


@pytest.mark.parametrize(
    "words, said",
    [
        (["explain", "--json"], "FILE"),
        (["explain", "--json", "--cpus", "0", "x"], "--cpus"),
        (["explain", "--json", "--elf", "no-such-file", "x"], "no-such-file"),
        (["explain", "--json", "/dev/zero"], "a device that does not end"),
        (["attach", "--json", "nothing"], "is no stub"),
        (["run", "--json", "--until", "(", "--", "x"], "no regular expression"),
        (["run", "--no-such-option", "--json"], "--no-such-option"),
    ],
)
def test_whoever_asked_for_json_gets_it_of_an_error_too(
    capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    code = main(words)
    out, err = capsys.readouterr()
    found = json.loads(out)
    assert found["status"] == "bad-input" and said in found["headline"] and said in err
    assert code in (2, 16)


def test_what_can_not_be_opened_is_said(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "absent"):
        assert main(["explain", str(path)]) == ExitCode.BAD_INPUT
        assert str(path) in capsys.readouterr().err
    (tmp_path / "log").write_bytes(LONG)
    code = main(["explain", "--elf", str(tmp_path / "absent"), str(tmp_path / "log")])
    assert code == ExitCode.BAD_INPUT and "absent" in capsys.readouterr().err


def test_no_escape_sequence_gets_through(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "evil"
    path.write_bytes(
        b"qemu-system-x86_64: \x1b]0;evil\x07\x9b31m: fatal\n" + BOCHS[:-1] + b"\x1b[2J\n"
    )
    main(["explain", str(path)])
    assert not set(capsys.readouterr().out) & {"\x1b", "\x07", "\x9b"}
