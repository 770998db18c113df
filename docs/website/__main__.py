# SPDX-License-Identifier: BSD-2-Clause
"""`make website`: write build/website anew and say where to begin."""

from __future__ import annotations

import sys
from pathlib import Path

from docs.website.check import faults
from docs.website.site import ROOT, build

HOME = ROOT / "build" / "website"


def main() -> int:
    """Entry point: the exit code; 1 where a page has a dead link or the like."""
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else HOME
    pages = build(target)
    found = faults(target)
    for fault in found:
        print(fault, file=sys.stderr)
    print(f"{pages} pages: {target / 'index.html'}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
