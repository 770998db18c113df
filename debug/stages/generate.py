# SPDX-License-Identifier: BSD-2-Clause
"""Writes everything that is made from the stage table, trampoline/stages.h.

    python3 -m debug.stages.generate            writes the committed products
    python3 -m debug.stages.generate --check    names the stale ones, exit code 1
    python3 -m debug.stages.generate --nasm FILE --tsv FILE    build products only

The committed products are debug/stages/table.py and docs/stage-codes.md.  `--nasm` writes the
constants for the assembler, `--tsv` the contents of the ELF section .lamppost.stages.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Mapping, Optional, Sequence

from debug.stages import document, tsv
from debug.stages.header import parse_header
from debug.stages.model import MODES, StageTable, StageTableError

ROOT = Path(__file__).resolve().parents[2]
SOURCE = "trampoline/stages.h"
_NOTICE = f"Made from {SOURCE} by debug/stages/generate.py; do not edit."


def nasm(table: StageTable) -> str:
    """stages.inc: STAGE_name, MODE_OF_name for each stage, MODE_mode for each mode."""
    lines = ["; SPDX-License-Identifier: BSD-2-Clause", f"; {_NOTICE}"]
    lines += [f"%define MODE_{mode.upper()} {number}" for mode, number in MODES.items()]
    for stage in table.stages:
        lines.append(f"%define STAGE_{stage.name} {stage.code:#04x}")
        lines.append(f"%define MODE_OF_{stage.name} MODE_{stage.mode.upper()}")
    return "\n".join(lines) + "\n"


def python(table: StageTable) -> str:
    """debug/stages/table.py."""
    lines = [
        "# SPDX-License-Identifier: BSD-2-Clause",
        f'"""The stage table.  {_NOTICE}"""',
        "",
        "from debug.stages.model import Stage, StageTable",
        "",
        "BUILT_IN = StageTable(",
        "    (",
    ]
    for stage in table.stages:
        lines += [
            "        Stage(",
            f"            0x{stage.code:02X},",
            f'            "{stage.name}",',
            f'            "{stage.mode}",',
            f"            {_quoted(stage.became)},",
            f"            {_quoted(stage.needs)},",
            "        ),",
        ]
    lines += ["    ),", '    "the built-in table",', ")"]
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    """A Python literal as black writes it: double quotes unless that adds backslashes."""
    if '"' in text and "'" not in text:
        return "'" + text.replace("\\", "\\\\") + "'"
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def committed(table: StageTable) -> Mapping[str, str]:
    """The products that stand in the repository: path from its root to text."""
    return {
        "debug/stages/table.py": python(table),
        "docs/stage-codes.md": document.render(table, _NOTICE),
    }


def stale(table: StageTable, root: Path) -> list[str]:
    """Which committed products differ from what the table makes, or are absent."""
    return [path for path, text in committed(table).items() if _read(root / path) != text]


def _read(path: Path) -> Optional[str]:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return None


def _write(path: str, text: str) -> None:
    """Write a product; a file that is right already keeps its time stamp."""
    if path == "-":
        sys.stdout.write(text)
    elif _read(Path(path)) != text:
        Path(path).write_text(text, encoding="utf-8")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="debug.stages.generate", description="Make the products of the stage table."
    )
    parser.add_argument("--source", metavar="FILE", help=f"the table (default: {SOURCE})")
    parser.add_argument("--check", action="store_true", help="write nothing, name what is stale")
    parser.add_argument("--nasm", metavar="FILE", help="write stages.inc to FILE (- for stdout)")
    parser.add_argument("--tsv", metavar="FILE", help="write the ELF section's text to FILE")
    return parser


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """Entry point; 0 done or current, 1 stale or a bad table, 2 a usage error."""
    options = _parser().parse_args(arguments)
    source = Path(options.source) if options.source else ROOT / SOURCE
    shown = options.source or SOURCE
    try:
        table = parse_header(source.read_text(encoding="utf-8"), shown)
        if options.check:
            names = stale(table, ROOT)
            for name in names:
                print(f"{name} is stale: run  python3 -m debug.stages.generate", file=sys.stderr)
            return 1 if names else 0
        if options.nasm:
            _write(options.nasm, nasm(table))
        if options.tsv:
            _write(options.tsv, tsv.format_tsv(table.stages))
        if not (options.nasm or options.tsv):
            for name, text in committed(table).items():
                _write(str(ROOT / name), text)
    except StageTableError as error:
        print(error, file=sys.stderr)
        return 1
    except UnicodeDecodeError:
        print(f"{shown}: not UTF-8 text", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"{error.filename or shown}: {error.strerror}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
