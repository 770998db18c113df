# SPDX-License-Identifier: BSD-2-Clause
"""GDB behind the Debugger protocol.  The only module that imports `gdb`.

Speaks to the gdbstub of QEMU: thread n is CPU n-1, and `Qqemu.PhyMemMode` switches memory reads to
physical addresses.  The human monitor is reached through QMP where there is such a connection:
through the stub each line of an answer is a packet that GDB must acknowledge while QEMU does not
listen, and the answers of some 30 CPUs fill the socket with acknowledgements for ever.
"""

from __future__ import annotations

import os
import re
import shlex
from contextlib import contextmanager
from typing import Callable, Iterator, Optional, Sequence

import gdb

from debug.gdb.debugger import Breakpoint, DebuggerError
from debug.sources.qmp import QmpClient, QmpError

MASK64 = (1 << 64) - 1
MONITOR_TIMEOUT = 20.0  # seconds: the machine may be large and its host busy
_KINDS = {gdb.BP_BREAKPOINT, getattr(gdb, "BP_HARDWARE_BREAKPOINT", gdb.BP_BREAKPOINT)}
_RAW = re.compile(r"\*\s*(0x[0-9a-fA-F]+|\d+)")


class _Silent(gdb.Breakpoint):  # type: ignore[misc]  # gdb comes without types
    """A breakpoint of ours that stops only where its condition says so."""

    def __init__(self, place: str, condition: Callable[[], bool]) -> None:
        super().__init__(place, type=gdb.BP_HARDWARE_BREAKPOINT, internal=True)
        self.silent = True
        self._condition = condition

    def stop(self) -> bool:
        try:
            return self._condition()
        except (DebuggerError, gdb.error):
            return False


class _Wrapped:
    """debug.gdb.debugger.Breakpoint around GDB's own."""

    def __init__(self, inner: gdb.Breakpoint) -> None:
        self._inner = inner

    @property
    def addresses(self) -> tuple[int, ...]:
        if not self._inner.is_valid():
            return ()
        if hasattr(self._inner, "locations"):
            found = (location.address for location in self._inner.locations)
            return tuple(int(address) & MASK64 for address in found if address is not None)
        raw = _RAW.fullmatch(self._inner.location or "")
        return (int(raw[1], 0),) if raw else ()

    @property
    def enabled(self) -> bool:
        return bool(self._inner.is_valid() and self._inner.enabled)

    def enable(self, on: bool) -> None:
        if self._inner.is_valid():
            self._inner.enabled = on

    def delete(self) -> None:
        if self._inner.is_valid():
            self._inner.delete()


class Gdb:
    """The GDB that this Python runs in."""

    def __init__(self, qmp: Optional[QmpClient] = None) -> None:
        self._qmp = qmp
        self._silent: list[_Silent] = []

    def cpus(self) -> tuple[int, ...]:
        threads = gdb.selected_inferior().threads()
        return tuple(sorted(thread.ptid[1] - 1 for thread in threads if thread.is_valid()))

    def selected(self) -> Optional[int]:
        thread = gdb.selected_thread()
        return thread.ptid[1] - 1 if thread is not None and thread.is_valid() else None

    def select(self, cpu: int) -> None:
        for thread in gdb.selected_inferior().threads():
            if thread.is_valid() and thread.ptid[1] - 1 == cpu:
                thread.switch()
                return
        raise DebuggerError(f"there is no CPU {cpu}")

    def monitor(self, line: str) -> str:
        if self._qmp is None:
            return self._execute(f"monitor {line}")
        try:
            return self._qmp.monitor(line, MONITOR_TIMEOUT)
        except QmpError as error:
            raise DebuggerError(str(error)) from error

    def _execute(self, command: str) -> str:
        try:
            return str(gdb.execute(command, to_string=True))
        except gdb.error as error:
            raise DebuggerError(str(error)) from error

    def read_physical(self, address: int, length: int) -> Optional[bytes]:
        try:
            if '"OK"' not in self._execute("maint packet Qqemu.PhyMemMode:1"):
                return None
            try:
                return bytes(gdb.selected_inferior().read_memory(address, length))
            finally:
                self._execute("maint packet Qqemu.PhyMemMode:0")
        except (gdb.error, DebuggerError, OverflowError):
            return None

    def evaluate(self, expression: str) -> int:
        try:
            value = gdb.parse_and_eval(expression)
            if value.type.strip_typedefs().code in (gdb.TYPE_CODE_FUNC, gdb.TYPE_CODE_ARRAY):
                value = value.address
            return int(value.cast(gdb.lookup_type("unsigned long"))) & MASK64
        except (gdb.error, OverflowError, ValueError) as error:
            raise DebuggerError(f"{expression}: {error}") from error

    def hardware_break(
        self, address: int, condition: Optional[Callable[[], bool]] = None
    ) -> Breakpoint:
        place = f"*{address:#x}"
        try:
            if condition is not None:
                silent = _Silent(place, condition)
                self._silent.append(silent)
                return _Wrapped(silent)
            return _Wrapped(gdb.Breakpoint(place, type=gdb.BP_HARDWARE_BREAKPOINT))
        except gdb.error as error:
            raise DebuggerError(f"no breakpoint at {address:#x}: {error}") from error

    def breakpoints(self) -> tuple[Breakpoint, ...]:
        own = [silent for silent in self._silent if silent.is_valid()]
        users = [p for p in gdb.breakpoints() if p.type in _KINDS and p.number > 0]
        return tuple(_Wrapped(point) for point in [*users, *own])

    def step_alone(self, cpu: int) -> None:
        previous = gdb.selected_thread()
        locking = gdb.parameter("scheduler-locking")
        self.select(cpu)
        self._execute("set scheduler-locking on")
        try:
            with _unseen():
                self._execute("stepi")
        finally:
            self._execute(f"set scheduler-locking {locking}")
            if previous is not None and previous.is_valid():
                previous.switch()

    def replace_symbols(self, path: str, old: Optional[int], new: int) -> None:
        if old is not None:
            self._execute(f"remove-symbol-file -a {old:#x}")
        self._execute(f"add-symbol-file {shlex.quote(path)} -o {new:#x}")

    def write(self, text: str) -> None:
        try:
            gdb.write(text)
        except UnicodeError:
            gdb.write(text.encode("ascii", "replace").decode("ascii"))

    # -- what only the entry point needs

    def connect(self, kernel: Optional[str], offset: int, socket_path: str) -> None:
        """Read the symbols of the kernel, which runs `offset` from where it is linked, and attach
        to the stub.  Raises DebuggerError."""
        for setting in ("pagination off", "debuginfod enabled off"):
            try:
                self._execute(f"set {setting}")
            except DebuggerError:
                pass  # a GDB without this setting needs none
        self._execute("set architecture i386:x86-64")
        self._execute("set disassembly-flavor intel")
        if kernel is not None:
            self._execute(f"file {shlex.quote(kernel)}")
            if offset:
                self._execute(f"symbol-file {shlex.quote(kernel)} -o {offset:#x}")
        self._execute(f"target remote {socket_path}")
        # Other CPUs stand still while one is stepped: each of them stops where it should.
        self._execute("set scheduler-locking step")
        # Leaving asks nothing: the machine is ours.  Everything else does: without confirmation a
        # second Ctrl-C, while GDB waits for the first to work, would disconnect it.
        gdb.execute("define hook-quit\nset confirm off\nend")

    def program(self) -> Optional[str]:
        """The file whose symbols GDB has loaded."""
        name = gdb.current_progspace().filename
        return str(name) if name else None

    def registers(self) -> dict[str, int]:
        """The selected CPU's registers by the stub's names; what is no number is left out."""
        found: dict[str, int] = {}
        frame = gdb.newest_frame()
        for register in frame.architecture().registers():
            try:
                found[register.name] = int(frame.read_register(register.name)) & MASK64
            except (gdb.error, ValueError, OverflowError):
                continue  # a vector, or not available
        return found

    def leave(self, resume: bool) -> None:
        """Part from the stub: its machine runs on, or stays as it stands."""
        self._execute("detach" if resume else "disconnect")

    def on_stop(self, handler: Callable[[str], None]) -> None:
        """Call `handler` at each stop with the signal's name, "" where there is none."""

        def stopped(event: gdb.StopEvent) -> None:
            handler(str(getattr(event, "stop_signal", "")))

        gdb.events.stop.connect(stopped)

    def on_change(self, handler: Callable[[], None]) -> None:
        """Call `handler` whenever registers or memory may be other than they were."""
        for name in ("cont", "memory_changed", "register_changed", "exited"):
            getattr(gdb.events, name).connect(lambda event: handler())

    def on_exit(self, handler: Callable[[Optional[int]], None]) -> None:
        """Call `handler` with the exit code when the machine has gone."""
        gdb.events.exited.connect(lambda event: handler(getattr(event, "exit_code", None)))

    def before_going_on(self, commands: Sequence[str], handler: Callable[[str], None]) -> None:
        """Call `handler` with the command's name before GDB executes any of `commands`."""

        class GoingOn(gdb.Command):  # type: ignore[misc]
            """Used by lamp's hooks: what must happen before the machine goes on."""

            def __init__(self) -> None:
                super().__init__("lamp-going-on", gdb.COMMAND_OBSCURE)

            def invoke(self, argument: str, from_tty: bool) -> None:
                try:
                    handler(argument)
                except DebuggerError as error:
                    raise gdb.GdbError(str(error)) from error

        GoingOn()
        for command in commands:
            gdb.execute(f"define hook-{command}\nlamp-going-on {command}\nend")

    def add_commands(
        self,
        prefix_help: str,
        commands: Sequence[tuple[str, str]],
        run: Callable[[str, Sequence[str]], str],
        complete: Callable[[str, str], Sequence[str]],
    ) -> None:
        """Define `lamp` and its subcommands: (name, help) each.  `run` gets the name and the
        words behind it and returns what to print; DebuggerError becomes GDB's own error."""
        prefix = type("Lamp", (gdb.Command,), {"__doc__": prefix_help})
        prefix("lamp", gdb.COMMAND_DATA, prefix=True)
        for name, text in commands:
            _command(name, text, run, complete, self.write)


@contextmanager
def _unseen() -> Iterator[None]:
    """Nothing reaches standard output: GDB shows where a step ended even when it is asked to give
    the text back."""
    gdb.flush()
    kept = os.dup(1)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.close(nowhere)
    try:
        yield
    finally:
        gdb.flush()
        os.dup2(kept, 1)
        os.close(kept)


def _command(
    name: str,
    text: str,
    run: Callable[[str, Sequence[str]], str],
    complete: Callable[[str, str], Sequence[str]],
    write: Callable[[str], None],
) -> None:
    def invoke(self: gdb.Command, argument: str, from_tty: bool) -> None:
        self.dont_repeat()
        try:
            write(run(name, gdb.string_to_argv(argument)))
        except DebuggerError as error:
            raise gdb.GdbError(str(error)) from error

    def completions(self: gdb.Command, line: str, word: str) -> Sequence[str]:
        return complete(name, word or "")

    members = {"__doc__": text, "invoke": invoke, "complete": completions}
    type("Lamp_" + name, (gdb.Command,), members)(f"lamp {name}", gdb.COMMAND_DATA)


def quit_gdb(code: int) -> None:
    """End GDB."""
    gdb.execute(f"quit {code}")
