# SPDX-License-Identifier: BSD-2-Clause
"""The report for a person: what happened, why, and what to do; 80 columns.

Plain text has no escape sequence at all; `markup=True` gives the same lines for rich, with guest
text escaped.
"""

from __future__ import annotations

import textwrap
from typing import Callable, Iterable

from debug.explain import stages as stage
from debug.explain.ipis import starts
from debug.explain.model import CpuState, CpuView, Explanation, Status, Step
from debug.explain.reached import furthest
from debug.explain.stages import said
from debug.failures import chapters
from debug.failures.row import Cause, Certainty
from debug.report.diagnosis import Diagnosis
from debug.report.safe import safe

_LABEL = 7  # columns of "why    ", "fix    "
_MAX_CPUS = 16  # CPUs that are listed one by one
_MAX_IPIS = 6  # of the kernel's
_MAX_CAUSES = 3  # causes that are printed in full

Style = Callable[[str, str], str]


def plain(text: str, style: str) -> str:
    """No style."""
    return text


def markup(text: str, style: str) -> str:
    """`text` in a rich style; its own brackets are escaped."""
    shown = text.replace("\\", "\\\\").replace("[", "\\[")
    return f"[{style}]{shown}[/{style}]" if style else shown


WIDTH = 80  # columns, where no terminal has others


def render(diagnosis: Diagnosis, width: int = WIDTH, style: Style = plain) -> str:
    """The whole report, ending with a newline."""
    explanation = diagnosis.explanation
    width = max(width, 40)
    good = explanation.status is Status.HEALTHY
    colour = "bold green" if good else "bold red"
    lines = [style(line, colour) for line in _wrap(explanation.headline, width)]
    lines += _lamps(diagnosis, width, style)
    lines += _chain(explanation.chain, width, style)
    lines += _cpu_list(explanation, width, style)
    lines += _start(diagnosis, width, style)
    lines += _causes(diagnosis.causes, explanation, width, style)
    lines += _notes(explanation, width, style)
    return "\n".join(line.rstrip() for line in lines) + "\n"


def _wrap(text: str, width: int, indent: int = 0, first: int = -1) -> list[str]:
    """Wrapped lines; `indent` columns before each, `first` before the first (-1: the same)."""
    start = indent if first < 0 else first
    return textwrap.wrap(
        safe(text),
        width,
        initial_indent=" " * start,
        subsequent_indent=" " * indent,
        break_long_words=False,
        break_on_hyphens=False,
    ) or [""]


def _lamps(diagnosis: Diagnosis, width: int, style: Style) -> list[str]:
    """The stages of the culprit, the last with a cross unless the CPU arrived."""
    explanation = diagnosis.explanation
    view = explanation.view(explanation.culprit)
    if view is not None and view.reached and not view.stages:
        return _seen(view, width, style)
    if view is None or not view.stages:
        return []
    codes = [f"{code:02x}" for code in view.stages]
    bad = not view.arrived or view.state is CpuState.SHUT_DOWN
    row = " · ".join(codes) + (" ✗" if bad else " ✓")
    shown = textwrap.wrap(row, width - 2, initial_indent="  ", subsequent_indent="  ")
    last = view.stages[-1]
    words = f"last stage {last:02x}: {stage.describe(last, diagnosis.evidence.stage_table)[1]}"
    lines = ["", *(style(line, "cyan") for line in shown)]
    if len(shown) == 1 and len(shown[0]) + 9 + len(words) <= width:
        lines[-1] += style("         " + words, "")
    else:
        lines += [style(line, "") for line in _wrap(words, width, 2)]
    return lines


def _seen(view: CpuView, width: int, style: Style) -> list[str]:
    """The stages that the registers of the culprit prove, though it lights no lamps."""
    bad = not view.arrived or view.state is CpuState.SHUT_DOWN
    row = " · ".join(f"{one.code:02x}" for one in view.reached) + (" ✗" if bad else " ✓")
    shown = textwrap.wrap(row, width - 2, initial_indent="  ", subsequent_indent="  ")
    lines = ["", *(style(line, "cyan") for line in shown)]
    last = furthest(view.reached) or view.reached[-1]
    words = f"seen from outside, as far as stage {last.code:02x}: {said(last)} ({last.how})"
    return lines + [style(line, "") for line in _wrap(words, width, 2)]


def _chain(steps: Iterable[Step], width: int, style: Style) -> list[str]:
    lines: list[str] = []
    for number, step in enumerate(steps, 1):
        if not lines:
            lines += ["", style("  what happened", "bold")]
        lines += _step(number, step, width, style)
    return lines


def _step(number: int, step: Step, width: int, style: Style) -> list[str]:
    head = _wrap(step.headline, width, 7, 0)
    instruction = safe(step.instruction)
    lines = [f"    {number}  {head[0].lstrip()}", *head[1:]]
    if len(lines[0]) > width:
        lines = _wrap(f"{number}  {step.headline}", width, 7, 4)
    if instruction and len(lines) == 1 and len(lines[0]) + len(instruction) + 4 <= width:
        gap = max(width - len(instruction) - len(lines[0]), 4)
        gap = min(gap, max(4, 60 - len(lines[0])))
        lines[0] += " " * gap + instruction
    elif instruction:
        lines += _wrap(f"instruction: {instruction}", width, 10)
    shown = [style(line, "") for line in lines]
    for detail in step.details:
        shown += [style(line, "dim") for line in _wrap(detail, width, 10)]
    return shown


def _cpu_list(explanation: Explanation, width: int, style: Style) -> list[str]:
    """What every CPU does, unless the headline and the chain say all that matters."""
    views = explanation.cpus
    if len(views) < 2 or (explanation.status is Status.TRIPLE_FAULT and explanation.chain):
        return []
    lines = ["", style("  CPUs", "bold")]
    for view in views[:_MAX_CPUS]:
        lines += [style(line, "") for line in _wrap(_cpu(view), width, 9, 4)]
    if len(views) > _MAX_CPUS:
        rest = views[_MAX_CPUS:]
        up = sum(1 for view in rest if view.arrived)
        lines.append(f"    … and {len(rest)} more, {up} of them online")
    return lines


def _cpu(view: CpuView) -> str:
    apic = f" APIC {view.apic_id}" if view.apic_id not in (None, view.index) else ""
    last = f"; last stage {view.last_stage:02x}" if view.last_stage is not None else ""
    far = furthest(view.reached)
    if far is not None and not view.stages:
        last = f"; as far as stage {far.code:02x}: {said(far)}"
    return f"{view.index}{apic}  {view.mode}, {view.doing}{last}"


def _start(diagnosis: Diagnosis, width: int, style: Style) -> list[str]:
    """The start of the APs of a kernel without lamps: what was sent, and what lies where."""
    page, ipis = diagnosis.explanation.trampoline, starts(diagnosis.evidence)
    if page is None or diagnosis.evidence.stages:
        return []
    lines = ["", style("  start of the APs", "bold")]
    for one in ipis[:_MAX_IPIS]:
        lines += [style(line, "") for line in _wrap(one, width, 9, 4)]
    if len(ipis) > _MAX_IPIS:
        lines.append(f"    … and {len(ipis) - _MAX_IPIS} more")
    for sentence in page.sentences():
        lines += [style(line, "") for line in _wrap(sentence, width, 9, 4)]
    return lines


def _causes(
    causes: tuple[Cause, ...], explanation: Explanation, width: int, style: Style
) -> list[str]:
    if not causes:
        if explanation.status is Status.HEALTHY:
            return []
        text = "no cause in the failure table fits; what is above is what can be proven"
        return ["", *_labelled("why", text, width, style)]
    lines: list[str] = []
    strong = [cause for cause in causes if cause.certainty is not Certainty.POSSIBLE]
    named = any(not cause.row.generic for cause in strong)
    shown = (strong if named else list(causes))[:_MAX_CAUSES]
    for cause in shown:
        lines += ["", *_cause(cause, explanation, width, style)]
    rest = [cause.row.id for cause in causes if cause not in shown]
    if rest:
        lines += ["", *_labelled("also", "possible: " + ", ".join(rest[:8]), width, style)]
    return lines


def _cause(cause: Cause, explanation: Explanation, width: int, style: Style) -> list[str]:
    row = cause.row
    colour = {"certain": "bold red", "likely": "bold yellow"}.get(cause.certainty.value, "bold")
    if explanation.status is Status.HEALTHY:
        colour = "bold green"
    other = ""
    if cause.match.cpu is not None and cause.match.cpu != explanation.culprit:
        other = f" on CPU {cause.match.cpu}"
    name = f"{row.id} ({cause.certainty.value}){other}"
    lines = [style("  why".ljust(_LABEL + 2), "bold") + style(name, colour)]
    lines += [style(line, "") for line in _wrap(row.title, width, _LABEL + 2)]
    for line in cause.match.evidence:
        lines += [style(part, "dim") for part in _wrap(line, width, _LABEL + 2)]
    lines += _labelled("fix", row.fix, width, style)
    read = " · ".join(filter(None, (chapters.path(row.chapter), f"lamppost failures {row.id}")))
    return lines + _labelled("read", read, width, style)


def _labelled(label: str, text: str, width: int, style: Style) -> list[str]:
    lines = _wrap(text, width, _LABEL + 2)
    first = style(("  " + label).ljust(_LABEL + 2), "bold")
    return [first + style(lines[0].lstrip(), ""), *(style(line, "") for line in lines[1:])]


def _notes(explanation: Explanation, width: int, style: Style) -> list[str]:
    lines: list[str] = []
    for note in explanation.notes:
        wrapped = _wrap(note, width, _LABEL + 2)
        if not lines:
            label = style("  note".ljust(_LABEL + 2), "bold")
            lines += ["", label + style(wrapped[0].lstrip(), "dim")]
            wrapped = wrapped[1:]
        lines += [style(line, "dim") for line in wrapped]
    return lines
