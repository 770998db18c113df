# SPDX-License-Identifier: BSD-2-Clause
"""`lamppost explain FILE...`: diagnose from logs, register dumps, cores and traces."""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import Iterable, Sequence

from debug.cli.errors import CommandError
from debug.cli.exit_codes import ExitCode
from debug.cli.observe import symbols_of
from debug.cli.run import cpu_count, symbol_file
from debug.cli.show import add_report_options, show
from debug.evidence import Evidence, NoMemory, StageEvent
from debug.explain.model import EMULATOR_SAYS
from debug.failures.row import Cause, Certainty, Place
from debug.pictures.easel import Easel
from debug.report.diagnosis import Diagnosis, diagnose
from debug.sources.elf_symbols import ElfFile, ElfSymbols, SymbolError
from debug.sources.files import FileError, FileReader
from debug.sources.kinds import Kind
from debug.sources.witness import NAMES, Witness, merge
from debug.stages.elf import own_table
from debug.stages.frames import FrameDecoder
from debug.stages.gather import stages_of
from debug.stages.trace import TraceBuilder

_EPILOG = """\
FILE is a QEMU log (-d int,cpu_reset -D FILE), the text of info registers, a QEMU core
(dump-guest-memory), a Bochs log, a session with Bochs's debugger, the exception that UEFI firmware
printed on the serial port or a stage trace; which of them, its content tells. Text may be pasted:
from a terminal, a web page or a CI system.

Several files are taken as witnesses of one machine at one end: final registers and memory come from
a core or from register text, exceptions and IPIs from a log, stages from a trace.

exit code: the verdict's; 16 when a FILE is unreadable or not evidence"""

_FEW_PER_MILLE = (
    10  # of the compared bytes: code that patches itself differs from its file a little
)


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.epilog = _EPILOG
    parser.add_argument("files", metavar="FILE", nargs="+", help="- for standard input")
    parser.add_argument(
        "--elf",
        "--symbols",
        metavar="ELF[@OFFSET]",
        type=symbol_file,
        action="append",
        default=[],
        help="symbols of the guest, at a load offset; may be repeated",
    )
    parser.add_argument("--cpus", type=cpu_count, metavar="N", help="how many CPUs must come up")
    add_report_options(parser)


def run(options: argparse.Namespace) -> int:
    """Exit code: the verdict's."""
    try:
        with FileReader(decode_stages) as reader:
            if options.files.count("-") > 1:
                raise CommandError("standard input was named twice", ExitCode.USAGE)
            symbols = symbols_of(options.elf)
            witness = merge([reader.read(path) for path in options.files])
            diagnosis = explain(witness, symbols, options.cpus)
            Easel(options.picture).paint(diagnosis)
            return show(diagnosis, options)
    except FileError as error:
        raise CommandError(str(error)) from error


def decode_stages(chunks: Iterable[bytes]) -> tuple[tuple[StageEvent, ...], str]:
    """The stage frames in a stream and the console text around them."""
    decoder, builder = FrameDecoder(), TraceBuilder()
    for chunk in chunks:
        builder.add(decoder.feed(chunk))
    builder.add(decoder.finish())
    trace = builder.trace()
    return trace.events("e9"), trace.console


def explain(witness: Witness, symbols: ElfSymbols, cpus: int | None = None) -> Diagnosis:
    """The diagnosis of what the files say, no verdict in it above what they can support."""
    readings = witness.readings or (witness.evidence,)
    diagnoses = [diagnose(_completed(one, symbols, cpus)) for one in readings]
    diagnosis = diagnoses[0]
    evidence = diagnosis.evidence
    notes = [*witness.notes, *_belongs(symbols, evidence)]
    strongest = Certainty(witness.ceiling.value)
    agreed = _agreed(diagnoses) if witness.readings else frozenset()
    once = tuple(_said_once(cause, witness) for cause in diagnosis.causes)
    lowered = tuple(cause if cause.row.id in agreed else _cap(cause, strongest) for cause in once)
    if once != diagnosis.causes:
        notes.append(f"no certain verdict from what stands once in {NAMES[witness.kind]}")
    if lowered != once and witness.why:
        notes.append(f"no verdict above {strongest.value}: {witness.why}")
    elif agreed:
        notes.append(f"{witness.why}; whichever is right, the verdict is the same")
    explanation = replace(diagnosis.explanation, notes=(*diagnosis.explanation.notes, *notes))
    return replace(diagnosis, explanation=explanation, causes=lowered)


def _completed(evidence: Evidence, symbols: ElfSymbols, cpus: int | None) -> Evidence:
    return replace(
        evidence,
        symbols=symbols,
        stages=evidence.stages or stages_of({}, evidence.memory),
        stage_table=own_table(file.path for file in symbols.files),
        expected_cpus=cpus,
    )


def _agreed(diagnoses: Sequence[Diagnosis]) -> frozenset[str]:
    """The causes that are certain, whichever of several readings of a file is the right one."""
    certain = [
        {cause.row.id for cause in one.causes if cause.certainty is Certainty.CERTAIN}
        for one in diagnoses
    ]
    return frozenset(certain[0].intersection(*certain[1:]))


def _said_once(cause: Cause, witness: Witness) -> Cause:
    """The cause, only likely if it rests on lines that nothing in a file of text confirms.

    These are IPIs, registers in Bochs's log without its own reason, and, where no cause has a
    name, the absence of an earlier exception.
    """
    if not isinstance(witness.evidence.memory, NoMemory):
        return cause
    once = cause.row.place is Place.START or cause.row.generic
    if witness.kind is Kind.BOCHS_LOG:  # registers stand there once, beside Bochs's own reason
        once = once or not any(EMULATOR_SAYS in line for line in cause.match.evidence)
    return _cap(cause, Certainty.LIKELY) if once else cause


def _cap(cause: Cause, strongest: Certainty) -> Cause:
    if cause.certainty.rank >= strongest.rank:
        return cause
    return replace(cause, match=replace(cause.match, certainty=strongest))


def _belongs(symbols: ElfSymbols, evidence: Evidence) -> list[str]:
    """A note for each ELF file that is not what the machine ran."""
    return [note for file in symbols.files for note in _compare(file, evidence)]


def _compare(file: ElfFile, evidence: Evidence) -> list[str]:
    if isinstance(evidence.memory, NoMemory):
        return _without_memory(file, evidence)
    try:
        found = file.compare(evidence.memory)
    except SymbolError as error:
        return [str(error)]
    if not found.compared:
        return [f"{file.path}: its code lies at no physical address that can be read: not compared"]
    if not found.different:
        return []
    share = found.different * 1000 // found.compared
    what = f"{found.different} of {found.compared} bytes of its read-only segments differ"
    where = f"first at physical {found.first or 0:#x}"
    if share < _FEW_PER_MILLE:
        return [f"{file.path}: {what} from memory, {where}: patched code, or an overwritten byte"]
    return [f"{file.path} is not what this machine ran: {what} from memory, {where}; do not trust"
            " its symbols"]  # fmt: skip


def _without_memory(file: ElfFile, evidence: Evidence) -> list[str]:
    """No memory to compare: does any instruction pointer lie in the file?"""
    places = [cpu.registers.rip for cpu in evidence.cpus]
    places += [event.registers.rip for event in evidence.events]
    known = [rip for rip in places if rip is not None]
    if known and not any(file.lookup(rip) for rip in known):
        return [
            f"{file.path}: no instruction pointer of the {len(known)} that are known lies in it"
        ]
    return []
