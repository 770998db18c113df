# SPDX-License-Identifier: BSD-2-Clause
"""`lamppost attach TARGET`: what the machine behind a running GDB stub does, and what is wrong."""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import Optional

from debug.cli.errors import CommandError
from debug.cli.exit_codes import ExitCode
from debug.cli.observe import symbols_of
from debug.cli.run import cpu_count, seconds, symbol_file
from debug.cli.show import add_report_options, show
from debug.cli.symbol_check import compared
from debug.explain.context import Machine
from debug.explain.watching import awaited
from debug.pictures.easel import Easel
from debug.report.diagnosis import Diagnosis, diagnose
from debug.sources.elf_symbols import ElfSymbols
from debug.sources.errors import CommandLineError, MissingProgram, StartError
from debug.sources.gdb_remote import Remote
from debug.sources.progress import Progress
from debug.stages.elf import own_table
from debug.stages.gather import stages_of


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "target",
        metavar="TARGET",
        help="HOST:PORT, :PORT or a socket's path, as GDB's `target remote` takes it",
    )
    parser.add_argument(
        "--symbols",
        metavar="ELF[@OFFSET]",
        type=symbol_file,
        action="append",
        default=[],
        help="symbols of the guest, at a load offset; may be repeated",
    )
    parser.add_argument(
        "--cpus", type=cpu_count, metavar="N", help="how many CPUs must have come up"
    )
    parser.add_argument(
        "--timeout",
        type=seconds,
        default=20.0,
        metavar="SECONDS",
        help="for one answer of the stub",
    )
    add_report_options(parser)


def run(options: argparse.Namespace) -> int:
    """Exit code: the verdict's."""
    symbols = symbols_of(tuple(options.symbols))
    try:
        diagnosis, progress = _look(options, symbols, None)
        if progress is not None:  # CPUs in loops: do they wait in vain?
            diagnosis = _again(options, symbols, progress) or diagnosis
    except CommandLineError as error:
        raise CommandError(str(error), ExitCode.USAGE) from error
    except StartError as error:
        code = ExitCode.MISSING_TOOL if isinstance(error, MissingProgram) else ExitCode.BAD_INPUT
        raise CommandError(str(error), code) from error
    return show(diagnosis, options)


def _again(
    options: argparse.Namespace, symbols: ElfSymbols, before: Progress
) -> Optional[Diagnosis]:
    """What a later look tells; None where the stub has gone meanwhile."""
    try:
        return _look(options, symbols, before)[0]
    except StartError:
        return None


def _look(
    options: argparse.Namespace, symbols: ElfSymbols, before: Optional[Progress]
) -> tuple[Diagnosis, Optional[Progress]]:
    """One look at the machine, and what a later one should see of it, as it runs on.

    `before`: the same of an earlier look.
    """
    with Remote(options.target, options.timeout, symbols) as machine:
        evidence = machine.observe()
        evidence = replace(
            compared(evidence, symbols),
            stages=stages_of({}, evidence.memory),
            stage_table=own_table(path for path, _ in options.symbols),
            expected_cpus=options.cpus,
        )
        if before is not None:
            shown = {cpu.index: cpu.registers for cpu in evidence.cpus}
            before.look(shown, evidence.memory.read)
            evidence = replace(evidence, cpus=before.applied(evidence.cpus))
        diagnosis = diagnose(evidence)
        words = awaited(Machine(evidence), diagnosis.explanation)
        if before is None and words and machine.runs_on:
            return diagnosis, Progress(words, evidence.memory.read)
        Easel(options.picture).paint(diagnosis)
        return diagnosis, None
