# SPDX-License-Identifier: BSD-2-Clause
"""The user's own QEMU command line, and what must be added to it to observe the machine.

Pure: an argv in, an argv out.  Nothing of the user's is taken away; options of which QEMU heeds
only the last are repeated with ours merged in.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Optional, Sequence

from debug.sources.errors import CommandLineError
from debug.sources.qemu_ipi import TRACE_PATTERN

# Options whose value may look like an option.
_FREE_VALUES = frozenset(("append", "name", "kernel", "initrd", "fw_cfg", "smbios", "D", "d"))

_CHARDEVS = frozenset(
    "serial parallel monitor debugcon chardev qmp qmp-pretty virtioconsole gdb".split()
)
_REFUSED = {
    "daemonize": "takes the machine out of the observer's hands",
    "preconfig": "holds the machine back until somebody configures it by QMP",
    "incoming": "holds the machine back until another QEMU sends its state",
    "runas": "takes the right to write to the observer's files, which are only their owner's",
    "chroot": "takes the observer's files out of the machine's reach",
}
_SERVER = re.compile(r",server(=on)?(,|$)")
_NO_WAIT = re.compile(r",(wait=off|nowait)(,|$)")
_MONITORS = frozenset(("monitor", "mon", "qmp", "qmp-pretty"))
_WINDOWS = frozenset(("gtk", "sdl", "cocoa"))
_DISPLAYS = {"display", "nographic", "vnc", "curses", "sdl", "spice", "gtk"}


@dataclass(frozen=True)
class Found:
    """What the user's command line says about the things that an observer would add."""

    options: frozenset[str]  # names without dashes
    log_items: tuple[str, ...] = ()  # of the last -d
    log_file: Optional[str] = None  # of the last -D
    serial: Optional[str] = None  # the first -serial, or "device" for -device isa-serial
    debugcon: Optional[str] = None  # -debugcon, or "device" for -device isa-debugcon
    stopped: bool = False  # -S: somebody else will let it run
    stdio: bool = False  # a serial port, a console or a monitor is on standard input and output
    signals: bool = True  # Ctrl-C is not for the guest
    ctrl_a: bool = False  # Ctrl-A X ends the machine
    windows: bool = False  # the user asked for a window
    terminal: tuple[str, ...] = ()  # options: what goes there by itself
    notes: tuple[str, ...] = ()  # what we overrule


@dataclass(frozen=True)
class Additions:
    """What the observer wants: file names are absolute, the QMP socket is an open descriptor.

    scratch_disks: the guest's writes to disks are thrown away.  windows: where the user says nothing
    of a display, QEMU may open its window.
    """

    qmp_fd: int
    directory: str
    log: bool = True
    log_per_thread: bool = True  # this QEMU knows `-d tid`
    ipis: bool = True
    port_writes: bool = False
    consoles: bool = True
    scratch_disks: bool = False
    windows: bool = False


@dataclass(frozen=True)
class Launch:
    """The argv to run and where things will appear."""

    argv: tuple[str, ...]
    log_file: Optional[str] = None  # None: no log, or one file per thread
    log_prefix: Optional[str] = None  # per thread: this, then the thread's number
    log_is_users: bool = False  # it stays when the observer goes
    e9_file: Optional[str] = None
    com1_file: Optional[str] = None
    e9_is_users: bool = False
    com1_is_users: bool = False
    starts_itself: bool = True  # False: the user said -S
    logged: bool = True  # exceptions are in a log
    stdio: bool = False  # it reads standard input
    signals: bool = True
    ctrl_a: bool = False
    notes: tuple[str, ...] = ()


def scan(argv: Sequence[str]) -> Found:
    """Read the user's options.  Raises CommandLineError for what can't be observed."""
    names: set[str] = set()
    items: tuple[str, ...] = ()
    log_file = serial = debugcon = shown = None
    windows = False
    stdio: list[str] = []
    actions: list[str] = []
    index = 1
    while index < len(argv):
        word = argv[index]
        index += 1
        if not word.startswith("-") or word == "-":
            continue
        name = word[2:] if word.startswith("--") else word[1:]
        value = argv[index] if index < len(argv) else ""
        names.add(name)
        if name == "d":
            items = tuple(item for item in value.split(",") if item)
        elif name == "D":
            log_file = value
        elif name == "serial" and serial is None:
            serial = value
        elif name == "debugcon":
            debugcon = value
        elif name == "display":
            shown = value.split(",")[0]
            windows = windows or shown in _WINDOWS
        elif name == "action":
            actions += value.split(",")
        elif name == "device" and value.split(",")[0] == "isa-serial":
            serial = serial or "device"  # one more of ours would take COM1 from it
        elif name == "device" and value.split(",")[0] == "isa-debugcon":
            if "iobase" not in value or "iobase=0xe9" in value.lower():
                debugcon = "device"
        if name in _CHARDEVS and re.match(r"(mon:|chardev:)?stdio\b", value):
            stdio.append(value)
        if name in _CHARDEVS - {"gdb"} and _SERVER.search(value) and not _NO_WAIT.search(value):
            raise CommandLineError(
                f"-{name} {value} holds the machine back until somebody connects: add ,wait=off"
            )
        if name in _FREE_VALUES:
            index += 1
    for option, why in _REFUSED.items():
        if option in names:
            raise CommandLineError(f"-{option} {why}: leave it out")
    if shown == "curses" or "curses" in names:
        raise CommandLineError(
            "curses draws on the terminal, which QEMU does not have under observation: leave it out;"
            " the report shows what a panic wrote on the screen, and -vnc :1 shows the screen"
        )
    terminal = _without_graphics(names, serial)
    stdio += terminal[1::2]
    if terminal[:1] == ("-serial",):
        serial = terminal[1]
    return Found(
        frozenset(names),
        items,
        log_file,
        serial,
        debugcon,
        "S" in names,
        bool(stdio),
        not any(value.startswith("mon:") or "signal=off" in value for value in stdio),
        "echr" not in names and any(value.startswith("mon:") for value in stdio),
        windows or bool(names & _WINDOWS),
        terminal,
        _overruled(actions, items, log_file),
    )


def _without_graphics(names: set[str], serial: Optional[str]) -> tuple[str, ...]:
    """The options for what QEMU puts on the terminal by itself for -nographic.

    It does not where it is given a monitor, and ours is one.
    """
    if "nographic" not in names or "nodefaults" in names:
        return ()
    monitor = not names & _MONITORS
    if serial is None:
        return ("-serial", "mon:stdio" if monitor else "stdio")
    return ("-monitor", "stdio") if monitor else ()


def _overruled(
    actions: Sequence[str], items: Sequence[str], log_file: Optional[str]
) -> tuple[str, ...]:
    """What the user asked for and does not get, and how to get it."""
    notes = [
        f"-action {action}: the machine is stopped and read out instead"
        for action in actions
        if action in ("reboot=reset", "shutdown=poweroff")
    ]
    if "int" in items and (log_file is None or "%" in log_file):
        notes.append(f"-d {','.join(items)}: the log is read here; -D FILE keeps it")
    return tuple(notes)


# A folder as a disk, fat:rw:DIR, which QEMU refuses to write to where -snapshot protects it.
_WRITABLE_FOLDER = re.compile(r"(\bfat:(?:(?:12|16|32|floppy):)*)rw:")


def _file_of(chardev: Optional[str]) -> Optional[str]:
    """The path in `file:PATH`; None for anything else."""
    return chardev[5:] if chardev and chardev.startswith("file:") else None


def plan(argv: Sequence[str], add: Additions) -> Launch:
    """The command line to run: the user's, then ours.  Raises CommandLineError."""
    if not argv:
        raise CommandLineError("no command to run: give one, as in qemu-system-x86_64 -kernel FILE")
    if "," in add.directory:
        raise CommandLineError(
            f"QEMU can't have a comma in a file name: {add.directory}; set TMPDIR, or --keep, to"
            " another directory"
        )
    found = scan(argv)
    extra = [
        *("-chardev", f"socket,id=lamppost-qmp,fd={add.qmp_fd}"),
        *("-mon", "chardev=lamppost-qmp,mode=control"),
        *("-action", "reboot=shutdown,shutdown=pause"),
        *found.terminal,
    ]
    if not found.stopped:
        extra.append("-S")  # until QMP is there: no event is lost
    if not found.options & _DISPLAYS and not add.windows:
        extra += ["-display", "none"]
    if not found.options & {"nic", "net", "netdev"}:
        extra += ["-nic", "none"]
    if add.scratch_disks:
        argv = [_WRITABLE_FOLDER.sub(r"\1", word) for word in argv]
        extra += [] if "snapshot" in found.options else ["-snapshot"]
    log_file = log_prefix = None
    # Who logs exceptions anyway has paid for it.
    logged = add.log or "int" in found.log_items
    if logged:
        items = list(dict.fromkeys([*found.log_items, "int", "cpu_reset"]))
        log_file = found.log_file
        if log_file is not None and ("%" in log_file or "tid" in items):
            log_file = None  # a pattern of names: ours replaces it
        if log_file is None:
            log_prefix = f"{add.directory}/log."
            if add.log_per_thread and "tid" not in items:
                items.append("tid")
            if add.log_per_thread:
                extra += ["-D", log_prefix + "%d"]
            else:
                items = [item for item in items if item != "tid"]
                log_file, log_prefix = f"{add.directory}/log", None
                extra += ["-D", log_file]
        extra += ["-d", ",".join(items)]
        if add.ipis or not add.log:
            extra += ["-trace", TRACE_PATTERN]
        if add.port_writes:
            extra += ["-trace", "memory_region_ops_write"]
    e9_file, com1_file = _file_of(found.debugcon), _file_of(found.serial)
    if add.consoles and found.debugcon is None:
        e9_file = f"{add.directory}/e9"
        extra += ["-chardev", f"file,id=lamppost-e9,path={e9_file}"]
        extra += ["-device", "isa-debugcon,iobase=0xe9,chardev=lamppost-e9"]
    if add.consoles and found.serial is None and "nodefaults" not in found.options:
        com1_file = f"{add.directory}/com1"
        extra += ["-serial", f"file:{com1_file}"]
    return Launch(
        argv=(*argv, *extra),
        log_file=log_file,
        log_prefix=log_prefix,
        log_is_users=log_file is not None and log_file == found.log_file,
        e9_file=e9_file,
        com1_file=com1_file,
        e9_is_users=found.debugcon is not None,
        com1_is_users=found.serial is not None,
        starts_itself=not found.stopped,
        logged=logged,
        stdio=found.stdio,
        signals=found.signals,
        ctrl_a=found.ctrl_a,
        notes=found.notes,
    )
