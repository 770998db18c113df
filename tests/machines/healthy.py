# SPDX-License-Identifier: BSD-2-Clause
"""Healthy machines: images on two firmwares with 1 to 8 CPUs, of which so many come up."""

from __future__ import annotations

from dataclasses import dataclass

from debug.cli.observe import Wishes, observe
from debug.failures.row import Certainty
from debug.report.diagnosis import Diagnosis
from tests.machines.images import IMAGES

LIMIT = 300.0  # seconds
SILENT_LIMIT = 25.0  # what says nothing is watched for so long


@dataclass(frozen=True)
class Boot:
    """One boot.  `up`: how many CPUs the guest starts; None: all."""

    image: str
    cpus: int
    up: int | None = None

    @property
    def id(self) -> str:
        return f"{self.image}-{self.cpus}"

    @property
    def expected(self) -> int:
        return self.cpus if self.up is None else self.up


def boots() -> list[Boot]:
    """All of them."""
    found = []
    for cpus in (1, 2, 4, 8):
        for image in ("memtest-x64", "linux", "vmlinux", "xen"):
            found.append(Boot(image, cpus))
        for image in ("memtest-efi", "linux-efi", "xen-efi"):
            found.append(Boot(image, cpus))
    # These start no other CPU, however many there are.
    alone = ("ipxe", "ipxe-efi", "grub", "u-boot")
    return found + [Boot(image, cpus, up=1) for image in alone for cpus in (1, 4)]


def run(boot: Boot) -> Diagnosis:
    """What is said of the machine when it says that it is up."""
    image = IMAGES[boot.image]
    command = image.arguments(image.made(), boot.cpus)
    limit = LIMIT if image.until else SILENT_LIMIT
    return observe(command, Wishes(timeout=limit, cpus=boot.expected, until=image.until))


def wrong(boot: Boot, diagnosis: Diagnosis) -> str:
    """What is wrong with what was said; "" if nothing."""
    return alarm(diagnosis, boot.expected)


def alarm(diagnosis: Diagnosis, cpus: int) -> str:
    """What is wrong with what was said of a healthy machine with so many CPUs; "" if nothing."""
    if diagnosis.status != "healthy":
        return f"status {diagnosis.status}"
    firm = [c.row.id for c in diagnosis.causes if c.certainty is not Certainty.POSSIBLE]
    if firm:
        return f"called {', '.join(firm)}"
    up = sum(1 for view in diagnosis.explanation.cpus if view.arrived is not False)
    return "" if up >= cpus else f"{up} of {cpus} CPUs are up"
