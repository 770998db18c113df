# SPDX-License-Identifier: BSD-2-Clause
"""Runs a session without a terminal: a Python script inside GDB that reports in JSON."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.tree import TREE

LIMIT = 90  # seconds for a whole session

# What every script inside GDB has at hand.
PRELUDE = '''
import json, re
import gdb

report = {}

def do(command):
    """The text of a GDB command."""
    return gdb.execute(command, to_string=True)

def fails(command):
    """What a command that must fail says."""
    try:
        text = do(command)
    except gdb.error as error:
        return str(error)
    raise RuntimeError(command + " did not fail: " + text)

def cpu():
    return gdb.selected_thread().ptid[1] - 1

def registers(index):
    """The monitor's own dump of one CPU."""
    return re.split(r"CPU#\\d+\\s*\\n", do("monitor info registers -a"))[index + 1]

def linear_pc(index):
    dump = registers(index)
    offset = int(re.search(r"[RE]IP=([0-9a-f]+)", dump)[1], 16)
    base = int(re.search(r"CS\\s*=\\s*\\S+ ([0-9a-f]+)", dump)[1], 16)
    return base + offset

def look():
    """Where the machine stopped, in the words of the monitor and of lamp."""
    index = cpu()
    return {
        "cpu": index,
        "pc": linear_pc(index),
        "registers": registers(index),
        "mode": do("lamp mode"),
        "stages": do("lamp stages %d" % index),
    }
'''


@dataclass(frozen=True)
class Run:
    """A finished session."""

    code: int
    output: str
    errors: str
    report: Any


def command(kernel: Path, *arguments: str) -> list[str]:
    """The launcher's command line."""
    elf = kernel / "lamppost.elf"
    return ["/usr/bin/python3", "-m", "debug.gdb.session", "--kernel", str(elf), *arguments]


def environment(directory: Path) -> dict[str, str]:
    """Temporary files go below `directory`, where a test finds what was left."""
    temporary = directory / "t"
    temporary.mkdir(exist_ok=True)
    return {**os.environ, "TMPDIR": str(temporary), "LC_ALL": "C.UTF-8"}


def run(kernel: Path, directory: Path, body: str, *arguments: str) -> Run:
    """Run `body` inside the GDB of a session; what it puts into `report` comes back."""
    script, result = directory / "script.py", directory / "report.json"
    end = f"\nwith open({str(result)!r}, 'w') as file:\n    json.dump(report, file)\n"
    script.write_text(PRELUDE + body + end, encoding="utf-8")
    done = subprocess.run(
        [*command(kernel, *arguments[: _cut(arguments)], "--batch", str(script))]
        + list(arguments[_cut(arguments) :]),
        cwd=TREE,
        env=environment(directory),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=LIMIT,
        check=False,
    )
    output, errors = done.stdout.decode("utf-8"), done.stderr.decode("utf-8", "replace")
    if not result.exists():
        print(output, errors, file=sys.stderr)
        raise AssertionError("the script inside GDB did not come to its end")
    return Run(done.returncode, output, errors, json.loads(result.read_text(encoding="utf-8")))


def _cut(arguments: tuple[str, ...]) -> int:
    return arguments.index("--") if "--" in arguments else len(arguments)


def left_over(directory: Path) -> list[str]:
    """Files and processes of a session that should have gone."""
    files = [str(path) for path in (directory / "t").rglob("*")]
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                words = (entry / "cmdline").read_bytes().decode("utf-8", "replace")
            except OSError:
                continue
            if str(directory) in words and entry.name != str(os.getpid()):
                files.append(words.replace("\0", " "))
    return files
