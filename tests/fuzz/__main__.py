# SPDX-License-Identifier: BSD-2-Clause
"""Damage files in ways that chance chooses, and hold `lamppost explain` to its word:

    no crash, and no second of computing for one file;
    what was not certain of the whole file is not certain of a damaged one;
    a digit that no line of the report cites changes no certain verdict.
"""

from __future__ import annotations

import argparse
import multiprocessing
import random
import re
import sys
import time
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from debug.cli.explain import decode_stages, explain
from debug.failures.row import Certainty
from debug.report import text
from debug.report.diagnosis import Diagnosis
from debug.report.machine import to_json
from debug.sources.elf_symbols import ElfSymbols
from debug.sources.files import FileError, FileReader
from tests.fuzz import damage
from tests.tree import TREE

SECOND = 1.0
BATCH = 1000  # runs between two signs of life
WORDS = frozenset(range(0x20))  # vectors and levels, which a report cites by name: #PF, CPL
_NUMBERS = re.compile(r"(?<![0-9A-Za-z_])(?:0x)?([0-9a-f]{1,16})(?![0-9A-Za-z_])")


@dataclass(frozen=True)
class Verdict:
    """What a file was said to show; None in `status` if it was refused."""

    status: Optional[str]
    causes: tuple[tuple[str, str], ...]
    cited: frozenset[int] = frozenset()

    @property
    def certain(self) -> frozenset[str]:
        return frozenset(one for one, certainty in self.causes if certainty == "certain")

    def __str__(self) -> str:
        causes = ", ".join(f"{one} ({certainty})" for one, certainty in self.causes[:3])
        return f"{self.status or 'refused'}: {causes or '-'}"


def verdict(path: Path) -> Verdict:
    """Read and explain a file, and write both reports."""
    try:
        with FileReader(decode_stages) as reader:
            diagnosis = explain(reader.read(str(path)), ElfSymbols(()))
    except FileError:
        return Verdict(None, ())
    to_json(diagnosis)
    said = text.render(diagnosis)
    cited = frozenset(int(found[1], 16) for found in _NUMBERS.finditer(said)) | WORDS
    return Verdict(diagnosis.status, _causes(diagnosis), cited)


def _causes(diagnosis: Diagnosis) -> tuple[tuple[str, str], ...]:
    named = {certainty: certainty.value for certainty in Certainty}
    return tuple((cause.row.id, named[cause.certainty]) for cause in diagnosis.causes)


@dataclass(frozen=True)
class Share:
    """One worker's part of the work."""

    number: int
    of: int
    seed: int
    runs: int
    files: tuple[Path, ...]
    keep: Path


def work(share: Share) -> list[str]:
    """What went wrong, a line each."""
    path = share.keep / f"damaged-{share.number}"
    whole = {}
    wrong = []
    for run in range(share.number, share.runs, share.of):
        chance = random.Random(f"{share.seed} {run}")
        file = chance.choice(share.files)
        if file not in whole:
            path.write_bytes(file.read_bytes())
            whole[file] = file.read_bytes(), verdict(path)
        data, before = whole[file]
        quiet = damage.uncited(data, before.cited) if chance.random() < 0.4 else []
        if quiet:
            changed = damage.one_digit(chance, data, quiet)
        else:
            changed = chance.choice(damage.ALL)(chance, data)
        path.write_bytes(changed)
        complaint = _complaint(path, before, bool(quiet))
        if complaint:
            kept = share.keep / f"run-{run}"
            kept.write_bytes(changed)
            wrong.append(f"run {run}, {file.name}: {complaint} ({kept})")
    path.unlink(missing_ok=True)
    return wrong


def _complaint(path: Path, before: Verdict, quiet: bool) -> str:
    began = time.process_time()
    try:
        now = verdict(path)
    except Exception:  # pylint: disable=broad-except
        return f"crash: {traceback.format_exc().strip().splitlines()[-1]}"
    seconds = time.process_time() - began
    if seconds > SECOND:
        return f"{seconds:.1f} s"
    if now.certain - before.certain:
        return f"became certain; before {before}; now {now}"
    if quiet and now.certain != before.certain:
        return f"an uncited digit changed the verdict; before {before}; now {now}"
    return ""


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="make fuzz", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=10_000, help="damaged files (10000)")
    parser.add_argument("--seed", type=int, default=1, help="another one damages otherwise (1)")
    parser.add_argument("--keep", type=Path, default=TREE / "build/fuzz", help="where files go")
    parser.add_argument("files", type=Path, nargs="*", help="logs; without any: the recorded ones")
    options = parser.parse_args()
    files = tuple(options.files) or tuple(
        sorted((TREE / "tests/recorded").glob("*/*.[lt][ox][gt]"))
    )
    options.keep.mkdir(parents=True, exist_ok=True)
    count = multiprocessing.cpu_count()
    parts = count * max(1, options.runs // (count * BATCH))
    shares = [
        Share(n, parts, options.seed, options.runs, files, options.keep) for n in range(parts)
    ]
    wrong: list[str] = []
    with multiprocessing.Pool(count) as pool:
        for done, part in enumerate(pool.imap_unordered(work, shares), 1):
            wrong += part
            print(f"{options.runs * done // parts} of {options.runs}", file=sys.stderr, flush=True)
    print("\n".join(sorted(wrong)))
    print(f"{options.runs} damaged copies of {len(files)} files: {len(wrong)} complaints")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
