# SPDX-License-Identifier: BSD-2-Clause
"""Which emulator a command line starts, and what to say where it is none."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Mapping, Protocol, Sequence

from debug.cli.errors import CommandError
from debug.cli.exit_codes import ExitCode
from debug.evidence import Evidence, Symbols
from debug.sources.watch import Watch

QEMU = ("qemu-system-x86_64", "qemu-system-i386")
_EXAMPLE = "lamppost run -- qemu-system-x86_64 -kernel FILE"
_BUILDERS = ("make", "gmake", "ninja", "just", "meson", "cmake", "cargo")
_WRAPPERS = ("sh", "bash", "dash", "env", "sudo", "timeout", "nice", "taskset", "strace", "gdb")


class Machine(Protocol):
    """What both live sources offer inside their context."""

    @property
    def streams(self) -> Mapping[str, bytes]:
        """Raw console bytes: e9, com1, stdout."""

    def observe(self) -> Evidence:
        """Let it run to its end and read it out."""

    def dump(self, path: Path) -> str:
        """Write a core of the paused machine; what became of that, in one sentence."""


def machine_for(
    argv: Sequence[str], watch: Watch, symbols: Symbols, log: bool, scratch_disks: bool
) -> AbstractContextManager[Machine]:
    """The source for this emulator, told by the program's name.  Raises CommandError.

    log: QEMU logs exceptions and IPIs; Bochs always does.
    """
    name = Path(argv[0]).name if argv else ""
    if name in QEMU:
        from debug.sources import qemu_live

        return qemu_live.QemuMachine(
            argv,
            qemu_live.Options(
                **watch.plain(), symbols=symbols, log=log, scratch_disks=scratch_disks
            ),
        )
    if name.startswith("bochs"):
        from debug.sources import bochs_live

        return bochs_live.BochsMachine(argv, bochs_live.Options(**watch.plain(), symbols=symbols))
    raise CommandError(_stranger(name), ExitCode.USAGE)


def _stranger(name: str) -> str:
    """What to say of a program that is neither emulator."""
    if name.startswith("qemu-system-"):
        return f"{name} is no x86 machine: expected {QEMU[0]}, {QEMU[1]} or bochs"
    said = f"{name or 'nothing'} is neither QEMU ({QEMU[0]}) nor bochs"
    if name in _BUILDERS:
        return (
            f"{said}: expected the emulator's own command line after --, not what starts it;"
            f" `{name} -n`, or its verbose form, shows it"
        )
    if name in _WRAPPERS or name.endswith((".sh", ".py")):
        return (
            f"{said}: expected the emulator's own command line after --; a wrapper would not pass"
            f" on what must be added to it. `sh -x` shows what it starts. As in: {_EXAMPLE}"
        )
    return f"{said}: expected the emulator's own command line after --, as in: {_EXAMPLE}"
