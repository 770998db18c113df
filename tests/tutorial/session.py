# SPDX-License-Identifier: BSD-2-Clause
"""A shell, and the debuggers that it starts, driven as a reader would drive them."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Optional

import pexpect

TIMEOUT = 120  # seconds that one command may take
WIDTH = 80
_SHELL = "\x02sh\x03"  # the shell's prompt here: nothing else prints it
_STATUS = re.compile(r"\x02(\d+)\x03\s*$")
PROMPTS = {"$ ": re.escape(_SHELL), "(gdb) ": r"\(gdb\) ", "<bochs> ": r"<bochs:\d+> "}


class SessionError(Exception):
    """The session broke: what was expected and what came instead."""


@dataclass(frozen=True)
class Step:
    """One command at one prompt, and what is shown below it.

    `index` is the line of the block that it begins at, `extent` how many lines it takes.
    """

    prompt: str
    command: str
    shown: tuple[str, ...]
    index: int
    extent: int = 1


def steps(lines: tuple[str, ...]) -> list[Step]:
    """The body of a session block as steps.  Raises SessionError."""
    found: list[Step] = []
    for index, line in enumerate(lines):
        prompt = next((p for p in PROMPTS if line.startswith(p) or line == p.rstrip()), None)
        last = found[-1] if found else None
        if prompt is not None:
            found.append(Step(prompt, line[len(prompt) :], (), index))
        elif last is None:
            raise SessionError(f"a session begins with a prompt, one of {', '.join(PROMPTS)}")
        elif last.prompt == "$ " and last.command.endswith("\\"):
            command = last.command[:-1] + line.strip()
            found[-1] = replace(last, command=command, extent=last.extent + 1)
        else:
            found[-1] = replace(last, shown=(*last.shown, line))
    return found


class Session:
    """A shell in a directory.  Use as a context manager."""

    def __init__(self, directory: Path) -> None:
        environment = {
            "PATH": os.environ.get("PATH", ""),
            "HOME": os.environ.get("HOME", "/"),
            "LC_ALL": "C.UTF-8",
            "TERM": "dumb",
            "NO_COLOR": "1",
            "COLUMNS": str(WIDTH),
            "PAGER": "cat",
            "GIT_PAGER": "cat",
            "PS1": _SHELL,
            "PS2": "",
        }
        self._child = pexpect.spawn(
            "bash",
            ["--norc", "--noprofile", "--noediting"],
            cwd=str(directory),
            env=environment,
            encoding="utf-8",
            codec_errors="replace",
            timeout=TIMEOUT,
            echo=False,
            dimensions=(60, WIDTH),
        )
        self.at = "$ "
        self._wait("$ ")

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self,
        kind: Optional[type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        self._child.close(force=True)

    def run(self, step: Step, then: str) -> list[str]:
        """Give one command and wait for the prompt `then`; the lines that came.

        Raises SessionError.
        """
        if step.prompt != self.at:
            raise SessionError(f"shows the prompt {step.prompt!r}, the session is at {self.at!r}")
        self._child.sendline(step.command)
        text = self._wait(then)
        lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
        if lines and lines[0].strip() == step.command.strip():
            lines = lines[1:]  # a debugger's own editor echoes
        while lines and not lines[-1].strip():
            lines.pop()
        return [line.rstrip() for line in lines]

    def status(self) -> int:
        """The exit code of the shell's last command."""
        self._child.sendline("printf '\\002%d\\003' $?")
        found = _STATUS.search(self._wait("$ "))
        if found is None:
            raise SessionError("the shell did not tell the exit code")
        return int(found.group(1))

    def _wait(self, prompt: str) -> str:
        others = [other for other in PROMPTS if other != prompt]
        patterns = [PROMPTS[prompt], *(PROMPTS[other] for other in others)]
        try:
            which = self._child.expect([*patterns, pexpect.TIMEOUT, pexpect.EOF])
        except UnicodeDecodeError as error:
            raise SessionError(f"output is no text: {error}") from error
        before = str(self._child.before)
        if which == 0:
            self.at = prompt
            return before
        if which < len(patterns):
            self.at = others[which - 1]
            tail = " | ".join(before.strip().splitlines()[-3:])
            raise SessionError(f"expected the prompt {prompt!r}, came {self.at!r} after: {tail}")
        tail = " | ".join(before.strip().splitlines()[-3:])
        why = f"nothing for {TIMEOUT} s" if which == len(patterns) else "the session ended"
        raise SessionError(f"expected the prompt {prompt!r}: {why}, after: {tail}")
