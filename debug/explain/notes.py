# SPDX-License-Identifier: BSD-2-Clause
"""What a report says beside its facts: doubts, what the emulator let pass, what was not seen."""

from __future__ import annotations

from debug.evidence import Ending
from debug.explain import alive, arrival, uefi_report
from debug.explain.context import Machine
from debug.explain.death import Death
from debug.explain.end import End
from debug.explain.findings import Disagreement, Laxness, PortPolled
from debug.explain.findings.handlers import ProgramLoops
from debug.explain.model import CpuState, CpuView, Finding, Status

_WORDS = 6  # lines of an emulator that ended by itself


def of(
    machine: Machine,
    views: tuple[CpuView, ...],
    death: Death,
    status: Status,
    end: End,
    findings: tuple[Finding, ...],
) -> tuple[str, ...]:
    """All of them, each once."""
    evidence = machine.evidence
    ended = evidence.ending is Ending.EMULATOR_DIED
    return tuple(
        dict.fromkeys(
            (
                *end.notes,
                *(f.sentence for f in findings if isinstance(f, (Laxness, Disagreement))),
                *(f.note for f in findings if isinstance(f, PortPolled) and f.input),
                *(line for f in findings if isinstance(f, ProgramLoops) for line in f.sentences()),
                *_parked(machine, views),
                *alive.notes(machine, views, status),
                *filter(None, (uefi_report.note(evidence.console),)),
                *(evidence.messages[1:_WORDS] if ended else ()),
                *arrival.uncounted(machine),
                *evidence.limits,
                *death.notes,
            )
        )
    )


def _parked(machine: Machine, views: tuple[CpuView, ...]) -> list[str]:
    """What is said of APs that halt for good in a kernel that does not say why."""
    found = [v for v in views if v.state is CpuState.PARKED and not machine.traced]
    if not found:
        return []
    names = ", ".join(str(view.index) for view in found[:8])
    return [
        f"CPU {names}: halted with interrupts off at {found[0].where} while the BSP is idle, and not in"
        " a handler: parked on purpose, as it seems"
    ]
