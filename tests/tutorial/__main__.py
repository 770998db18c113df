# SPDX-License-Identifier: BSD-2-Clause
"""`make tutorial-update`: execute the chapters and write what came into them, for review."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from tests.tutorial import host
from tests.tutorial.chapter import chapters, execute, rewrite


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="make tutorial-update",
        description="Execute the chapters and rewrite the output that they show.",
    )
    parser.add_argument("chapter", nargs="*", help="numbers or names; without any: all")
    chosen = parser.parse_args().chapter
    paths = [
        p for p in chapters() if not chosen or any(p.parent.name.startswith(c) for c in chosen)
    ]
    if not paths:
        print("no such chapter", file=sys.stderr)
        return 2
    for reason in host.reasons():
        print(f"note: {reason}")
    left = 0
    for path in paths:
        with tempfile.TemporaryDirectory(prefix="lamppost-tutorial-") as directory:
            outcome = execute(path, Path(directory))
        changed = rewrite(path, outcome)
        print(f"{path.parent.name}: {'rewritten' if changed else 'as it was'}")
        for line in outcome.stale:
            print(f"  {line}")
        left += sum(1 for _ in outcome.stale) if not changed else 0
    return 1 if left else 0


if __name__ == "__main__":
    sys.exit(main())
