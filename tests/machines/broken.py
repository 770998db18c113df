# SPDX-License-Identifier: BSD-2-Clause
"""Broken machines: a row of broken.tsv, its patched image, and what must be said of it."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from debug.cli.observe import Wishes, observe
from debug.report.diagnosis import Diagnosis
from tests.machines.images import IMAGES
from tests.machines.packages import WHERE
from tests.machines.patch import patched
from tests.tables import read_table

DEATH_LIMIT = 120.0  # seconds: how long a death may take to come on a busy host
HANG_LIMIT = 25.0  # a machine that hangs is watched for so long, whatever it does


class Row(NamedTuple):
    id: str
    image: str
    cpus: str
    cpu: str
    status: str
    causes: str
    what: str
    find: str
    put: str

    @property
    def dies(self) -> bool:
        """It ends by itself, and nobody has to wait for its time to be up."""
        return self.status == "triple-fault"


def rows() -> list[Row]:
    """The matrix."""
    return [Row(**row) for row in read_table(Path(__file__).with_name("broken.tsv"))]


def build(row: Row) -> Path:
    """The image with the row's bug.  Raises PatchError and MachineError."""
    source = IMAGES[row.image].made()
    path = WHERE / f"{row.id}.image"
    path.write_bytes(patched(source.read_bytes(), row.find, row.put))
    return path


def run(row: Row) -> Diagnosis:
    """What is said of the row's machine."""
    image = build(row)
    try:
        command = IMAGES[row.image].arguments(image, int(row.cpus))
        limit = DEATH_LIMIT if row.dies else HANG_LIMIT
        return observe(command, Wishes(timeout=limit, cpus=int(row.cpus)))
    finally:
        image.unlink()


def wrong(row: Row, diagnosis: Diagnosis) -> str:
    """What is wrong with what was said; "" if nothing."""
    if diagnosis.status not in row.status.split(","):
        return f"status {diagnosis.status}, not {row.status}"
    if not diagnosis.causes:
        return "no cause"
    first = diagnosis.causes[0]
    if first.row.id not in row.causes.split(","):
        return f"{first.row.id} ({first.certainty.value}), not {row.causes}"
    blamed = first.match.cpu if first.match.cpu is not None else diagnosis.explanation.culprit
    return "" if str(blamed) in row.cpu.split(",") else f"CPU {blamed} is blamed, not CPU {row.cpu}"
