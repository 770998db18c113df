# SPDX-License-Identifier: BSD-2-Clause
"""`--annotations`: the verdict where a CI system or an editor looks for errors."""

from __future__ import annotations

import argparse
import os
import secrets
import sys
from contextlib import contextmanager
from typing import Iterator

from debug.report.annotations import STYLES
from debug.report.diagnosis import Diagnosis


def add_option(parser: argparse.ArgumentParser) -> None:
    """--annotations."""
    parser.add_argument(
        "--annotations",
        choices=sorted(STYLES),
        help="name the source line, too: for GitHub Actions, or as gcc does, for editors",
    )


def annotate(diagnosis: Diagnosis, options: argparse.Namespace) -> None:
    """Print the annotation: after the report, beside it where that is JSON."""
    if options.annotations:
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
