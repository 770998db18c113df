# SPDX-License-Identifier: BSD-2-Clause
"""A kernel that ends by halting: CLI and HLT side by side, after it has said its last line.

Nobody waits for an interrupt with CLI; HERE: HLT; JMP HERE without it may be an idle loop that
forgot its STI.  A CPU that halts so without a word may have given up, and is left undecided.
"""

from __future__ import annotations

import re
from typing import Optional

from debug.evidence import Ending, EventKind
from debug.explain.context import Machine
from debug.explain.findings import (
    FrameLeft,
    HaltedForever,
    InHandler,
    SaidBefore,
    Spinning,
    WrittenEnd,
)
from debug.explain.model import Finding
from debug.explain.panic import clean
from debug.x86.exceptions import INNOCENT

_TAIL = 4096  # characters of the console that are searched for the last line
_CLI, _HLT, _JUMP = 0xFA, 0xF4, 0xEB
_BACK = 16  # bytes that a loop around HLT spans at most

# What firmware and boot loaders print before they start a kernel.
_LOADERS = re.compile(
    r"(?i)seabios|ipxe|boot(?:ing)? from|\bgrub\b|plex86|bochs|^\s*(?:press|apmbios|version)\b|"
    r"machine UUID|^\s*(?:ata\d|booting|loading)|BdsDxe"
)
# A last line with one of these may be the reason why the kernel gave up.
_TROUBLE = re.compile(
    r"(?i)error|err\b|fail|fatal|panic|abort|oops|assert|bug\b|bad\b|wrong|invalid|illegal|corrupt|"
    r"missing|except|fault|unsupported|not (?:found|supported|available|present|enough|a )|"
    r"\bno \w|can(?:no|')t|could ?n[o']t|unable|un(?:known|handled|expected)|out of|died|dead|"
    r"need|requires?\b|refus|halt|stop|hang|trap|interrupt"
)


def findings(machine: Machine, found: tuple[Finding, ...]) -> tuple[WrittenEnd, ...]:
    """The ends that were written, one for each CPU that halts; empty unless all of them were."""
    halted = [one for one in found if isinstance(one, HaltedForever)]
    if machine.evidence.ending is not Ending.STOPPED or machine.traced or not halted:
        return ()
    if any(isinstance(one, (InHandler, FrameLeft)) for one in found):
        return ()
    if any(not _written(machine, one) or _after_a_fault(machine, one.cpu) for one in halted):
        return ()
    said = last_words(machine)
    if not said or _TROUBLE.search(said):
        return ()
    return tuple(WrittenEnd(one.cpu, one.where, said) for one in halted)


def before_jump(machine: Machine, found: tuple[Finding, ...]) -> tuple[SaidBefore, ...]:
    """What the BSP said before it came to the jump to itself that it stands in."""
    jumps = [one for one in found if isinstance(one, Spinning) and one.self_jump]
    if machine.traced or not any(one.cpu == machine.bsp_index for one in jumps):
        return ()
    if any(isinstance(one, (InHandler, FrameLeft)) for one in found):
        return ()
    said = last_words(machine)
    quiet = not said or _TROUBLE.search(said) or _after_a_fault(machine, machine.bsp_index)
    return () if quiet else (SaidBefore(machine.bsp_index, said),)


def last_words(machine: Machine) -> str:
    """The last line that the guest wrote to a console or its screen; "" if it wrote none."""
    for text in (machine.evidence.console[-_TAIL:], machine.screen):
        lines = [clean(line) for line in text.splitlines() if not line.startswith("@")]
        own = [line for line in lines if line and not _LOADERS.search(line)]
        if own:
            return own[-1]
    return ""


def _written(machine: Machine, halted: HaltedForever) -> bool:
    """CLI stands before the HLT that the CPU executed, or the jump after it leads to one."""
    cpu = machine.cpu(halted.cpu) if halted.cpu is not None else None
    if cpu is None or halted.rip is None:
        return False
    code = machine.linear(cpu.registers).read(halted.rip - _BACK, _BACK + 2)
    if code is None or code[_BACK - 1] != _HLT:
        return False
    if code[_BACK - 2] == _CLI:
        return True
    target = _BACK + 2 + (code[_BACK + 1] - 256)  # of a short jump back
    return code[_BACK] == _JUMP and 0 <= target < _BACK and code[target] == _CLI


def _after_a_fault(machine: Machine, index: Optional[int]) -> bool:
    """The last that was recorded of the CPU is an exception: its handler halts."""
    own = [event for event in machine.last_events if event.cpu == index]
    if not own or own[-1].kind is not EventKind.EXCEPTION:
        return False
    return own[-1].vector not in INNOCENT
