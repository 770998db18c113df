# SPDX-License-Identifier: BSD-2-Clause
"""The user's own Bochs command line, and what must be added to it to observe the machine.

Pure: an argv and the text of its configuration file in, an argv out.  Bochs heeds the last setting
of each option, and settings on the command line come after the file's, so ours stand at the end.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Optional, Sequence

from debug.sources.errors import CommandLineError

MAX_CPUS = 255
DEFAULT_IPS = 4_000_000
# BIOS progress, resets and their causes, the size of RAM.  Bochs refuses names that it doesn't know.
MODULES = ("biosdev", "pc_system", "pci2isa", "keyboard", "memory")
_FLAGS_WITH_VALUE = frozenset(
    ("-f", "-qf", "-benchmark", "-dumpstats", "-r", "-log", "-rc", "-dbglog")
)
_COUNT = re.compile(r"\bcount\s*=\s*\"?([0-9]{1,3})(?::([0-9]{1,3}))?(?::([0-9]{1,3}))?")
_IPS = re.compile(r"\bips\s*=\s*([0-9]{1,12})")
_DEVICE = re.compile(r"\bdev\s*=\s*(?:\"([^\"]{1,4096})\"|([^,\s]{1,4096}))")
_TO_FILE = re.compile(r"\bmode\s*=\s*file\b")
_AWAITS_CALLER = re.compile(r"\s*(com[1-4])\s*:.*\bmode\s*=\s*socket-server\b", re.IGNORECASE)
_NAME = re.compile(r"^\s*([A-Za-z0-9_]{1,40})\s*:")
_UNSAFE = re.compile(r"[\x00-\x1f\"'$,#]")


@dataclass(frozen=True)
class Launch:
    """The argv to run, what to add to its environment, and where things will appear."""

    argv: tuple[str, ...]
    environment: dict[str, str]
    log_file: str
    com1_file: Optional[str] = None  # None: the user's own settings send COM1 to no file
    com1_is_users: bool = False
    cpus: int = 1
    ips: int = DEFAULT_IPS
    notes: tuple[str, ...] = ()


def settings(argv: Sequence[str]) -> list[str]:
    """The settings on the command line, as in a configuration file: what is no flag."""
    result = []
    words = iter(argv[1:])
    for word in words:
        if word in _FLAGS_WITH_VALUE:
            next(words, None)
        elif not word.startswith("-"):
            result.append(word)
    return result


def names(lines: Sequence[str]) -> frozenset[str]:
    """The options that the lines set; comments count for nothing."""
    return frozenset(found[1].lower() for line in lines if (found := _NAME.match(line)))


def com1_file_of(lines: Sequence[str]) -> Optional[str]:
    """The file that the last `com1:` line names; None if it goes elsewhere."""
    path = None
    for line in lines:
        if re.match(r"\s*com1\s*:", line, re.IGNORECASE):
            device = _DEVICE.search(line)
            path = (device[1] or device[2]).strip() if device and _TO_FILE.search(line) else None
    return path


def _com1_goes_somewhere(lines: Sequence[str]) -> bool:
    last = [line for line in lines if re.match(r"\s*com1\s*:", line, re.IGNORECASE)][-1:]
    return bool(last) and not re.search(r"\bmode\s*=\s*null\b", last[0])


def cpu_count(lines: Sequence[str]) -> int:
    """How many CPUs the last `cpu: count=` asks for: packages × cores × threads."""
    count = 1
    for line in lines:
        if re.match(r"\s*cpu\s*:", line, re.IGNORECASE) and (found := _COUNT.search(line)):
            count = int(found[1]) * int(found[2] or 1) * int(found[3] or 1)
    return max(1, min(count, MAX_CPUS))


def ips_of(lines: Sequence[str]) -> int:
    """How many ticks make a second of the guest's time."""
    ips = DEFAULT_IPS
    for line in lines:
        if re.match(r"\s*cpu\s*:", line, re.IGNORECASE) and (found := _IPS.search(line)):
            ips = int(found[1])
    return max(1, ips)


def plan(
    argv: Sequence[str],
    config: str,
    directory: str,
    modules: Sequence[str] = MODULES,
    own_com1: bool = False,
) -> Launch:
    """The command line to run: the user's, then ours.  Raises CommandLineError.

    `config` is the text of the configuration file; `directory` takes the log and COM1; `modules`
    are those whose information is logged, besides CPUs and APICs; `own_com1` takes COM1 even where
    the user's settings send it somewhere.
    """
    if not argv:
        raise CommandLineError("no command to run: give one, as in bochs -qf bochsrc")
    if _UNSAFE.search(directory):
        raise CommandLineError(
            f"Bochs can't have quotes, commas, # or $ in a file name: {directory!r}; set TMPDIR, or"
            " --keep, to another directory"
        )
    if any(word in ("-benchmark", "-r", "--help") for word in argv):
        raise CommandLineError("-benchmark, -r and --help start no machine to observe")
    on_command_line = settings(argv)
    lines = [*config.splitlines(), *on_command_line]
    if (waits := next(filter(None, map(_AWAITS_CALLER.match, lines)), None)) is not None:
        raise CommandLineError(
            f"{waits[1]}: mode=socket-server holds the machine back until somebody connects: use"
            " mode=file or mode=term"
        )
    cpus = cpu_count(lines)
    log_file = f"{directory}/bochs.log"
    ours = [
        f'log: "{log_file}"',
        "logprefix: %t%e%d",
        # A triple fault must stop the CPU and leave the rest: then the debugger takes over, with
        # registers and memory as they are.
        "cpu: reset_on_triple_fault=0",
        "panic: action=report",
        "error: action=report",
        # Not everybody's information: Bochs's SIGINT handler logs a line under no name, and where
        # the signal interrupts another line's writing it waits for its own lock for ever.
        "info: action=ignore",
        "debug: action=ignore",
        *(f"info: {module}=report" for module in modules),
        *(f"info: cpu{cpu:x}=report, apic{cpu:x}=report" for cpu in range(cpus)),
        # The debug level of CPUs and APICs names each exception and each write to an ICR.
        *(f"debug: cpu{cpu:x}=report, apic{cpu:x}=report" for cpu in range(cpus)),
        "port_e9_hack: enabled=1",
    ]
    com1_file = com1_file_of(lines)
    com1_is_users = not own_com1 and _com1_goes_somewhere(lines)
    if not com1_is_users:
        com1_file = f"{directory}/com1"
        ours.append(f'com1: enabled=1, mode=file, dev="{com1_file}"')
    environment = {"TERM": "dumb"}
    notes = []
    if "display_library" not in names(on_command_line):
        ours.append("display_library: sdl2")
        environment |= {"SDL_VIDEODRIVER": "dummy", "SDL_AUDIODRIVER": "dummy"}
    else:
        notes.append("the display is the one that the command line asks for")
    return Launch(
        argv=(*_quick(argv), *ours),
        environment=environment,
        log_file=log_file,
        com1_file=com1_file,
        com1_is_users=com1_is_users,
        cpus=cpus,
        ips=ips_of(lines),
        notes=tuple(notes),
    )


def _quick(argv: Sequence[str]) -> tuple[str, ...]:
    """With -q, so that no menu waits for an answer."""
    if any(word in ("-q", "-qf") for word in argv[1:]):
        return tuple(argv)
    return (argv[0], "-q", *argv[1:])
