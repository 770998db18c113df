# SPDX-License-Identifier: BSD-2-Clause
"""A chapter's exercise as data, read from its check.toml.

    cpus = 2                    how many CPUs to boot with (4)
    options = "smp=serial"      the kernel's command line ("")
    emulator = "bochs"          where it is booted ("qemu")
    image = "build/x.elf"       another kernel than ours, for QEMU
    bsp = "b0 b1 … c7=2 c9"     the BSP's stages; … stands for any stages, also none, and a
                                stage without = for that stage with any argument
    ap = "10 11 … a6"           those of every AP that lights a lamp
    aps = 1                     how many APs do (cpus - 1)
    chain = "#UD #DF shutdown"  the exceptions of the CPU that dies, in their order

An exercise that needs more than one boot has a table [[boot]] for each; what stands above them
holds for all.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Mapping, Optional

import tomllib

from debug.cli.errors import CommandError
from debug.cli.exit_codes import ExitCode
from tests.tutorial.scratch import TUTORIAL


@dataclass(frozen=True)
class Boot:
    """One boot of the reader's kernel, and what must come of it."""

    cpus: int
    options: str
    bsp: tuple[str, ...]
    ap: tuple[str, ...]
    aps: int
    chain: Optional[tuple[str, ...]]
    emulator: str = "qemu"
    image: str = ""


@dataclass(frozen=True)
class Exercise:
    """What a chapter asks for."""

    chapter: str
    boots: tuple[Boot, ...]


def load(number: str) -> Exercise:
    """The exercise of a chapter, by its number.  Raises CommandError."""
    with_check = sorted(path.parent for path in TUTORIAL.glob("*/check.toml"))
    found = [path for path in with_check if path.name.startswith(f"{number}-")]
    if not found:
        known = ", ".join(path.name[:2] for path in with_check)
        raise CommandError(
            f"check-{number}: no chapter with this number has an exercise to check;"
            f" those that have: {known}",
            ExitCode.USAGE,
        )
    with (found[0] / "check.toml").open("rb") as file:
        return read(found[0].name, tomllib.load(file))


def read(chapter: str, table: Mapping[str, Any]) -> Exercise:
    """The exercise that a check.toml describes."""
    common = {key: value for key, value in table.items() if key != "boot"}
    boots = table.get("boot", [{}])
    return Exercise(chapter, tuple(_boot({**common, **boot}) for boot in boots))


def _boot(table: Mapping[str, Any]) -> Boot:
    cpus = int(table.get("cpus", 4))
    chain = table.get("chain")
    return Boot(
        cpus,
        table.get("options", ""),
        tuple(table.get("bsp", "…").split()),
        tuple(table.get("ap", "…").split()),
        int(table.get("aps", cpus - 1)),
        tuple(chain.split()) if chain is not None else None,
        table.get("emulator", "qemu"),
        table.get("image", ""),
    )
