# SPDX-License-Identifier: BSD-2-Clause
"""`lamppost attach TARGET`: what the machine behind a running GDB stub does, and what is wrong."""

from __future__ import annotations

import argparse
from dataclasses import replace

from debug.cli.errors import CommandError
from debug.cli.exit_codes import ExitCode
from debug.cli.observe import symbols_of
from debug.cli.run import cpu_count, seconds, symbol_file
from debug.cli.show import add_report_options, show
from debug.cli.symbol_check import compared
from debug.pictures.easel import Easel
from debug.report.diagnosis import diagnose
from debug.sources.errors import CommandLineError, MissingProgram, StartError
from debug.sources.gdb_remote import Remote
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
        with Remote(options.target, options.timeout, symbols) as machine:
            evidence = machine.observe()
            evidence = replace(
                compared(evidence, symbols),
                stages=stages_of({}, evidence.memory),
                stage_table=own_table(path for path, _ in options.symbols),
                expected_cpus=options.cpus,
            )
            diagnosis = diagnose(evidence)
            Easel(options.picture).paint(diagnosis)
    except CommandLineError as error:
        raise CommandError(str(error), ExitCode.USAGE) from error
    except StartError as error:
        lacking = isinstance(error, MissingProgram)
        code = ExitCode.MISSING_TOOL if lacking else ExitCode.BAD_INPUT
        raise CommandError(str(error), code) from error
    return show(diagnosis, options)
