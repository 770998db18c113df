# SPDX-License-Identifier: BSD-2-Clause
"""Colours only where they are shown and wanted: in a report and in a timeline alike."""

from __future__ import annotations

import io
from typing import Optional

import pytest

from debug.report import terminal as report
from debug.report.diagnosis import diagnose
from debug.stages.timeline import console_for
from debug.terminal import coloured
from tests.python.failures.row_cases import push_fault
from tests.python.streams import Terminal


@pytest.mark.parametrize(
    ("term", "no_color", "colours"),
    [
        ("xterm-256color", None, True),
        ("xterm-256color", "1", False),
        ("dumb", None, False),
        (None, None, False),
    ],
)
def test_what_a_terminal_gets(
    monkeypatch: pytest.MonkeyPatch, term: Optional[str], no_color: Optional[str], colours: bool
) -> None:
    for name, value in (("TERM", term), ("NO_COLOR", no_color)):
        if value is None:
            monkeypatch.delenv(name, raising=False)
        else:
            monkeypatch.setenv(name, value)
    assert coloured(Terminal()) is colours
    shown, drawn = Terminal(), Terminal()
    report.write(diagnose(push_fault(0).evidence()), shown)
    console_for(drawn).print("b0", style="bold blue")
    assert [("\x1b" in stream.getvalue()) for stream in (shown, drawn)] == [colours, colours]


def test_a_pipe_gets_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    assert not coloured(io.StringIO()) and not coloured(None)
