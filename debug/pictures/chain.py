# SPDX-License-Identifier: BSD-2-Clause
"""The way to the end: the first exception, why it could not be delivered, and what that led to."""

from __future__ import annotations

import textwrap

from debug.explain import stages as stage
from debug.explain.model import CpuState, Explanation, Status, Step
from debug.failures.row import Cause
from debug.pictures.drawing import MARGIN, WIDTH, Drawing
from debug.report.diagnosis import Diagnosis

_INNER = WIDTH - 2 * MARGIN
_SANS, _MONO, _SMALL = 9.0, 7.8, 6.9  # pixels of a character, in the widest of the fonts
_MAX_STEPS, _MAX_LAMPS = 8, 40
_DERIVED = "not in any log: it follows from the architecture"
_ENDS = {
    Status.TRIPLE_FAULT: "shutdown: the machine stops or resets without a word",
    Status.PANIC: "the kernel's own handler reported it",
    Status.HANG: "and again, without end",
}


def draw(diagnosis: Diagnosis) -> str:
    """The picture; a machine that took no exception gets its headline alone."""
    explanation = diagnosis.explanation
    picture = Drawing(explanation.headline, _described(diagnosis))
    y = _headline(picture, explanation, 34)
    y = _lamps(picture, diagnosis, y)
    for number, step in enumerate(explanation.chain[:_MAX_STEPS], 1):
        if number > 1:
            y = _gap(picture, y)
        y = _step(picture, number, step, y)
    if explanation.chain and explanation.status in _ENDS:
        y = _gap(picture, y)
        y = _end(picture, _ENDS[explanation.status], y)
    if diagnosis.causes:
        y = _cause(picture, diagnosis.causes[0], y + 22)
    return picture.svg(y + MARGIN)


def _described(diagnosis: Diagnosis) -> str:
    steps = [f"{n}. {step.headline}" for n, step in enumerate(diagnosis.explanation.chain, 1)]
    cause = [f"Why: {cause.row.title}" for cause in diagnosis.causes[:1]]
    return ". ".join([*steps[:_MAX_STEPS], *cause]) or diagnosis.explanation.headline


def _lines(text: str, width: float, size: float) -> list[str]:
    most = max(int(width / size), 8)
    return textwrap.wrap(text[:2000], most, break_on_hyphens=False)[:6] or [""]


def _headline(picture: Drawing, explanation: Explanation, y: float) -> float:
    for line in _lines(explanation.headline, _INNER, _SANS * 1.12):
        picture.text(MARGIN, y, line, "strong big")
        y += 22
    return y


def _lamps(picture: Drawing, diagnosis: Diagnosis, y: float) -> float:
    """The stages that were lit; the last one of a CPU that did not arrive has a cross behind it."""
    explanation, table = diagnosis.explanation, diagnosis.evidence.stage_table
    view = explanation.view(explanation.culprit)
    if view is None or not view.stages:
        return y
    y += 10
    codes = view.stages[-_MAX_LAMPS:]
    step = min(27.0, (_INNER - 30) / len(codes))
    x = MARGIN + 8.0
    picture.line(x, y, x + step * len(codes), y, "way")
    for code in codes:
        tip = f"{code:02x} {': '.join(stage.describe(code, table))}"
        picture.dot(x, y, 5, f"g{code >> 4:x}", tip)
        picture.text(x, y + 21, f"{code:02x}", "code tiny middle dim")
        x += step
    bad = not view.arrived or view.state is CpuState.SHUT_DOWN
    picture.text(x, y + 5, "✗" if bad else "✓", f"strong middle {'bad' if bad else 'ok'}")
    last = codes[-1]
    picture.text(
        MARGIN, y + 42, f"last stage {last:02x}: {stage.describe(last, table)[1]}", "small dim"
    )
    return y + 60


def _gap(picture: Drawing, y: float) -> float:
    picture.arrow((MARGIN + 21, y), (MARGIN + 21, y + 24))
    return y + 24


def _step(picture: Drawing, number: int, step: Step, y: float) -> float:
    left, width = MARGIN + 48, _INNER - 62
    head = _lines(step.headline, width, _SANS)
    code = _lines(step.instruction, width, _MONO) if step.instruction else []
    said = [*step.details] if step.observed else [*step.details, _DERIVED]
    details = [line for detail in said for line in _lines(detail, width, _SMALL)]
    height = 20 + 19 * len(head) + 18 * len(code) + 16 * len(details)
    picture.box(MARGIN, y, _INNER, height, "fault" if number == 1 else "box")
    picture.text(MARGIN + 21, y + 25, str(number), "strong big middle")
    at = y + 24
    for line in head:
        picture.text(left, at, line, "strong")
        at += 19
    for line in code:
        picture.text(left, at, line, "code")
        at += 18
    for line in details:
        picture.text(left, at, line, "small dim")
        at += 16
    return y + height


def _end(picture: Drawing, text: str, y: float) -> float:
    picture.box(MARGIN, y, _INNER, 38, "fault")
    picture.text(MARGIN + 21, y + 24, "✗", "strong big middle bad")
    picture.text(MARGIN + 48, y + 24, text, "strong")
    return y + 38


def _cause(picture: Drawing, cause: Cause, y: float) -> float:
    picture.text(MARGIN, y, "why", "small dim")
    picture.text(MARGIN + 48, y, f"{cause.row.id} ({cause.certainty.value})", "strong")
    y += 20
    for line in _lines(cause.row.title, _INNER - 62, _SANS):
        picture.text(MARGIN + 48, y, line)
        y += 19
    return y - 8
