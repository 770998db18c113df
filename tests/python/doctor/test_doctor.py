# SPDX-License-Identifier: BSD-2-Clause
"""The doctor finds what is there, and says of what is missing or broken what it costs."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from debug.cli import doctor
from debug.doctor import probes
from debug.doctor.checks import CHECKS, PARTS, Check
from debug.doctor.probes import Finding
from tests.tree import TREE

LIMIT = 120


def asked(path: str, *words: str) -> tuple[int, str, str]:
    """`lamppost doctor` with this PATH."""
    done = subprocess.run(
        ["/usr/bin/python3", str(TREE / "debug/lamppost"), "doctor", *words],
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.emulator
def test_all_is_well_where_the_packages_are() -> None:
    code, text, errors = asked(os.environ["PATH"])
    assert (code, errors) == (0, ""), text
    assert text.endswith("\nall that is needed works\n")
    assert all(part in text for part in PARTS)


def test_what_is_missing_has_its_price(tmp_path: Path) -> None:
    code, text, _ = asked(str(tmp_path), "qemu", "gdb")
    assert code == 3
    assert "qemu-system-x86_64 is not in PATH" in text
    assert "install  apt-get install qemu-system-x86" in text
    assert "costs    no `make gdb`" in text
    assert "bochs" not in text


def test_the_same_for_programs(tmp_path: Path) -> None:
    code, text, _ = asked(str(tmp_path), "--json", "bochs")
    (check,) = json.loads(text)["checks"]
    assert code == 3 and json.loads(text)["status"] == "missing"
    assert check["works"] is False and "bochs is not in PATH" in check["problem"]
    assert check["costs"] and "bochs-sdl" in check["packages"]


def test_an_unknown_part_is_named() -> None:
    code, _, errors = asked(os.environ["PATH"], "emacs")
    assert code == 2 and "'emacs' is not one of diagnoser, qemu, bochs, gdb, kernel" in errors


def script(path: Path, text: str) -> None:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


@pytest.mark.parametrize(
    "program, text, said",
    [
        ("qemu-system-x86_64", "echo '-action: invalid option'; exit 1", "invalid option"),
        ("qemu-system-x86_64", "echo '{}'", "its QMP has no dump-guest-memory"),
        ("bochs", "echo Bochs 2.7; echo 'PANIC: no display'", "PANIC: no display"),
        ("bochs", "echo '<bochs:1>'", "it was built for one CPU"),
        ("gdb", "echo 'Python scripting is not supported'; exit 1", "not supported"),
        ("gdb", "printf 'bad \\033[31m text'; exit 1", "bad ?[31m text"),
    ],
)
def test_what_does_not_work_is_told_from_what_does(
    program: str, text: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script(tmp_path / program, text)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin")
    probe: dict[str, Any] = {
        "qemu-system-x86_64": lambda: probes.qemu_answers(program),
        "bochs": probes.bochs_debugs,
        "gdb": probes.gdb_has_python,
    }
    assert said in probe[program]().problem


def test_an_optional_thing_breaks_nothing() -> None:
    check = Check("qemu", "KVM", Finding, "", "slower", optional=True)
    results = [(check, Finding(problem="there is no /dev/kvm"))]
    assert doctor.healthy(results) and "  · KVM" in doctor.render(results)
    needed = Check("qemu", "QEMU", Finding, "qemu-system-x86", "no machine")
    assert not doctor.healthy([*results, (needed, Finding(problem="gone"))])


def test_packages_are_those_that_make_setup_installs() -> None:
    text = (TREE / "tests/packages.txt").read_text(encoding="utf-8")
    listed = {line.split()[0] for line in text.splitlines() if line and line[0] != "#"}
    assert {package for check in CHECKS for package in check.package.split()} <= listed
