# SPDX-License-Identifier: BSD-2-Clause
"""Reading the CPUs of a machine that Bochs's debugger holds.  Raises DebuggerError."""

from __future__ import annotations

import re
from typing import Mapping, Optional, Sequence

from debug.evidence import Cpu, Pic
from debug.sources.bochs_process import BochsProcess
from debug.sources.bochs_state import (
    IO_APIC_COMMANDS,
    NAMES,
    PIC_COMMANDS,
    SAMPLE_NAMES,
    Tree,
    build_cpu,
    commands,
    parse_io_apics,
    parse_pics,
    parse_shown,
)

ANSWER_TIMEOUT = 20.0
_PROMPT = re.compile(r"^<bochs:[0-9]+>")
Trees = dict[int, Tree]


def show(process: BochsProcess, cpus: int, names: Sequence[str]) -> Trees:
    """The named nodes of CPUs 0 … cpus-1."""
    return parse_shown(process.commands(commands(cpus, names), ANSWER_TIMEOUT))


def sample(process: BochsProcess, cpus: int) -> Trees:
    """What tells whether a CPU moved."""
    return show(process, cpus, SAMPLE_NAMES)


def run_a_moment(process: BochsProcess, seconds: float, stop_timeout: float) -> None:
    """Let the machine run and stop it again, or see it stop."""
    process.go()
    if not process.wait_stop(seconds):
        process.interrupt(stop_timeout)


def read_cpus(process: BochsProcess, cpus: int, before: Mapping[int, Tree]) -> tuple[Cpu, ...]:
    """All that is known of the CPUs; `before` is a sample from a moment of running earlier."""
    trees = show(process, cpus, NAMES)
    return tuple(build_cpu(index, tree, before.get(index)) for index, tree in sorted(trees.items()))


def read_pics(process: BochsProcess) -> tuple[Pic, ...]:
    """The machine's PICs, the first one first; () where Bochs does not show them."""
    return parse_pics(process.commands(PIC_COMMANDS, ANSWER_TIMEOUT))


def read_io_apics(process: BochsProcess) -> Optional[tuple[tuple[int, ...], ...]]:
    """The redirection entries of the I/O APIC; None where Bochs does not show them."""
    return parse_io_apics(process.commands(IO_APIC_COMMANDS, ANSWER_TIMEOUT))


def read_cpu(process: BochsProcess, index: int) -> Optional[Cpu]:
    """One CPU; None where Bochs has none of this index."""
    lines = [f'show "cpu{index}.{name}"' for name in NAMES]
    trees = parse_shown(process.commands(lines, ANSWER_TIMEOUT))
    return build_cpu(index, trees[index], None) if index in trees else None


def answer_of(text: str, command: str) -> str:
    """What a command printed, without its echo, the next prompt and our own question."""
    lines = text.splitlines()
    if lines and lines[0].strip() == command.strip():
        del lines[0]
    while lines and (not lines[-1].strip() or _PROMPT.match(lines[-1])):
        del lines[-1]
    return "\n".join(lines)


def unpaged_cpu(cpus: Sequence[Cpu]) -> Optional[int]:
    """A CPU with paging off, for which linear addresses are physical."""
    for cpu in cpus:
        cr0 = cpu.registers.control.get("cr0")
        if cr0 is not None and not cr0 >> 31 & 1 and not cpu.registers.smm:
            return cpu.index
    return None
