# SPDX-License-Identifier: BSD-2-Clause
"""One lab as data, read from its directory."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Mapping, Optional

import tomllib

from debug.cli.errors import CommandError
from debug.kernel.machine import ROOT

LABS = ROOT / "tests" / "labs"
EMULATORS = ("qemu", "bochs")
CERTAINTIES = ("certain", "likely", "possible")


class LabError(CommandError):
    """A lab that can't be read or built; the message says why."""


@dataclass(frozen=True)
class Expectation:
    """What must be said of the lab on one emulator.

    `others` are statuses that are right as well: where the bug is a race, what becomes of the
    machine differs, and not its cause.
    `causes` are row ids any of which is right as the first verdict: more than one where no
    evidence can separate them, none where the emulator hides the defect (status "healthy"), and
    then `reason` says why.
    """

    status: str
    causes: tuple[str, ...] = ()
    certainty: str = "likely"  # the least that is good enough
    reason: str = ""
    others: tuple[str, ...] = ()
    newer: Optional["Expectation"] = None  # what a newer emulator, which behaves otherwise, shows


SETTLES = 3.0  # seconds without output after the CPUs were counted, and the machine is done


@dataclass(frozen=True)
class Lab:
    """A bug in the kernel, or a machine option that breaks it."""

    id: str
    title: str
    hint: str  # for `make lab LAB=random`: the symptom, not the cause
    expect: Mapping[str, Expectation]
    cpus: int = 4
    options: str = ""  # the kernel command line
    qemu: tuple[str, ...] = ()  # more arguments for QEMU
    bochs: tuple[str, ...] = ()
    timeout: float = 30.0
    settles: float = SETTLES
    core: tuple[str, ...] = ()  # emulators that make test runs it on; make labs runs all

    @property
    def directory(self) -> Path:
        return LABS / self.id

    @property
    def report(self) -> Path:
        """What was last said of it on QEMU: `make reports` writes it, the failure table shows it."""
        return self.directory / "report.txt"

    @property
    def patch(self) -> Optional[Path]:
        """The patch; None for a lab that is a machine option alone."""
        path = self.directory / "break.patch"
        return path if path.exists() else None


def _expectation(table: Mapping[str, Any]) -> Expectation:
    cause = table.get("cause", ())
    causes = (cause,) if isinstance(cause, str) else tuple(cause)
    return Expectation(
        table["status"],
        causes,
        table.get("certainty", "likely"),
        table.get("reason", ""),
        tuple(table.get("or-status", ())),
        _expectation(table["newer"]) if "newer" in table else None,
    )


def load(lab_id: str) -> Lab:
    """The lab with this id.  Raises LabError."""
    path = LABS / lab_id / "lab.toml"
    if "/" in lab_id or not path.is_file():
        known = textwrap.indent(
            textwrap.fill(", ".join(ids()), 76, break_on_hyphens=False, break_long_words=False),
            "  ",
        )
        what = f"no lab {lab_id!r}" if lab_id else "no lab was named"
        raise LabError(f"{what}: expected LAB= with one of\n{known}")
    try:
        table = tomllib.loads(path.read_text())
        return Lab(
            id=lab_id,
            title=table["title"],
            hint=table["hint"],
            expect={name: _expectation(table[name]) for name in EMULATORS if name in table},
            cpus=table.get("cpus", 4),
            options=table.get("options", ""),
            qemu=tuple(table.get("qemu-arguments", ())),
            bochs=tuple(table.get("bochs-arguments", ())),
            timeout=table.get("timeout", 30.0),
            settles=table.get("settles", SETTLES),
            core=EMULATORS if table.get("core") is True else tuple(table.get("core") or ()),
        )
    except (tomllib.TOMLDecodeError, KeyError, TypeError) as error:
        raise LabError(f"{path}: {error!r}") from error


def ids() -> tuple[str, ...]:
    """Every lab, by name."""
    return tuple(sorted(path.parent.name for path in LABS.glob("*/lab.toml")))
