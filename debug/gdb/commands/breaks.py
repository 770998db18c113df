# SPDX-License-Identifier: BSD-2-Clause
"""`lamp break STAGE`: stop a CPU right before it lights a stage."""

from __future__ import annotations

import argparse
from typing import Sequence

from debug.gdb.context import Lamp
from debug.gdb.debugger import DebuggerError
from debug.gdb.places import NoSuchStage


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("stage", nargs="?", metavar="STAGE", help="name or hexadecimal code")
    parser.add_argument("--list", action="store_true", help="name the stages that have a site")


def run(lamp: Lamp, options: argparse.Namespace) -> str:
    places = lamp.places
    if options.list:
        stages = [stage for stage in places.table.stages if places.sites_of(stage)]
        return "".join(f"{s.code:02x}  {s.name:<18} {s.mode:<9} {s.became}\n" for s in stages)
    if options.stage is None:
        raise DebuggerError("lamp break: which stage? `lamp break --list` names them")
    try:
        stage = places.stage(options.stage)
    except NoSuchStage as error:
        raise DebuggerError(str(error)) from error
    sites = places.sites_of(stage)
    if not sites:
        raise DebuggerError(
            f"stage {stage.code:02x} {stage.name} has no site in {places.table.origin}:"
            " nothing in this kernel emits it"
        )
    lines = []
    for site in sites:
        address = places.address(site)
        lamp.debugger.hardware_break(address)
        symbol = lamp.snapshot.symbols.lookup(address)
        where = f", {symbol}" if symbol is not None else ""
        lines.append(f"stage {stage.code:02x} {stage.name} ({site.mode}) at {address:#x}{where}\n")
    return "".join(lines)


def complete(lamp: Lamp, word: str) -> Sequence[str]:
    """Stage names that begin with `word`, in any case."""
    names = (stage.name for stage in lamp.places.table.stages)
    return [name for name in names if name.startswith(word.upper())]
