# SPDX-License-Identifier: BSD-2-Clause
"""`lamppost stages FILE`: decode a trace and draw each CPU's way through the stages."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Optional, Sequence

from debug.cli.errors import CommandError
from debug.cli.exit_codes import ExitCode
from debug.pictures import timeline as picture
from debug.sources.standard_input import standard_input
from debug.stages import machine, perfetto, timeline
from debug.stages.checksum import encode
from debug.stages.dump import MemoryDump
from debug.stages.elf import table_for
from debug.stages.frames import DamageKind
from debug.stages.lanes import Lane, Roll, lanes, roll_call, ticks_per_us
from debug.stages.memory import CpuRecord, read_memory
from debug.stages.model import StageTable, StageTableError
from debug.stages.repair import repair
from debug.stages.trace import MAX_FRAMES, Trace, read_trace

_SHOWN_DAMAGE = 8
_SHOWN_IDS = 16
_EPILOG = """\
FILE is what a machine wrote to port 0xE9 or COM1; console text in it is passed over. Record one
with  qemu-system-x86_64 -debugcon file:trace.txt ...  The frames are described in
docs/stage-codes.md.

exit code: 0; 1 with --strict when the trace is damaged; 11 with --cpus when fewer are online;
16 when FILE can't be read or holds no stage, none of the CPU that --only names, or ELF has no
stage table"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.epilog = _EPILOG
    parser.add_argument("file", metavar="FILE", help="the trace, - for standard input")
    parser.add_argument(
        "--elf", metavar="ELF", help="take the stage table from this kernel (default: built in)"
    )
    parser.add_argument(
        "--memory",
        metavar="DUMP",
        help="raw dump of physical memory from address 0: restores what the trace lost",
    )
    parser.add_argument("--cpus", type=_count, metavar="N", help="how many CPUs must be online")
    parser.add_argument(
        "--only", type=_apic_id, metavar="ID", help="show only the CPU with this APIC ID"
    )
    parser.add_argument(
        "--tsc", action="store_true", help="show the time between stages (--memory)"
    )
    parser.add_argument("--table", action="store_true", help="print every stage in words, in order")
    parser.add_argument("--svg", metavar="OUT", help="write the timeline as SVG")
    parser.add_argument("--perfetto", metavar="OUT", help="write a trace for ui.perfetto.dev")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead")
    parser.add_argument("--strict", action="store_true", help="exit with 1 if the trace is damaged")


def run(options: argparse.Namespace) -> int:
    """Do it; CommandError for input that is unreadable, empty or no trace."""
    table = _table(options.elf)
    trace = _trace(options.file)
    records, notes = _records(options.memory)
    if not trace.frames and not records:
        raise CommandError(_no_frames(options.file, trace))
    if trace.frame_count > MAX_FRAMES:
        notes.append(f"only the last {MAX_FRAMES} of {trace.frame_count} frames are shown")
    mended = repair(trace.events("stream"), records)
    notes += [f"CPU {a}: {n} stages restored from memory" for a, n in mended.restored.items()]
    if mended.disagreements:
        notes.append(f"{len(mended.disagreements)} frames are not in the memory's record")
    all_lanes = lanes(mended.events, table)
    roll = roll_call(all_lanes, table, options.cpus)
    rate = ticks_per_us(all_lanes, table)
    shown = all_lanes if options.only is None else _lanes_of(options.only, all_lanes)
    if options.svg:
        _write(options.svg, picture.render(shown, table, rate))
    if options.perfetto:
        _write(options.perfetto, perfetto.render(shown, table, rate))
    if options.json:
        report = machine.to_object(trace, shown, roll, table, notes)
        print(json.dumps(report, indent=1, ensure_ascii=True))
    else:
        _print(shown, table, trace, roll, notes, rate, options)
    if options.strict and _damaged(trace):
        return ExitCode.DAMAGED
    if options.cpus is not None and roll.online < options.cpus:
        return ExitCode.MISSING_CPU
    return ExitCode.HEALTHY


def _count(text: str) -> int:
    value = int(text) if text.isascii() and text.isdigit() and len(text) < 6 else 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of CPUs from 1 to 99999")
    return value


def _apic_id(text: str) -> int:
    value = int(text) if text.isascii() and text.isdigit() and len(text) < 11 else 1 << 32
    if value >> 32:
        raise argparse.ArgumentTypeError(f"{text!r} is not an APIC ID, a decimal number of 32 bits")
    return value


def _lanes_of(apic_id: int, all_lanes: Sequence[Lane]) -> Sequence[Lane]:
    found = [lane for lane in all_lanes if lane.apic_id == apic_id]
    if not found:
        known = sorted({lane.apic_id for lane in all_lanes})
        more = ", ..." if len(known) > _SHOWN_IDS else ""
        ids = ", ".join(map(str, known[:_SHOWN_IDS]))
        raise CommandError(f"no stage is of a CPU with APIC ID {apic_id}; there are {ids}{more}")
    return found


def _table(path: Optional[str]) -> StageTable:
    try:
        return table_for(path)
    except StageTableError as error:
        raise CommandError(str(error)) from error
    except OSError as error:
        raise CommandError(
            f"{path}: {error.strerror}; --elf takes the kernel's ELF file"
        ) from error


def _trace(path: str) -> Trace:
    try:
        if path == "-":
            return read_trace(standard_input())
        with open(path, "rb") as file:
            return read_trace(file)
    except OSError as error:
        what = "standard input" if path == "-" else path
        raise CommandError(f"{what}: {error.strerror}; expected a trace file") from error


def _no_frames(path: str, trace: Trace) -> str:
    what = "standard input" if path == "-" else path
    example = encode(3, 0x60, None, 12).decode("ascii").strip()
    found = "it is empty" if trace.size == 0 else f"no stage frame in its {trace.size} bytes"
    return (
        f"{what}: {found}; expected lines such as {example} from port 0xE9 or COM1. "
        "Record them with -debugcon file:trace.txt or -serial file:trace.txt"
    )


def _records(path: Optional[str]) -> tuple[Sequence[CpuRecord], list[str]]:
    """The records in a memory dump, and what was wrong with them."""
    if path is None:
        return (), []
    try:
        with MemoryDump(path) as dump:
            found = read_memory(dump)
    except OSError as error:
        raise CommandError(f"{path}: {error.strerror}; expected a memory dump") from error
    notes = [f"{path}: {problem}" for problem in found.problems]
    if found.lock_owner is not None:
        notes.append(f"CPU {found.lock_owner.apic_id} holds the trace lock")
    if found.control is not None and found.control.steals:
        notes.append(f"the trace lock was stolen {found.control.steals} times")
    return found.cpus, notes


def _write(path: str, text: str) -> None:
    try:
        Path(path).write_text(text, encoding="utf-8")
    except OSError as error:
        raise CommandError(f"{path}: {error.strerror}", ExitCode.USAGE) from error


def _damaged(trace: Trace) -> bool:
    """A doubtful @@ alone is no damage: console text may quote a frame."""
    return any(damage.kind is not DamageKind.DOUBTFUL for damage in trace.damage)


def _print(
    all_lanes: Sequence[Lane],
    table: StageTable,
    trace: Trace,
    roll: Roll,
    notes: Sequence[str],
    rate: Optional[float],
    options: argparse.Namespace,
) -> None:
    console = timeline.console_for(sys.stdout)
    marks = timeline.marks_for(sys.stdout)
    if options.table:
        for line in timeline.listing(all_lanes, table, console.width):
            console.print(line)
        console.print()
    for line in timeline.render(all_lanes, table, console.width, marks, rate, options.tsc):
        console.print(line)
    console.print()
    for damage in trace.damage[:_SHOWN_DAMAGE]:
        console.print(str(damage), style="yellow")
    if trace.damage_count > _SHOWN_DAMAGE:
        console.print(f"... {trace.damage_count} reports of damage in all", style="yellow")
    for note in notes:
        console.print(note, style="yellow")
    console.print(timeline.summary(roll), style="bold")
