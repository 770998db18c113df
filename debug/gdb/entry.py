# SPDX-License-Identifier: BSD-2-Clause
"""The beginning of a session inside GDB: connect, load symbols, set breakpoints, add commands.

The launcher runs  python from debug.gdb.entry import start; start("CONFIG")  in its GDB.
"""

from __future__ import annotations

import socket
from typing import Optional

from debug.gdb import commands, going_on
from debug.gdb.config import Config, load
from debug.gdb.context import Lamp
from debug.gdb.debugger import DebuggerError
from debug.gdb.evidence import Gatherer, Life
from debug.gdb.guest_console import GuestConsole
from debug.gdb.places import Places
from debug.gdb.seam import Gdb, quit_gdb
from debug.gdb.snapshot import Snapshot
from debug.gdb.stops import Stops
from debug.gdb.trampoline import SessionSymbols, Trampoline
from debug.sources.elf_symbols import ElfFile, SymbolError
from debug.sources.qemu_output import Output
from debug.sources.qmp import QmpClient
from debug.stages.elf import read_sites, read_table
from debug.stages.model import StageTableError
from debug.stages.table import BUILT_IN

ENTRY_IN_C = "ap_entry"


def start(path: str) -> None:
    """Begin the session that the file at `path` describes; a failure ends GDB with code 1."""
    try:
        config = load(path)
        qmp = _qmp(config)
        _start(Gdb(qmp), qmp, config)
    except (DebuggerError, SymbolError, OSError, ValueError) as error:
        Gdb().write(f"lamp: {error}\n")
        quit_gdb(1)


def _start(gdb: Gdb, qmp: Optional[QmpClient], config: Config) -> None:
    gdb.connect(config.kernel, config.offset, config.socket)
    problems: list[str] = []
    symbols = SessionSymbols(ElfFile(config.kernel, config.offset), None)
    elf = config.trampoline
    if elf is not None:
        symbols.trampoline = ElfFile(elf, config.base)
    snapshot = Snapshot(gdb, symbols)
    life = Life(snapshot, qmp)
    output = Output(config.launch, private=True)
    gatherer = Gatherer(snapshot, life, output, config.version, lambda: symbols.files)
    places = _places(config, problems)
    lamp = Lamp(gdb, snapshot, places, gatherer.gather, config.colour)
    trampoline = Trampoline(lamp, symbols, lambda base: ElfFile(elf or "", base), elf)
    going = going_on.GoingOn(gdb, snapshot)
    console = GuestConsole(config.launch.e9_file or config.launch.com1_file)
    stops = Stops(lamp, going, life, console, trampoline)

    gdb.add_commands(
        commands.HELP,
        [(command.name, command.help()) for command in commands.COMMANDS],
        lambda name, words: commands.execute(lamp, name, words),
        lambda name, word: commands.completions(lamp, name, word),
    )
    gdb.on_change(snapshot.clear)
    gdb.on_stop(stops.stopped)
    gdb.on_exit(stops.exited)
    gdb.before_going_on(
        (*going_on.STEPPING, *going_on.RUNNING), lambda command: going.before(command, lamp.died)
    )

    problems += trampoline.place()
    trampoline.follow()
    entry = symbols.kernel.address(ENTRY_IN_C) if symbols.kernel is not None else None
    if entry is not None:
        gdb.hardware_break(entry)
    else:
        problems.append(f"{config.kernel} has no symbol {ENTRY_IN_C}: no breakpoint there")
    for problem in problems:
        gdb.write(f"note: {problem}\n")
    gdb.write(f"the machine stands at its reset vector: `continue` starts it, {LAMP}\n")


LAMP = "`help lamp` lists what else there is"


def _places(config: Config, problems: list[str]) -> Places:
    """The stage table and the sites of the kernel; the built-in table where it has none."""
    try:
        sites = tuple(site.moved(config.offset) for site in read_sites(config.kernel))
        return Places(read_table(config.kernel), sites, config.base)
    except StageTableError as error:
        problems.append(str(error))
        return Places(BUILT_IN, (), config.base)


def _qmp(config: Config) -> Optional[QmpClient]:
    if config.qmp_fd < 0:
        return None
    return QmpClient(socket.socket(fileno=config.qmp_fd))
