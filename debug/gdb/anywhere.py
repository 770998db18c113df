# SPDX-License-Identifier: BSD-2-Clause
"""The `lamp` commands in anybody's GDB session with QEMU: one line in .gdbinit,

    source LAMPPOST/debug/gdb/anywhere.py

Symbols are those of the program that GDB has loaded.  When the machine dies and QEMU keeps it
(`-action reboot=shutdown,shutdown=pause`), the diagnosis is printed and the CPU that died selected.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Optional, Sequence

# GDB runs this file by itself: its package is found from where it lies.
_ROOT = str(Path(__file__).resolve().parents[2])
if _ROOT not in sys.path:
    sys.path.insert(0, _ROOT)

from debug.gdb import commands  # noqa: E402
from debug.gdb.commands.why import rendered  # noqa: E402
from debug.gdb.context import Lamp  # noqa: E402
from debug.gdb.debugger import DebuggerError  # noqa: E402
from debug.gdb.evidence import Gatherer, Life  # noqa: E402
from debug.gdb.places import Places  # noqa: E402
from debug.gdb.seam import Gdb  # noqa: E402
from debug.gdb.snapshot import Snapshot  # noqa: E402
from debug.gdb.stops import DEADLY  # noqa: E402
from debug.gdb.trampoline import SessionSymbols  # noqa: E402
from debug.report.diagnosis import diagnose  # noqa: E402
from debug.sources.elf_symbols import ElfFile, SymbolError  # noqa: E402
from debug.stages.elf import read_sites, read_table  # noqa: E402
from debug.stages.model import StageTableError  # noqa: E402
from debug.stages.table import BUILT_IN  # noqa: E402
from debug.terminal import coloured  # noqa: E402


class Guest:
    """Whatever machine the session is connected to, looked at when a command asks for it."""

    def __init__(self, gdb: Gdb) -> None:
        self._gdb = gdb
        self._program: Optional[str] = None
        self._symbols = SessionSymbols(None, None)
        snapshot = Snapshot(gdb, self._symbols)
        self._life = Life(snapshot, None)
        self.lamp = Lamp(
            gdb,
            snapshot,
            Places(BUILT_IN, ()),
            Gatherer(snapshot, self._life, files=lambda: self._symbols.files).gather,
            coloured(sys.__stdout__),
        )

    def execute(self, name: str, words: Sequence[str]) -> str:
        """One `lamp` command.  Raises DebuggerError."""
        self._follow_program()
        self.lamp.died = self._life.dead()
        return commands.execute(self.lamp, name, words)

    def stopped(self, signal: str) -> None:
        """A stop of any program: only the death of a machine is spoken of."""
        lamp = self.lamp
        lamp.snapshot.clear()
        lamp.interrupted = signal == "SIGINT"
        if signal not in DEADLY or not self._life.dead():
            return
        try:
            self._follow_program()
            diagnosis = diagnose(lamp.gather())
            culprit = lamp.culprit = diagnosis.explanation.culprit
            lamp.debugger.write("\nthe guest has died\n\n" + rendered(diagnosis, lamp.colour))
            if culprit is not None and culprit in lamp.snapshot.cpus():
                lamp.debugger.select(culprit)
        except DebuggerError as error:
            lamp.debugger.write(f"lamp: {error}\n")

    def _follow_program(self) -> None:
        """The symbols and the stage table of the program that GDB has loaded now."""
        path = self._gdb.program()
        if path == self._program:
            return
        self._program, self._symbols.kernel = path, None
        self.lamp.places = Places(BUILT_IN, ())
        if path is None:
            return
        try:
            self._symbols.kernel = ElfFile(path)
            self.lamp.places = Places(read_table(path), read_sites(path))
        except (SymbolError, StageTableError, OSError):
            pass  # no stage table of its own: our codes, and no sites to stop at


def install() -> None:
    """Add the commands to this GDB."""
    gdb = Gdb()
    guest = Guest(gdb)
    gdb.add_commands(
        commands.HELP,
        [(command.name, command.help()) for command in commands.COMMANDS],
        guest.execute,
        lambda name, word: commands.completions(guest.lamp, name, word),
    )
    gdb.on_change(guest.lamp.snapshot.clear)
    gdb.on_stop(guest.stopped)


if __name__ == "__main__":
    install()
