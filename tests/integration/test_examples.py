# SPDX-License-Identifier: BSD-2-Clause
"""The files of docs/integration do what they say, with a kernel that dies."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from debug.cli.main import described
from tests.tree import TREE

EXAMPLES = TREE / "docs" / "integration"
LIMIT = 120
# VS Code's own "$gcc" matcher.
GCC = re.compile(r"^(.*?):(\d+):(\d*):?\s+(?:fatal\s+)?(warning|error):\s+(.*)$")
DEATH_LINE = 9  # of dying_kernel.S


@pytest.fixture(name="workspace")
def _workspace(tmp_path: Path) -> Path:
    """A project with lamppost beside it and a kernel that dies."""
    (tmp_path / "lamppost").symlink_to(TREE)
    (tmp_path / "build").mkdir()
    source = Path(__file__).with_name("dying_kernel.S")
    (tmp_path / source.name).write_text(source.read_text(encoding="utf-8"), encoding="utf-8")
    subprocess.run(
        [
            *("gcc", "-m32", "-g", "-nostdlib", "-static", "-Wl,-Ttext=0x100000,--build-id=none"),
            *("-Wl,-z,noexecstack", "-o", "build/kernel.elf", source.name),
        ],
        cwd=tmp_path,
        check=True,
        timeout=LIMIT,
    )
    return tmp_path


def run(argv: list[str], where: Path, **environment: str) -> "subprocess.CompletedProcess[str]":
    """A command as the example gives it."""
    return subprocess.run(
        argv,
        cwd=where,
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )


def vscode(name: str, workspace: Path) -> dict[str, Any]:
    """One of the two files, with VS Code's variable replaced."""
    text = (EXAMPLES / "vscode" / name).read_text(encoding="utf-8")
    loaded: dict[str, Any] = json.loads(text.replace("${workspaceFolder}", str(workspace)))
    return loaded


@pytest.mark.emulator
def test_the_github_job_fails_at_the_line_and_keeps_the_evidence(workspace: Path) -> None:
    text = (EXAMPLES / "github-actions.yml").read_text(encoding="utf-8")
    job = yaml.safe_load(text)["jobs"]["boot"]
    steps = {step.get("name"): step for step in job["steps"]}
    variables = {name: str(value) for name, value in job["env"].items()}
    done = run(["bash", "-e", "-c", steps["boot"]["run"]], workspace, **variables)
    assert done.returncode == 10, done.stdout + done.stderr
    commands = [line for line in done.stdout.splitlines() if line.startswith("::")]
    assert len(commands) == 1
    found = re.fullmatch(r"::error file=(.*),line=(\d+),title=(.*?)::(.*)", commands[0])
    assert found and found[1] == "dying_kernel.S" and int(found[2]) == DEATH_LINE, commands
    assert "triple-faulted" in found[4] and "fix%3A" not in found[4] and "%0Afix: " in found[4]
    stop, go = [line for line in done.stderr.splitlines() if line.startswith("::")]
    assert go == f"::{stop.removeprefix('::stop-commands::')}::"
    kept, core = (workspace / path for path in steps["evidence"]["with"]["path"].split())
    assert any(kept.iterdir()) and core.stat().st_size
    assert steps["evidence"]["if"] == "failure()"


@pytest.mark.emulator
def test_the_vscode_task_puts_the_death_into_problems(workspace: Path) -> None:
    task = vscode("tasks.json", workspace)["tasks"][0]
    assert task["problemMatcher"]["base"] == "$gcc"
    done = run([task["command"], *task["args"]], workspace)
    (found,) = filter(None, map(GCC.match, done.stdout.splitlines()))
    assert (found[1], int(found[2]), found[4]) == ("dying_kernel.S", DEATH_LINE, "error")


@pytest.mark.emulator
def test_the_vscode_session_explains_in_the_debugger(workspace: Path) -> None:
    """QEMU as the task starts it, GDB as launch.json sets it up; a unix socket for the port."""
    (task,) = [t for t in vscode("tasks.json", workspace)["tasks"] if t.get("isBackground")]
    (session,) = vscode("launch.json", workspace)["configurations"]
    assert session["preLaunchTask"] == task["label"]
    stub = f"tcp:{session['miDebuggerServerAddress']}"
    assert stub in task["command"]
    command = task["command"].replace(stub, "unix:build/stub,server=on,wait=off")
    setup = [step["text"] for step in session["setupCommands"]]
    with subprocess.Popen(
        ["bash", "-c", command], cwd=workspace, stdout=subprocess.PIPE, text=True
    ) as qemu:
        try:
            assert qemu.stdout is not None
            pattern = task["problemMatcher"]["background"]["endsPattern"]
            assert re.search(pattern, qemu.stdout.readline())
            await_socket(workspace / "build" / "stub", qemu)
            program = os.path.relpath(session["program"], workspace)
            script = [f"file {program}", *setup, "target remote build/stub", "continue"]
            words = [word for line in script for word in ("-ex", line)]
            done = run(["gdb", "-nx", "-batch", *words, "-ex", "lamp why"], workspace)
        finally:
            qemu.kill()
    assert "the guest has died" in done.stdout, done.stdout + done.stderr
    assert done.stdout.count("triple-faulted") == 2  # by itself, and when asked


def await_socket(path: Path, qemu: "subprocess.Popen[str]") -> None:
    """Until QEMU listens: the stub takes one connection only, so nobody else may try it."""
    deadline = time.monotonic() + LIMIT
    while not path.exists():
        assert qemu.poll() is None, "QEMU ended"
        assert time.monotonic() < deadline, "QEMU does not listen"
        time.sleep(0.01)


def test_the_gdbinit_line_adds_the_commands(tmp_path: Path) -> None:
    (tmp_path / "lamppost").symlink_to(TREE)
    done = run(
        ["gdb", "-nx", "-batch", "-x", str(EXAMPLES / "gdbinit"), "-ex", "lamp why"], tmp_path
    )
    assert "not connected to a machine" in done.stderr
    assert "Undefined command" not in done.stderr


def test_the_examples_use_options_that_exist() -> None:
    known = {c.name: {flag for o in c.options for flag in o.flags} for c in described()}
    texts = [path.read_text(encoding="utf-8") for path in EXAMPLES.rglob("*") if path.is_file()]
    used = re.findall(
        r"lamppost (run|explain|completion|doctor)\b((?: \\\n| [^\s|`]+)*)", "\n".join(texts)
    )
    assert {name for name, _ in used} == {"run", "completion", "doctor"}
    for name, words in used:
        own = shlex.split(words.replace("\\\n", " "))
        own = own[: own.index("--")] if "--" in own else own
        assert {word for word in own if word.startswith("-")} <= known[name]
