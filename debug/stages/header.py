# SPDX-License-Identifier: BSD-2-Clause
"""Reads the stage table's source, the X-macro file trampoline/stages.h.

The file holds comments and STAGE(code, NAME, mode, "became", "needs") entries, nothing else.
"""

from __future__ import annotations

import re
from typing import Iterator, NamedTuple, NoReturn

from debug.stages.model import GROUPS, MODES, Stage, StageTable, StageTableError

_TOKEN = re.compile(
    r"(?P<space>\s+|//[^\n]*|/\*.*?\*/)"
    r'|(?P<string>"(?:[^"\\\n]|\\["\\])*")'
    r"|(?P<number>0[xX][0-9a-fA-F]+|[0-9]+)"
    r"|(?P<word>[A-Za-z_][A-Za-z0-9_]*)"
    r"|(?P<mark>[(),])",
    re.DOTALL,
)
_NAME = re.compile(r"[A-Z][A-Z0-9_]*")

# The modes that each group's code can run in; groups that are not here run in any.
_GROUP_MODES = {
    0x1: ("real16", "prot16"),
    0x3: ("prot32", "compat32"),
    0x6: ("long64",),
    0xA: ("long64",),
}


class _Token(NamedTuple):
    kind: str
    text: str
    line: int


class _Reader:
    """A cursor over the tokens; every complaint names file and line."""

    def __init__(self, text: str, path: str) -> None:
        self.path = path
        self.tokens = list(self._tokens(text))
        self.at = 0

    def _tokens(self, text: str) -> Iterator[_Token]:
        at, line = 0, 1
        while at < len(text):
            match = _TOKEN.match(text, at)
            if match is None:
                what = text[at : at + 20].split("\n")[0]
                if what.startswith("/*"):
                    self.fail(line, "this comment has no end")
                if what.startswith('"'):
                    self.fail(line, "this string has no end on its line")
                self.fail(line, f"unexpected {what!r}: only comments and STAGE(...) belong here")
            if match.lastgroup != "space":
                yield _Token(str(match.lastgroup), match.group(), line)
            line += match.group().count("\n")
            at = match.end()
        yield _Token("end", "the end of the file", line)

    def fail(self, line: int, message: str) -> NoReturn:
        raise StageTableError(f"{self.path}:{line}: {message}")

    @property
    def next(self) -> _Token:
        return self.tokens[self.at]

    def take(self, kind: str, what: str, text: str = "") -> _Token:
        """The next token, which must be of this kind (and text)."""
        token = self.next
        if token.kind != kind or (text and token.text != text):
            self.fail(token.line, f"expected {what}, found {token.text}")
        self.at += 1
        return token

    def comma(self) -> None:
        self.take("mark", "a comma", ",")

    def sentence(self, what: str) -> str:
        """One or more adjacent string literals."""
        parts = [self.take("string", f"{what} in quotes")]
        while self.next.kind == "string":
            parts.append(self.take("string", what))
        text = "".join(re.sub(r"\\(.)", r"\1", part.text[1:-1]) for part in parts)
        if not text.strip():
            self.fail(parts[0].line, f"{what} is empty")
        bad = next((c for c in text if not " " <= c <= "~"), None)
        if bad is not None:
            self.fail(parts[0].line, f"{what} holds {bad!a}: printable ASCII only")
        return text


def parse_header(text: str, path: str) -> StageTable:
    """The table in the text of stages.h; `path` is named in errors.

    Raises StageTableError with `path:line:` for anything that is not an entry, for an unknown
    mode, a reserved code, a code or name that comes twice and a mode that its group can't have.
    """
    reader = _Reader(text, path)
    stages: list[Stage] = []
    lines: dict[object, int] = {}
    while reader.next.kind != "end":
        start = reader.take("word", "STAGE", "STAGE")
        stage = _entry(reader, start.line)
        for key, what in ((stage.code, f"code {stage.code:#04x}"), (stage.name, stage.name)):
            if key in lines:
                reader.fail(start.line, f"{what} is already taken by line {lines[key]}")
            lines[key] = start.line
        stages.append(stage)
    if not stages:
        reader.fail(1, "no STAGE(...) entry in this file")
    return StageTable(tuple(stages), path)


def _entry(reader: _Reader, line: int) -> Stage:
    reader.take("mark", "( after STAGE", "(")
    code = int(reader.take("number", "a code such as 0x10").text, 0)
    reader.comma()
    name = reader.take("word", "a name").text
    reader.comma()
    mode = reader.take("word", "a mode").text
    reader.comma()
    became = reader.sentence("the sentence for what has become true")
    reader.comma()
    needs = reader.sentence("the sentence for what is needed next")
    reader.take("mark", ") after the second sentence", ")")

    if not 0 <= code <= 0xFF or code >> 4 not in GROUPS:
        digits = " ".join(f"{digit:x}x" for digit in GROUPS)
        reader.fail(line, f"code {code:#04x} is in no group: expected one of {digits}")
    if not _NAME.fullmatch(name):
        reader.fail(line, f"name {name}: expected capitals, digits and underscores")
    if mode not in MODES:
        reader.fail(line, f"mode {mode} is not one of {', '.join(MODES)}")
    allowed = _GROUP_MODES.get(code >> 4, tuple(MODES))
    if mode not in allowed:
        reader.fail(line, f"a stage {code >> 4:x}x can't run in {mode}, only in {allowed}")
    return Stage(code, name, mode, became, needs)
