# SPDX-License-Identifier: BSD-2-Clause
"""`lamppost doctor [PART...]`: what is installed, and what each missing thing costs."""

from __future__ import annotations

import argparse
import json
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor
from typing import Sequence

from debug.cli.exit_codes import ExitCode
from debug.doctor.checks import CHECKS, PARTS, Check
from debug.doctor.probes import Finding
from debug.report.terminal import encodable

_WIDTH = 80
_EPILOG = (
    "parts:\n"
    + "\n".join(f"  {part:<10} {what}" for part, what in PARTS.items())
    + "\n\nexit code: 0 when all that is needed works, 3 when something is missing"
)

Results = Sequence[tuple[Check, Finding]]


def configure(parser: argparse.ArgumentParser) -> None:
    parser.epilog = _EPILOG
    parser.add_argument(
        "parts",
        metavar="PART",
        nargs="*",
        type=_part,
        help="check what this part needs (default: all)",
    )
    parser.add_argument("--json", action="store_true", help="the findings as one JSON object")


def _part(text: str) -> str:
    if text not in PARTS:
        raise argparse.ArgumentTypeError(f"{text!r} is not one of {', '.join(PARTS)}")
    return text


def run(options: argparse.Namespace) -> int:
    """3 when something that is needed is missing."""
    chosen = [check for check in CHECKS if not options.parts or check.part in options.parts]
    with ThreadPoolExecutor() as pool:
        results = list(zip(chosen, pool.map(_tried, chosen)))
    if options.json:
        print(json.dumps(as_object(results), indent=2))
    else:
        sys.stdout.write(encodable(render(results), sys.stdout))
    return ExitCode.HEALTHY if healthy(results) else ExitCode.MISSING_TOOL


def _tried(check: Check) -> Finding:
    return check.probe()


def healthy(results: Results) -> bool:
    """All that is needed works."""
    return all(check.optional or not finding.problem for check, finding in results)


def as_object(results: Results) -> dict[str, object]:
    """The findings as plain data."""
    return {
        "schema": 1,
        "status": "healthy" if healthy(results) else "missing",
        "checks": [
            {
                "part": check.part,
                "name": check.name,
                "works": not finding.problem,
                "optional": check.optional,
                "found": finding.found,
                "problem": finding.problem,
                "costs": check.cost if finding.problem else "",
                "packages": check.package.split(),
            }
            for check, finding in results
        ],
    }


def render(results: Results) -> str:
    """The findings as text, 80 columns."""
    lines: list[str] = []
    for part, what in PARTS.items():
        group = [(check, finding) for check, finding in results if check.part == part]
        if group:
            lines += ["", f"{part}: {what}"]
        for check, finding in group:
            mark = "✓" if not finding.problem else "·" if check.optional else "✗"
            lines += _wrapped(f"  {mark} {check.name:<30} ", finding.problem or finding.found)
            if finding.problem:
                lines += _wrapped("      costs    ", check.cost)
            if finding.problem and check.package:
                lines += _wrapped("      install  ", f"apt-get install {check.package}")
    missing = [check for check, finding in results if finding.problem and not check.optional]
    ending = f"{len(missing)} of {len(results)} missing" if missing else "all that is needed works"
    return "\n".join([*lines[1:], "", ending]) + "\n"


def _wrapped(label: str, text: str) -> list[str]:
    return textwrap.wrap(
        text,
        _WIDTH,
        initial_indent=label,
        subsequent_indent=" " * len(label),
        break_on_hyphens=False,
    ) or [label.rstrip()]
