# SPDX-License-Identifier: BSD-2-Clause
"""Committed files that are made from others: written, or compared."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Callable, Optional

from debug.kernel.machine import ROOT


def main(description: Optional[str], path: Path, make: Callable[[], str]) -> int:
    """Entry point of a generator: write `path`, or with --check exit 1 if it is stale."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--check", action="store_true", help="write nothing, exit 1 if stale")
    options = parser.parse_args()
    text = make()
    if not options.check:
        path.write_text(text, encoding="utf-8")
    elif not path.exists() or path.read_text(encoding="utf-8") != text:
        print(f"{path.relative_to(ROOT)} is stale: make generate", file=sys.stderr)
        return 1
    return 0
