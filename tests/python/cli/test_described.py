# SPDX-License-Identifier: BSD-2-Clause
"""The manual page and the completion scripts: read by the programs that they are for."""

from __future__ import annotations

import functools
import os
import subprocess
from pathlib import Path

import pytest

from debug.cli.described import man
from debug.cli.main import described
from debug.failures.table import ROWS
from tests.tree import TREE

PAGE = TREE / "docs" / "lamppost.1"
LIMIT = 60


def output(*argv: str, **environment: str) -> tuple[str, str]:
    """What a program prints; it must succeed."""
    done = subprocess.run(
        argv,
        env={**os.environ, "LC_ALL": "C.UTF-8", **environment},
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout, done.stderr


def test_man_has_nothing_to_complain_of() -> None:
    text, complaints = output("man", "--warnings", "-E", "UTF-8", "-l", str(PAGE), MANWIDTH="80")
    assert complaints == ""
    for command in described():
        for option in command.options:
            assert option.flags[-1] in text
    assert "--symbols ELF[@OFFSET]" in text and "Exit" not in text and "EXIT STATUS" in text


def test_mandoc_has_nothing_to_complain_of() -> None:
    assert output("mandoc", "-T", "lint", "-W", "error", str(PAGE)) == ("", "")


def test_a_line_is_never_a_request() -> None:
    assert man._line(".so /etc/passwd") == "\\&.so /etc/passwd"
    assert man._line("a\\b-c") == "a\\eb\\-c"


@functools.lru_cache(maxsize=None)
def text_for(shell: str) -> str:
    """The script as a user gets it."""
    return output(str(TREE / "debug/lamppost"), "completion", shell)[0]


def completed(shell: str, words: list[str], where: Path) -> set[str]:
    """What the shell offers for the last of `words`."""
    script = where / f"completion.{shell}"
    script.write_text(text_for(shell))
    if shell == "fish":
        line = " ".join(words)
        text, _ = output("fish", "-c", f"source {script}; complete -C '{line}'", HOME=str(where))
        return {line.split("\t")[0] for line in text.splitlines()}
    quoted = " ".join(f"'{word}'" for word in words)
    ask = f"COMP_WORDS=({quoted}); COMP_CWORD={len(words) - 1}; _lamppost"
    if shell == "bash":
        command = f"cd {where}; source {script}; {ask}; printf '%s\\n' \"${{COMPREPLY[@]}}\""
        return set(output("bash", "--norc", "-c", command)[0].split())
    # zsh's compgen leaves it to zsh's own matching what of its words fits.
    command = (
        f"cd {where}; source {script}; ask() {{ emulate -L ksh; PREFIX={words[-1]!r}; {ask};"
        " print -l -- ${COMPREPLY[@]} }; ask"
    )
    offered = output("zsh", "-f", "-c", command, HOME=str(where))[0].split()
    return {word for word in offered if word.startswith(words[-1])}


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_completes(shell: str, tmp_path: Path) -> None:
    (tmp_path / "kernel.elf").touch()
    names = {command.name for command in described()}

    def offers(*words: str) -> set[str]:
        return completed(shell, ["lamppost", *words], tmp_path)

    assert names <= offers("")
    assert offers("run", "--sy") == {"--symbols"}
    assert offers("stages", "--per") == {"--perfetto"}
    assert {row.id for row in ROWS} <= offers("failures", "")
    assert offers("completion", "f") == {"fish"}
    assert offers("doctor", "boc") == {"bochs"}
    assert "stack-null" in offers("explain", "--guess", "stack-n")
    assert offers("run", "--annotations", "g") == {"gcc", "github"}


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_files_and_programs_are_completed(shell: str, tmp_path: Path) -> None:
    (tmp_path / "kernel.elf").touch()
    (tmp_path / "logs").mkdir()

    def offers(*words: str) -> set[str]:
        return completed(shell, ["lamppost", *words], tmp_path)

    assert offers("run", "--symbols", "ker") == {"kernel.elf"}
    assert offers("run", "--keep", "") == {"logs"}
    assert offers("run", "--", "qemu-system-x") >= {"qemu-system-x86_64"}
    assert offers("run", "--", "qemu-system-x86_64", "-kernel", "ker") == {"kernel.elf"}
