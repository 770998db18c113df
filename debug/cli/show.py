# SPDX-License-Identifier: BSD-2-Clause
"""Printing a diagnosis: the same options and exit codes for every command that makes one."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from debug.cli import annotate
from debug.cli.exit_codes import of_status
from debug.pictures.wanted import add_picture_option

if TYPE_CHECKING:
    from debug.report.diagnosis import Diagnosis


def add_report_options(parser: argparse.ArgumentParser) -> None:
    """--json, --annotations and --picture."""
    parser.add_argument("--json", action="store_true", help="the report as one JSON object")
    annotate.add_option(parser)
    add_picture_option(parser)


def show(diagnosis: Diagnosis, options: argparse.Namespace) -> int:
    """Print the report to stdout; the exit code of its verdict."""
    from debug.report import terminal
    from debug.report.machine import to_json

    if options.json:
        print(to_json(diagnosis))
    else:
        terminal.write(diagnosis, sys.stdout)
    annotate.annotate(diagnosis, options)
    return of_status(diagnosis.status)
