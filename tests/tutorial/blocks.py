# SPDX-License-Identifier: BSD-2-Clause
"""The fenced blocks of a chapter, and what each of them promises.

The word after the fence says what a block is; `key=value` words after it say more:

    ```console                 a shell session; `$ ` begins a command
    ```gdb                     the same, and `(gdb) ` begins a command to GDB
    ```bochs                   the same, and `<bochs> ` one to the Bochs debugger
    ```c file=PATH             (or asm, python, make, …) an excerpt of PATH in this tree
    ```diff apply=yes          a change that is applied to the chapter's own copy of the tree
    ```diff lab=ID             the patch of that lab, as it is in the tree
    ```text why="…"            not run, and why

A session may say `status=N`: its last shell command ends with that exit code, else with 0.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Mapping

from markdown_it import MarkdownIt

SESSIONS = ("console", "gdb", "bochs")


class Kind(Enum):
    SESSION = "session"
    EXCERPT = "excerpt"
    APPLY = "apply"
    LAB = "lab"
    TEXT = "text"


class BlockError(Exception):
    """A block that is none of the kinds; the message names file and line."""


@dataclass(frozen=True)
class Block:
    """One fenced block; `line` is that of its opening fence, counted from 1."""

    path: Path
    line: int
    kind: Kind
    language: str
    lines: tuple[str, ...]
    options: Mapping[str, str] = field(default_factory=dict)

    def at(self, index: int) -> str:
        """FILE:LINE of a line of the body."""
        return f"{self.path}:{self.line + 1 + index}"


def read(path: Path) -> list[Block]:
    """The blocks of a chapter in their order.  Raises BlockError."""
    tokens = MarkdownIt().parse(path.read_text(encoding="utf-8"))
    blocks = []
    for token in tokens:
        if token.type == "code_block":
            line = token.map[0] + 1 if token.map else 0
            raise BlockError(f"{path}:{line}: an indented block: use a fence, and say what it is")
        if token.type == "fence":
            assert token.map is not None
            blocks.append(_block(path, token.map[0] + 1, token.info, token.content))
    return blocks


def _block(path: Path, line: int, info: str, content: str) -> Block:
    words = shlex.split(info)
    language, options = (words[0] if words else ""), {}
    for word in words[1:]:
        key, equals, value = word.partition("=")
        if not equals:
            raise BlockError(f"{path}:{line}: {word!r} is not key=value")
        options[key] = value
    kind = _kind(language, options)
    if kind is None:
        raise BlockError(
            f"{path}:{line}: a block must be a session ({', '.join(SESSIONS)}), an excerpt"
            f" (file=PATH), a diff (apply=yes or lab=ID), or text with why=..."
        )
    return Block(path, line, kind, language, tuple(content.splitlines()), options)


def _kind(language: str, options: Mapping[str, str]) -> Kind | None:
    if language in SESSIONS and options.keys() <= {"status"}:
        return Kind.SESSION
    if language == "diff" and options.get("apply") == "yes":
        return Kind.APPLY
    if language == "diff" and "lab" in options:
        return Kind.LAB
    if language == "text" and options.get("why"):
        return Kind.TEXT
    if language and "file" in options:
        return Kind.EXCERPT
    return None


def replaced(text: str, blocks: Mapping[int, list[str]]) -> str:
    """The chapter's text with new bodies for the blocks whose opening fence is in these lines."""
    lines = text.split("\n")
    for line, body in sorted(blocks.items(), reverse=True):
        fence = lines[line - 1].split("`")[0] + "```"
        end = next(i for i in range(line, len(lines)) if lines[i].startswith(fence))
        lines[line:end] = body
    return "\n".join(lines)
