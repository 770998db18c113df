# SPDX-License-Identifier: BSD-2-Clause
"""Which emulator a command line starts, and what to say where it is none."""

from __future__ import annotations

import shlex
import shutil
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Mapping, Protocol, Sequence

from debug.cli.errors import CommandError
from debug.cli.exit_codes import ExitCode
from debug.evidence import Awaited, Evidence, Symbols
from debug.sources.progress import Progress
from debug.sources.watch import Watch

QEMU = ("qemu-system-x86_64", "qemu-system-i386")
_EXAMPLE = "lamppost run -- qemu-system-x86_64 -kernel FILE"
_BUILDERS = ("make", "gmake", "ninja", "just", "meson", "cmake", "cargo")
_WRAPPERS = ("sh", "bash", "dash", "strace", "gdb", "xvfb-run")
_INHERITED = (  # what these set, a child of their child has, too
    *("env", "nice", "ionice", "taskset", "chrt", "numactl", "setarch", "prlimit", "stdbuf"),
    *("nohup", "sudo", "doas", "time"),
)


class Machine(Protocol):
    """What both live sources offer inside their context."""

    @property
    def streams(self) -> Mapping[str, bytes]:
        """Raw console bytes: e9, com1, stdout."""

    @property
    def overruled(self) -> tuple[str, ...]:
        """What the user asked for and does not get, a sentence each."""

    def observe(self) -> Evidence:
        """Let it run to its end and read it out."""

    def progress(self, words: Sequence[Awaited]) -> Progress:
        """Which loops get what they wait for, as the machine runs on for a moment."""

    def dump(self, path: Path) -> str:
        """Write a core of the paused machine; what became of that, in one sentence."""


def machine_for(
    argv: Sequence[str], watch: Watch, symbols: Symbols, log: bool, scratch_disks: bool
) -> AbstractContextManager[Machine]:
    """The source for this emulator, told by the program's name.  Raises CommandError.

    log: QEMU logs exceptions and IPIs; Bochs always does.
    """
    name = Path(argv[0]).name if argv else ""
    if argv and not _is_emulator(name):
        name = _linked(argv[0]) or name
    if name.startswith(QEMU):
        from debug.sources import qemu_live

        return qemu_live.QemuMachine(
            argv,
            qemu_live.Options(
                **watch.plain(), symbols=symbols, log=log, scratch_disks=scratch_disks
            ),
        )
    if _is_emulator(name):
        from debug.sources import bochs_live

        return bochs_live.BochsMachine(argv, bochs_live.Options(**watch.plain(), symbols=symbols))
    raise CommandError(_stranger(name, argv[1:]), ExitCode.USAGE)


def _is_emulator(name: str) -> bool:
    """By the name alone; a version may stand behind it."""
    return name.startswith((*QEMU, "bochs"))


def _linked(program: str) -> str:
    """The name of the emulator that a symbolic link of another name leads to, as `kvm` does; or ""."""
    path = shutil.which(program)
    name = Path(path).resolve().name if path is not None else ""
    return name if _is_emulator(name) else ""


def _stranger(name: str, arguments: Sequence[str]) -> str:
    """What to say of a program that is neither emulator."""
    if name.startswith("qemu-system-"):
        return f"{name} is no x86 machine: expected {QEMU[0]}, {QEMU[1]} or bochs"
    said = f"{name or 'nothing'} is neither QEMU ({QEMU[0]}) nor bochs"
    if name in _BUILDERS:
        return (
            f"{said}: expected the emulator's own command line after --, not what starts it;"
            f" `{name} -n`, or its verbose form, shows it"
        )
    if name in _INHERITED:
        words = [*arguments, QEMU[0]]
        at = next(n for n, word in enumerate(words) if _is_emulator(Path(word).name))
        moved, emulator = shlex.join((name, *words[:at])), words[at]
        return (
            f"{said}, which lamppost has to start itself; what {name} sets is inherited, so put it"
            f" in front: {moved} lamppost run -- {shlex.quote(emulator)} …"
        )
    if name == "timeout":
        return f"{said}: lamppost run --timeout SECONDS ends the machine, and reads it out before"
    if name in _WRAPPERS or name.endswith((".sh", ".py")):
        return (
            f"{said}: expected the emulator's own command line after --; a wrapper would not pass"
            f" on what must be added to it. `sh -x` shows what it starts. As in: {_EXAMPLE}"
        )
    return f"{said}: expected the emulator's own command line after --, as in: {_EXAMPLE}"
