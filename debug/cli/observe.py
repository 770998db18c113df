# SPDX-License-Identifier: BSD-2-Clause
"""One machine, from its command line to the diagnosis: what `lamppost run` and ours share.

What explains is imported while the machine boots: that takes half a second.
"""

from __future__ import annotations

import importlib
import re
import time
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Callable, Mapping, Optional, Sequence

from debug.cli.emulator import machine_for
from debug.cli.errors import CommandError
from debug.cli.exit_codes import ExitCode
from debug.evidence import Ending, NoSymbols
from debug.sources.errors import CommandLineError, MissingProgram, StartError
from debug.sources.qemu_ending import not_started
from debug.sources.qemu_evidence import NO_LOG
from debug.sources.watch import INTERRUPTED, Watch

if TYPE_CHECKING:
    from debug.report.diagnosis import Diagnosis
    from debug.sources.elf_symbols import ElfSymbols


class Logging(Enum):
    """When QEMU logs exceptions and start-up IPIs, which takes it time.  Bochs always does."""

    ALWAYS = "always"
    NEEDED = "needed"  # in a second run, where the state at the end does not tell enough
    NEVER = "never"


@dataclass(frozen=True)
class Wishes(Watch):
    """What the user asks of an observation.

    symbols: ELF files with load offsets.
    core: write an ELF core of a machine that is not healthy to this file.
    on_again: called with the reason before the machine is run a second time.
    look: sees the diagnosis of each run while all of its memory can still be read.
    """

    symbols: tuple[tuple[Path, int], ...] = ()
    logging: Logging = Logging.ALWAYS
    core: Optional[Path] = None
    on_again: Optional[Callable[[str], None]] = None
    look: Optional[Callable[[Diagnosis], None]] = None


def symbols_of(files: Sequence[tuple[Path, int]]) -> ElfSymbols:
    """The symbols; CommandError where a file can't be used."""
    from debug.sources.elf_symbols import ElfSymbols, SymbolError

    try:
        return ElfSymbols(files)
    except SymbolError as error:
        raise CommandError(str(error)) from error


def observe(argv: Sequence[str], wishes: Wishes) -> Diagnosis:
    """Run the emulator, watch it to its end and explain it.  Raises CommandError."""
    symbols = symbols_of(wishes.symbols) if wishes.symbols else None
    began = time.monotonic()
    run = _once(argv, wishes, symbols, wishes.logging is Logging.ALWAYS)
    first = _noted(run.diagnosis, *run.core)
    untold = missing(first, argv)
    if wishes.logging is not Logging.NEEDED or not untold:
        return first
    if wishes.on_again is not None:
        wishes.on_again(f"{first.explanation.headline}\n{untold}")
    again = replace(
        wishes,
        timeout=min(wishes.timeout, 2 * (time.monotonic() - began) + SLACK),
        on_output=None,
        stop_when=None,  # it may remember the first run
        core=None,
    )
    try:
        second = _once(argv, again, symbols, True, scratch_disks=True).diagnosis
    except CommandError as error:
        return _noted(first, f"a second run, with a log, failed: {error}")
    if second.status == HEALTHY and first.status == HEALTHY:
        return _noted(second, f"{SECOND} is what this report shows: it saw no CPU die or give up")
    if second.status == HEALTHY and (_same_end(first, second) or _undecided(first)):
        return _noted(second, f"{SECOND} is what this report shows: it saw the CPUs at work")
    if second.status == HEALTHY or _ended_early(second):
        return _noted(first, f"{SECOND} went another way: {second.explanation.headline}")
    note = f"{SECOND} is what this report shows: {untold}"
    if second.status != first.status:
        note = f"{SECOND} is what this report shows; of the first one: {first.explanation.headline}"
    return _noted(second, note, *run.core)


HEALTHY, UNKNOWN = "healthy", "unknown"  # statuses of a report
UNCOUNTED = "the guest ended QEMU, and nothing tells whether its CPUs came up"
_WORDS = 6  # lines of an emulator that did not start
SLACK = 10.0  # seconds: a run with a log is slower
SECOND = "a second run, with exceptions and IPIs logged,"


def missing(first: Diagnosis, argv: Sequence[str]) -> str:
    """What the state at the end does not tell; empty if nothing, or if no second run would."""
    from debug.explain.findings import LineHeld, WrittenEnd
    from debug.explain.model import CpuState
    from debug.failures.row import Certainty

    evidence = first.evidence
    if NO_LOG not in evidence.limits or evidence.accelerator == "kvm":
        return ""
    if evidence.ending is Ending.EMULATOR_DIED:
        return ""
    if INTERRUPTED in evidence.messages or "-S" in argv:
        return ""
    if evidence.unseen and evidence.ending is Ending.STOPPED and first.status == UNKNOWN:
        return ""  # it is healthy but for its silence
    lived = evidence.ending not in (Ending.RESTARTED, Ending.TRIPLE_FAULT)
    if 0 < len(evidence.cpus) < (evidence.expected_cpus or 0) and not first.causes and lived:
        return ""  # it has fewer than must come up
    if not evidence.cpus:
        ended = evidence.ending is Ending.EXITED and first.status == UNKNOWN
        return UNCOUNTED if ended and not evidence.stages else ""
    if first.status == HEALTHY:
        if first.explanation.first(WrittenEnd) is not None:
            return "the state at the end does not tell whether an exception came before the HLT"
        parked = [v.index for v in first.explanation.cpus if v.state is CpuState.PARKED]
        if not parked or evidence.stages:  # a stage would say that it gave up
            return ""
        return f"the state at the end does not tell whether CPU {parked[0]} is parked on purpose"
    if first.explanation.first(LineHeld) is not None:
        return ""  # a log slows the CPU down, and shows the storm no better
    if evidence.ending is Ending.RESTARTED and first.explanation.culprit is None:
        return "no register tells why the machine restarted"
    if any(c.row.id == "kernel-not-reached" for c in first.causes):
        return ""
    if any(c.certainty is Certainty.CERTAIN and not c.row.generic for c in first.causes):
        return ""
    return "the state at the end does not tell the cause for certain"


def _ended_early(second: Diagnosis) -> bool:
    """The second run says nothing: it did not start, or Ctrl-C ended it."""
    evidence = second.evidence
    return evidence.ending is Ending.EMULATOR_DIED or INTERRUPTED in evidence.messages


def _undecided(first: Diagnosis) -> bool:
    """It was stopped after its time and nothing speaks against it, as far as a look at it tells."""
    stopped = first.evidence.ending is Ending.STOPPED
    return stopped and first.status == UNKNOWN and not first.causes


def _same_end(first: Diagnosis, second: Diagnosis) -> bool:
    """The guest ended the machine, both times alike."""
    ends = (first.evidence, second.evidence)
    same = ends[0].exit_code == ends[1].exit_code
    return same and all(end.ending is Ending.EXITED for end in ends)


def _noted(diagnosis: Diagnosis, *notes: str) -> Diagnosis:
    explanation = diagnosis.explanation
    return replace(diagnosis, explanation=replace(explanation, notes=(*notes, *explanation.notes)))


def _warm_up() -> None:
    """Import what explains and prints."""
    importlib.import_module("debug.report.terminal")
    importlib.import_module("debug.sources.elf_symbols")


def _unseen(until: Optional[str], ending: Ending, streams: Mapping[str, bytes]) -> str:
    """What was awaited and never came; the last of it may have come as the machine ended."""
    if until is None or ending is Ending.UNTIL:
        return ""
    awaited = re.compile(until.encode())
    return "" if any(map(awaited.search, streams.values())) else until


@dataclass(frozen=True)
class _Run:
    diagnosis: Diagnosis
    core: tuple[str, ...] = ()  # what became of the core


def _once(
    argv: Sequence[str],
    wishes: Wishes,
    symbols: Optional[ElfSymbols],
    log: bool,
    scratch_disks: bool = False,
) -> _Run:
    watched = replace(wishes, on_running=_warm_up)
    try:
        with machine_for(argv, watched, symbols or NoSymbols(), log, scratch_disks) as machine:
            evidence = machine.observe()
            from debug.cli.symbol_check import compared
            from debug.explain.context import Machine
            from debug.explain.watching import awaited
            from debug.report.diagnosis import diagnose
            from debug.stages.elf import own_table
            from debug.stages.gather import stages_of

            evidence = replace(
                compared(evidence, symbols or symbols_of(())),
                stages=evidence.stages or stages_of(machine.streams, evidence.memory),
                stage_table=own_table(path for path, _ in wishes.symbols),
                expected_cpus=wishes.cpus,
                unseen=_unseen(wishes.until, evidence.ending, machine.streams),
            )
            diagnosis = diagnose(evidence)
            words = awaited(Machine(evidence), diagnosis.explanation)
            if words and evidence.ending is Ending.STOPPED:
                cpus = machine.progress(words).applied(evidence.cpus)
                if cpus != evidence.cpus:
                    diagnosis = diagnose(replace(evidence, cpus=cpus))
            diagnosis = _noted(diagnosis, *machine.overruled)
            if not_started(evidence) and not diagnosis.causes:
                raise StartError("\n  ".join(evidence.messages[:_WORDS]))
            if wishes.look is not None:
                wishes.look(diagnosis)
            if wishes.core is not None and diagnosis.status != HEALTHY:
                return _Run(diagnosis, (machine.dump(wishes.core),))
            return _Run(diagnosis)
    except (CommandLineError, StartError) as error:
        lacking = isinstance(error, MissingProgram)
        code = ExitCode.MISSING_TOOL if lacking else ExitCode.BAD_INPUT
        raise CommandError(str(error), code) from error
