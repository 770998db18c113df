# SPDX-License-Identifier: BSD-2-Clause
"""Printing a diagnosis: the same options and exit codes for every command that makes one."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from debug.cli import annotate, guess
from debug.cli.exit_codes import of_status
from debug.pictures.wanted import add_picture_option

if TYPE_CHECKING:
    from debug.report.diagnosis import Diagnosis


def add_report_options(parser: argparse.ArgumentParser) -> None:
    """--json, --guess, --annotations and --picture."""
    forms = parser.add_mutually_exclusive_group()
    forms.add_argument("--json", action="store_true", help="the report as one JSON object")
    forms.add_argument(
        "--guess",
        metavar="ROW",
        type=guess.row,
        help="no report: say whether this row of the failure table is the cause",
    )
    annotate.add_option(parser)
    add_picture_option(parser)


def show(diagnosis: Diagnosis, options: argparse.Namespace) -> int:
    """Print the report to stdout, or what is to be said of a guess; the exit code."""
    if options.guess:
        said, code = guess.judge(options.guess, diagnosis)
        print(said)
        return code
    from debug.report import terminal
    from debug.report.machine import to_json

    if options.json:
        print(to_json(diagnosis))
    else:
        terminal.write(diagnosis, sys.stdout)
    annotate.annotate(diagnosis, options)
    return of_status(diagnosis.status)
