# SPDX-License-Identifier: BSD-2-Clause
"""One program or module tried out.  A probe never raises: what is wrong is in what it returns."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Mapping, Optional, Sequence

from debug.report.safe import safe

LIMIT = 20.0  # seconds for one program
_VERSION = re.compile(r"\d+(?:\.\d+)+")


@dataclass(frozen=True)
class Finding:
    """`problem` is empty where all is well; `found` is a version, or where it is."""

    found: str = ""
    problem: str = ""


@dataclass(frozen=True)
class Output:
    """What a program said; `code` None: it could not be run or took too long."""

    code: Optional[int]
    text: str


def run(
    argv: Sequence[str], given: str = "", environment: Optional[Mapping[str, str]] = None
) -> Output:
    """Run a program with text on its standard input."""
    try:
        done = subprocess.run(
            list(argv),
            input=given.encode(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=LIMIT,
            env={**os.environ, "LC_ALL": "C", **(environment or {})},
            check=False,
        )
    except subprocess.TimeoutExpired:
        return Output(None, f"no answer within {LIMIT:g} s")
    except OSError as error:
        return Output(None, error.strerror or "it can't be run")
    return Output(done.returncode, done.stdout.decode("utf-8", "replace"))


def _failed(output: Output) -> Finding:
    lines = [line for line in output.text.splitlines() if line.strip()]
    return Finding(problem=safe(lines[-1] if lines else f"exit code {output.code}", 160))


def _version(text: str) -> str:
    found = _VERSION.search(text)
    return found[0] if found else "version not told"


def program(name: str, *flags: str) -> Finding:
    """A program that starts and tells its version."""
    if shutil.which(name) is None:
        return Finding(problem=f"{name} is not in PATH")
    output = run([name, *(flags or ("--version",))])
    return Finding(_version(output.text)) if output.code == 0 else _failed(output)


def module(name: str) -> Finding:
    """A Python module for the interpreter that runs this."""
    try:
        found = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        found = None
    if found is None:
        return Finding(problem=f"{sys.executable} has no module {name}")
    return Finding(str(Path(found.origin).parent) if found.origin else "built in")


def qemu_answers(name: str) -> Finding:
    """QEMU starts, keeps a machine at its death and can be asked over QMP."""
    if shutil.which(name) is None:
        return Finding(problem=f"{name} is not in PATH")
    machine = [name, "-nodefaults", "-display", "none", "-S", "-qmp", "stdio"]
    kept = ["-action", "reboot=shutdown,shutdown=pause"]
    questions = ("qmp_capabilities", "query-commands", "quit")
    output = run([*machine, *kept], "".join(f'{{"execute":"{q}"}}\n' for q in questions))
    if output.code != 0:
        return _failed(output)
    commands = set(re.findall(r'"name":\s*"([a-z-]+)"', output.text))
    missing = {"human-monitor-command", "dump-guest-memory"} - commands
    if missing:
        return Finding(problem=f"its QMP has no {', '.join(sorted(missing))}")
    return Finding(_greeted(output.text))


def _greeted(text: str) -> str:
    """The version in QMP's greeting."""
    try:
        version = json.loads(text.splitlines()[0])["QMP"]["version"]["qemu"]
        return "{major}.{minor}.{micro}".format(**version)
    except (ValueError, KeyError, IndexError, TypeError):
        return "version not told"


def qemu_logs(name: str) -> Finding:
    """QEMU's log has exceptions and resets, and knows which CPU they are of."""
    if shutil.which(name) is None:
        return Finding(problem=f"{name} is not in PATH")
    output = run([name, "-d", "help"])
    items = {line.split()[0] for line in output.text.splitlines() if line.strip()}
    missing = {"int", "cpu_reset"} - items
    if missing:  # the exit code of -d help says nothing
        return Finding(problem=f"its -d has no {', '.join(sorted(missing))}")
    return Finding("one log for each CPU" if "tid" in items else "one log for all CPUs")


def kvm() -> Finding:
    """The kernel's virtual machines may be used."""
    if not Path("/dev/kvm").exists():
        return Finding(problem="there is no /dev/kvm")
    usable = os.access("/dev/kvm", os.R_OK | os.W_OK)
    return Finding("/dev/kvm") if usable else Finding(problem="/dev/kvm may not be opened")


def file(*paths: str) -> Finding:
    """One of several files."""
    found = next((path for path in paths if Path(path).exists()), None)
    return Finding(found) if found else Finding(problem=f"{paths[0]} does not exist")


def bochs_debugs(cpus: int = 2) -> Finding:
    """Bochs starts several CPUs without a screen, and its debugger listens."""
    if shutil.which("bochs") is None:
        return Finding(problem="bochs is not in PATH")
    settings = ["display_library: sdl2", f"cpu: count={cpus}", "log: /dev/null"]
    screenless = {"SDL_VIDEODRIVER": "dummy", "SDL_AUDIODRIVER": "dummy", "TERM": "dumb"}
    output = run(["bochs", "-q", "-f", "/dev/null", *settings], "quit\n", screenless)
    if "<bochs:1>" not in output.text:
        panics = [line for line in output.text.splitlines() if "PANIC" in line or "rror" in line]
        problem = panics[0] if panics else "it starts no debugger: it was built without one"
        return Finding(problem=safe(problem, 160))
    if f"({cpus - 1})." not in output.text:
        return Finding(problem="it was built for one CPU")
    return Finding(_version(output.text))


def gdb_has_python() -> Finding:
    """GDB has Python, and that Python has what the `lamp` commands import."""
    if shutil.which("gdb") is None:
        return Finding(problem="gdb is not in PATH")
    script = "python import rich, elftools, capstone; print('lamp', gdb.VERSION)"
    output = run(["gdb", "-nx", "-batch", "-ex", script])
    told = re.search(r"^lamp (\S+)", output.text, re.MULTILINE)
    return Finding(_version(told[1])) if told else _failed(output)
