# SPDX-License-Identifier: BSD-2-Clause
"""The report for a program: one JSON object, described by schema.json beside this file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Optional

from debug.evidence import IpiEvent
from debug.explain.ipis import kernel_starts
from debug.explain.model import CpuView, Milestone, Step, Trampoline
from debug.explain.stages import describe, said
from debug.failures.row import Cause
from debug.report.diagnosis import Diagnosis
from debug.report.safe import safe
from debug.x86.exceptions import vector

SCHEMA_VERSION = 1
"""Raised when a field changes its meaning or goes away; new fields leave it as it is."""

_MAX_STARTS = 512

SCHEMA_PATH = Path(__file__).with_name("schema.json")


def to_object(diagnosis: Diagnosis) -> dict[str, Any]:
    """The report as plain data.  Addresses and error codes are integers."""
    explanation, evidence = diagnosis.explanation, diagnosis.evidence
    return {
        "schema": SCHEMA_VERSION,
        "status": diagnosis.status,
        "headline": safe(explanation.headline),
        "emulator": {
            "name": safe(evidence.emulator),
            "version": safe(evidence.version),
            "accelerator": safe(evidence.accelerator),
        },
        "ending": evidence.ending.value,
        "exit_code": evidence.exit_code,
        "culprit": explanation.culprit,
        "cpus": [_cpu(view) for view in explanation.cpus],
        "chain": [_step(step) for step in explanation.chain],
        "causes": [_cause(cause) for cause in diagnosis.causes],
        "notes": [safe(note) for note in explanation.notes],
        "starts": [_start(ipi) for ipi in kernel_starts(evidence)[:_MAX_STARTS]],
        "trampoline": _trampoline(explanation.trampoline),
    }


def to_json(diagnosis: Diagnosis, indent: Optional[int] = 2) -> str:
    """The report as JSON text, pure ASCII."""
    return json.dumps(to_object(diagnosis), indent=indent)


def bad_input(message: str) -> dict[str, Any]:
    """The object for a file that could not be read as evidence."""
    return {
        "schema": SCHEMA_VERSION,
        "status": "bad-input",
        "headline": safe(message),
        "emulator": {"name": "", "version": "", "accelerator": ""},
        "ending": "unknown",
        "exit_code": None,
        "culprit": None,
        "cpus": [],
        "chain": [],
        "causes": [],
        "notes": [],
        "starts": [],
        "trampoline": None,
    }


def _cpu(view: CpuView) -> dict[str, Any]:
    return {
        "index": view.index,
        "apic_id": view.apic_id,
        "mode": view.mode,
        "state": view.state.value,
        "doing": safe(view.doing),
        "rip": view.rip,
        "where": safe(view.where),
        "stages": list(view.stages),
        "last_stage": view.last_stage,
        "arrived": view.arrived,
        "reached": [_milestone(one) for one in view.reached],
    }


def _milestone(one: Milestone) -> dict[str, Any]:
    return {
        "code": one.code,
        "name": describe(one.code)[0],
        "became": safe(said(one)),
        "how": safe(one.how),
    }


def _start(ipi: IpiEvent) -> dict[str, Any]:
    return {
        "kind": ipi.kind.value,
        "source": ipi.source,
        "destination": ipi.destination,
        "shorthand": ipi.shorthand,
        "vector": ipi.vector,
    }


def _trampoline(page: Optional[Trampoline]) -> Optional[dict[str, Any]]:
    if page is None:
        return None
    return {
        "page": page.page,
        "how": safe(page.how),
        "switches": page.switches,
        "gdt": None if page.gdt is None else {"base": page.gdt[0], "limit": page.gdt[1]},
        "far_jumps": [
            {"at": jump.at, "selector": jump.selector, "target": jump.target}
            for jump in page.far_jumps
        ],
    }


def _step(step: Step) -> dict[str, Any]:
    return {
        "cpu": step.cpu,
        "vector": step.vector,
        "name": vector(step.vector).mnemonic,
        "error_code": step.error_code,
        "rip": step.rip,
        "where": safe(step.where),
        "instruction": safe(step.instruction),
        "explanation": safe(step.headline),
        "details": [safe(line) for line in step.details],
        "observed": step.observed,
    }


def _cause(cause: Cause) -> dict[str, Any]:
    row = cause.row
    return {
        "id": row.id,
        "catalogue": list(row.catalogue),
        "certainty": cause.certainty.value,
        "title": row.title,
        "cpu": cause.match.cpu,
        "evidence": [safe(line) for line in cause.match.evidence],
        "fix": row.fix,
        "chapter": row.chapter,
        "manual": row.manual,
    }
