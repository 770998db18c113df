# SPDX-License-Identifier: BSD-2-Clause
"""The exception that UEFI firmware printed: what is said of it, however it was pasted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from debug.cli.exit_codes import ExitCode
from debug.cli.main import main
from debug.x86.uefi_dump import dumps
from tests.python.cli.test_explain import DAMAGES, explain, gist
from tests.tree import TREE

RECORDED = TREE / "tests" / "recorded" / "uefi"
UNMAPPED = 0x1234_5678_9000

# The application: vector and error code, and the first cause that is named.
SAID: dict[str, tuple[int, int | None, str, str]] = {
    "read": (14, 0, "pointer-unmapped", "likely"),
    "write": (14, 2, "pointer-unmapped", "likely"),
    "call": (14, 0x10, "pointer-unmapped", "likely"),
    "call_null": (6, None, "executing-zeros", "likely"),
    "non_canonical": (13, 0, "pointer-non-canonical", "possible"),
    "selector": (13, 0x1230, "selector-beyond-gdt", "possible"),
    "divide": (0, None, "divide-error", "likely"),
    "ud2": (6, None, "kernel-panic", "likely"),
    "ia32-selector": (13, 0x1230, "selector-beyond-gdt", "possible"),
    "ia32-divide": (0, None, "divide-error", "likely"),
}


def recorded(name: str) -> bytes:
    return (RECORDED / f"{name}.txt").read_bytes()


def said(capsys: pytest.CaptureFixture[str], tmp_path: Path, *texts: bytes) -> dict[str, Any]:
    """The JSON report on what the firmware of one machine printed."""
    code, report = explain(capsys, tmp_path, *texts)
    assert code == ExitCode.PANIC and report["status"] == "panic"
    return report


@pytest.mark.parametrize("name", SAID)
def test_a_recorded_exception_is_explained(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, name: str
) -> None:
    report = said(capsys, tmp_path, recorded(name))
    (step,) = report["chain"]
    first = report["causes"][0]
    assert (step["vector"], step["error_code"], first["id"], first["certainty"]) == SAID[name]
    assert all(cause["certainty"] != "certain" for cause in report["causes"])
    mode = "32-bit protected mode" if name.startswith("ia32") else "64-bit mode"
    assert [(cpu["apic_id"], cpu["mode"]) for cpu in report["cpus"]] == [(0, mode)]


def test_the_access_and_its_pointer_are_told(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    report = said(capsys, tmp_path, recorded("write"))
    assert f"write to {UNMAPPED + 8:#x}: not present" in report["chain"][0]["explanation"]
    assert "RBX+0x8" in report["causes"][0]["evidence"][0]


def test_the_image_gives_the_place_a_name(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Of a fetch that failed EDK II looks for the return address, and so does the note."""
    inside = said(capsys, tmp_path, recorded("ud2"))["notes"]
    caller = said(capsys, tmp_path, recorded("call"))["notes"]
    assert any(note.startswith("RIP is 0x1000 bytes into the image") for note in inside)
    assert any("on top of the stack, is 0x100c bytes into" in note for note in caller)
    text = recorded("ud2").replace(b"(No PDB)", b"/home/me/Build/X64/Hello.dll")
    named = said(capsys, tmp_path, text)["notes"]
    assert any("the image (Hello.dll) that UEFI loaded" in note for note in named)


@pytest.mark.parametrize("damage", [*DAMAGES, "wrapped at 72", "quoted twice"])
def test_a_paste_is_read_as_the_dump(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, damage: str
) -> None:
    whole = recorded("write").replace(b"\r", b"")
    before = gist(said(capsys, tmp_path, whole))
    if damage == "wrapped at 72":
        lines = whole.decode().split("\n")
        pasted = "\n".join(f"> {line[:70]}\n> {line[70:]}" for line in lines).encode()
    elif damage == "quoted twice":
        pasted = b"\n".join(b">> " + line for line in whole.split(b"\n"))
    elif damage == "cut before":
        pasted = b"BdsDxe: starting Boot0002\r\n" + whole
    else:
        pasted = DAMAGES[damage](whole)
    assert gist(said(capsys, tmp_path, pasted)) == before


def test_the_first_of_several_is_explained(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    report = said(capsys, tmp_path, recorded("divide") + recorded("ud2"))
    assert [step["vector"] for step in report["chain"]] == [0]
    assert any("2 dumps" in note and "first" in note for note in report["notes"])


def test_another_cpu_keeps_its_apic_id(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    text = recorded("divide").replace(b"Apic ID - 00000000", b"Apic ID - 00000003")
    report = said(capsys, tmp_path, text)
    assert [cpu["apic_id"] for cpu in report["cpus"]] == [3]
    assert [cause["id"] for cause in report["causes"]] == ["divide-error"]


def test_what_was_cut_off_is_not_invented(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    head = recorded("write").split(b"\n")[0]
    report = said(capsys, tmp_path, head)
    assert not report["chain"]
    assert [cause["id"] for cause in report["causes"]] == ["kernel-panic"]


def test_an_error_code_that_its_bits_contradict_proves_less(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    report = said(capsys, tmp_path, recorded("write").replace(b"W:1", b"W:0"))
    assert {cause["certainty"] for cause in report["causes"]} == {"possible"}
    assert any("differ" in note for note in report["notes"])


def test_the_headline_names_the_firmware(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "serial"
    path.write_bytes(recorded("read"))
    assert main(["explain", str(path)]) == ExitCode.PANIC
    text = capsys.readouterr().out
    assert text.startswith("UEFI gave up with #PF at 0x")


def test_a_flood_of_heads_is_bounded() -> None:
    head = recorded("read").decode().split("\n")[0]
    assert len(dumps(f"{head}\n" * 10_000)) <= 64
