# SPDX-License-Identifier: BSD-2-Clause
"""`--annotations`: the verdict where a CI system or an editor looks for errors."""

from __future__ import annotations

import argparse
import os
import secrets
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Iterator

if TYPE_CHECKING:
    from debug.report.diagnosis import Diagnosis

NAMES = ("gcc", "github")  # of debug.report.annotations.STYLES, which is loaded when it is needed


def add_option(parser: argparse.ArgumentParser) -> None:
    """--annotations."""
    parser.add_argument(
        "--annotations",
        choices=NAMES,
        help="name the source line, too: for GitHub Actions, or as gcc does, for editors",
    )


def annotate(diagnosis: Diagnosis, options: argparse.Namespace) -> None:
    """Print the annotation: after the report, beside it where that is JSON."""
    if options.annotations:
        from debug.report.annotations import STYLES

        root = os.environ.get("GITHUB_WORKSPACE") or os.getcwd()
        stream = sys.stderr if options.json else sys.stdout
        stream.write(STYLES[options.annotations](diagnosis, root))
        stream.flush()


@contextmanager
def guest_output(options: argparse.Namespace) -> Iterator[None]:
    """While the guest prints: a CI system must not take its text for commands."""
    if options.annotations != "github":
        yield
        return
    token = secrets.token_hex(16)
    print(f"::stop-commands::{token}", file=sys.stderr, flush=True)
    try:
        yield
    finally:
        print(f"\n::{token}::", file=sys.stderr, flush=True)
