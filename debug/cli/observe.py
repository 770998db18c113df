# SPDX-License-Identifier: BSD-2-Clause
"""One machine, from its command line to the diagnosis: what `lamppost run` and ours share."""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Callable, Mapping, Optional, Protocol, Sequence

from debug.cli.errors import CommandError
from debug.cli.exit_codes import ExitCode
from debug.evidence import Evidence, Symbols
from debug.report.diagnosis import Diagnosis, diagnose
from debug.sources.elf_symbols import ElfSymbols, SymbolError
from debug.sources.errors import CommandLineError, StartError
from debug.sources.watch import Watch
from debug.stages.gather import stages_of


@dataclass(frozen=True)
class Wishes(Watch):
    """What the user asks of an observation; `symbols` are ELF files with load offsets."""

    symbols: tuple[tuple[Path, int], ...] = ()

    def watch(self) -> dict[str, Any]:
        """What every live source takes."""
        return {field.name: getattr(self, field.name) for field in fields(Watch)}


class Machine(Protocol):
    """What both live sources offer inside their context."""

    @property
    def streams(self) -> Mapping[str, bytes]:
        """Raw console bytes: e9, com1, stdout."""

    def observe(self) -> Evidence:
        """Let it run to its end and read it out."""


def symbols_of(files: Sequence[tuple[Path, int]]) -> ElfSymbols:
    """The symbols; CommandError where a file can't be used."""
    try:
        return ElfSymbols(files)
    except SymbolError as error:
        raise CommandError(str(error)) from error


def observe(
    argv: Sequence[str], wishes: Wishes, look: Optional[Callable[[Diagnosis], None]] = None
) -> Diagnosis:
    """Run the emulator, watch it to its end and explain it.  Raises CommandError.

    `look` sees the diagnosis while all of the machine's memory can still be read.
    """
    symbols = symbols_of(wishes.symbols)
    try:
        with _machine(argv, wishes, symbols) as machine:
            evidence = machine.observe()
            evidence = replace(
                evidence,
                stages=evidence.stages or stages_of(machine.streams, evidence.memory),
                symbols=symbols,
                expected_cpus=wishes.cpus,
                absent_images=symbols.absent(evidence.memory),
            )
            diagnosis = diagnose(evidence)
            if look is not None:
                look(diagnosis)
            return diagnosis
    except (CommandLineError, StartError) as error:
        code = ExitCode.MISSING_TOOL if "not installed" in str(error) else ExitCode.BAD_INPUT
        raise CommandError(str(error), code) from error


def _machine(
    argv: Sequence[str], wishes: Wishes, symbols: Symbols
) -> AbstractContextManager[Machine]:
    """The source for this emulator, told by the program's name."""
    name = Path(argv[0]).name if argv else ""
    if name.startswith("qemu-system-"):
        from debug.sources import qemu_live

        return qemu_live.QemuMachine(
            argv,
            qemu_live.Options(**wishes.watch(), symbols=symbols),
        )
    if name.startswith("bochs"):
        from debug.sources import bochs_live

        return bochs_live.BochsMachine(
            argv,
            bochs_live.Options(**wishes.watch(), symbols=symbols),
        )
    raise CommandError(
        f"{name or 'nothing'} is neither qemu-system-* nor bochs: expected the emulator's own"
        " command line after --, as in: lamppost run -- qemu-system-x86_64 -kernel FILE",
        ExitCode.USAGE,
    )


def echo(data: bytes) -> None:
    """Show console output as it comes, without what a terminal would obey."""
    from debug.stages.console import clean

    sys.stderr.write(clean(data))
    sys.stderr.flush()
