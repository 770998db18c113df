# SPDX-License-Identifier: BSD-2-Clause
"""`make bochs`: the machine under Bochs's debugger, for a person or without one.

For a person: at each stop a block says where the machine is, and a prompt takes `c` (or an empty
line) to go on, `why` for a diagnosis, `q` to end, Ctrl-C to stop a running machine, and every other
line as a command for Bochs's own debugger.  What the guest prints appears as it comes.  When the
guest dies the diagnosis follows by itself, and the dead machine can still be looked at.

Headless: the blocks and the console are printed and nothing is asked.
"""

from __future__ import annotations

import contextlib
import re
import signal
import sys
from dataclasses import dataclass, field
from types import FrameType
from typing import Any, Callable, Iterator, Mapping, Optional, Sequence

from debug.bochs.narrator import describe
from debug.bochs.script import TRAMPOLINE, Breakpoint, Numbered, commands, numbered
from debug.bochs.stop_text import Reason, Stop, parse_stop
from debug.evidence import Cpu, Ending, Evidence, NoSymbols, StageEvent, Symbols
from debug.report.safe import safe
from debug.sources.bochs_live import BochsMachine, Options
from debug.sources.bochs_process import DebuggerError
from debug.stages.console import Cleaner
from debug.stages.table import BUILT_IN
from debug.stages.trace import decode
from debug.x86.modes import linear_pc

HELP = """\
  c or an empty line   go on to the next stop
  s [n]                execute one instruction, or n
  why                  the diagnosis of a machine that was stopped with Ctrl-C or has ended
  q                    end
  anything else        a command for Bochs's debugger: r, sreg, creg, x, xp, u, page, info gdt, help …
"""
_RUNS = re.compile(r"^(c|cont|continue|s|step|n|next|p|proceed)\b")
_ENDS = re.compile(r"^(q|quit|exit)\b")
# Commands that would wait at the terminal, load files or change how Bochs itself is run.
_REFUSED = re.compile(r"^(instrument|restore|source|load|trace-mem)\b")

IDLE, QUIET = 1.0, 1.5  # seconds, headless

Explain = Callable[[Evidence, Mapping[str, bytes]], None]
Read = Callable[[str], Optional[str]]


def explain_on_terminal(evidence: Evidence, streams: Mapping[str, bytes]) -> None:
    """Print the diagnosis, as `lamppost run` does."""
    from dataclasses import replace

    from debug.report import terminal
    from debug.report.diagnosis import diagnose
    from debug.sources.elf_symbols import ElfSymbols
    from debug.stages.elf import own_table
    from debug.stages.gather import stages_of

    stages = evidence.stages or stages_of(streams, evidence.memory)
    symbols = evidence.symbols
    files = symbols.files if isinstance(symbols, ElfSymbols) else ()
    table = own_table(file.path for file in files)
    terminal.write(diagnose(replace(evidence, stages=stages, stage_table=table)), sys.stdout)


def read_line(prompt: str) -> Optional[str]:
    """A line from the person; None at the end of input."""
    with contextlib.suppress(ImportError):
        import readline  # noqa: F401  (line editing)
    try:
        return input(prompt)
    except EOFError:
        return None
    except KeyboardInterrupt:
        print()
        return ""


@dataclass(frozen=True)
class Settings:
    """How to run.

    points: where to stop; symbols: names for addresses; headless: ask nothing; timeout: seconds,
    heeded when headless; until: a regular expression on the consoles that ends a headless run;
    cpus: how many CPUs must come up; moved: the settings for a trampoline that the kernel put into
    another page than `points` and `symbols` are for.
    """

    points: tuple[Breakpoint, ...] = ()
    symbols: Symbols = field(default_factory=NoSymbols)
    headless: bool = False
    timeout: float = 60.0
    until: Optional[str] = None
    cpus: Optional[int] = None
    trampoline: int = TRAMPOLINE
    moved: Optional[Callable[[int], Settings]] = None


class Console:
    """One session.  `write` takes text for the person, `read` asks for a line."""

    def __init__(
        self,
        argv: Sequence[str],
        settings: Settings,
        explain: Explain = explain_on_terminal,
        write: Optional[Callable[[str], None]] = None,
        read: Read = read_line,
    ) -> None:
        self._argv = list(argv)
        self._settings = settings
        self._explain = explain
        self._write_out = write if write is not None else _to_stdout
        self._read = read
        self._cleaner = Cleaner()
        self._column = 0
        self._interrupted = False
        self._stepped = False
        self._ended = False  # by the person
        self._armed: set[int] = set()
        self._last: Optional[tuple[int, Optional[int], Optional[int]]] = None
        self._points: dict[int, Numbered] = {}
        self._next = 1  # the number that Bochs gives to the next breakpoint
        self._reached: dict[int, str] = {}  # CPU: the point that it was shown at last
        self.stops: list[Stop] = []

    def run(self) -> Evidence:
        """The whole session; the evidence of how it ended.

        Raises what BochsMachine raises for a command line that can't be run.
        """
        settings = self._settings
        headless = settings.headless
        options = Options(
            timeout=settings.timeout if headless else float("inf"),
            until=settings.until if headless else None,
            cpus=settings.cpus,
            symbols=settings.symbols,
            idle=IDLE if headless else None,
            quiet=QUIET,
            on_output=self._guest,
            on_start=self._start,
            on_stop=self._stop,
            break_when=None if headless else self._take_interrupt,
        )
        with BochsMachine(self._argv, options) as machine:
            with contextlib.nullcontext() if headless else self._ctrl_c():
                evidence = machine.observe()
            self._finished(machine, evidence)
            return evidence

    # -- what happens

    def _start(self, machine: BochsMachine) -> None:
        self._set_points(machine)
        if not any(point.entry for point in self._settings.points):
            self._arm(machine, 0)
        if not self._settings.headless:
            self._write(
                "Bochs's debugger; at a stop, `c` goes on and `help lamp` lists the rest.\n"
            )

    def _set_points(self, machine: BochsMachine) -> None:
        for number in self._points:
            machine.debugger(f"d {number}")
        points = numbered(self._settings.points)
        self._points = dict(enumerate(points, self._next))
        self._next += len(points)
        for command in commands(self._settings.points):
            machine.debugger(command)

    def _follow(self, machine: BochsMachine) -> None:
        """Stop where the kernel says that the trampoline is, if that is elsewhere."""
        code = BUILT_IN.by_name["BSP_TRAMPOLINE"].code
        pages = [event.argument for event in self._stages(machine) if event.code == code]
        page, old = pages[-1] if pages else None, self._settings.trampoline
        if self._settings.moved is None or page is None or page == old:
            return
        self._settings = self._settings.moved(page)
        machine.use_symbols(self._settings.symbols)
        self._set_points(machine)
        self._write(f"the trampoline is at {page:#x}, not at {old:#x}: breakpoints moved\n")

    def _stop(self, machine: BochsMachine, text: str) -> Optional[str]:
        stop = parse_stop(text)
        self.stops.append(stop)
        del self.stops[:-1000]
        shown = [self._show(machine, stop, reason) for reason in stop.reasons]
        if self._settings.headless or (stop.reasons and not any(shown)):
            return "c"
        if not stop.reasons:
            self._write("stopped\n" + _lines(text) + "\n")
        return self._ask(machine, bool(stop.reasons) or self._stepped)

    def _show(self, machine: BochsMachine, stop: Stop, reason: Reason) -> bool:
        """Show why one CPU stopped; False if it was shown at this very place before."""
        at = self._points.get(reason.breakpoint or 0)
        if at is not None and at.point.relocated:
            self._follow(machine)
            return False
        cpu = machine.read_cpu(reason.cpu)
        if cpu is None:
            return False
        self._arm_if_reached(machine, reason)
        here = (cpu.index, cpu.registers.rip, stop.tick)
        if here == self._last:
            return False  # a breakpoint where a mode switch has just stopped
        self._last = here
        if self._shown_already(reason, cpu):
            return False
        self._write(
            "\n"
            + describe(
                reason,
                cpu,
                stop.places.get(reason.cpu),
                self._settings.points,
                self._settings.symbols,
                self._stages(machine),
            )
        )
        return True

    def _shown_already(self, reason: Reason, cpu: Cpu) -> bool:
        """Whether this is the second breakpoint of a stop whose first was not passed over."""
        one = self._points.get(reason.breakpoint or 0)
        if one is not None and one.behind and self._reached.pop(cpu.index, "") == one.point.name:
            return True
        pc = linear_pc(cpu.registers)
        for point in self._settings.points:
            if point.address == pc or (one is not None and one.point == point and not one.behind):
                self._reached[cpu.index] = point.name
        return False

    def _arm_if_reached(self, machine: BochsMachine, reason: Reason) -> None:
        """A CPU that has reached a breakpoint runs the kernel's code: watch its mode from here.

        The INIT in front of the trampoline switched that off.
        """
        one = self._points.get(reason.breakpoint or 0)
        if one is None:
            return
        first = one.point.name == "the trampoline" and (
            not one.behind or self._reached.get(reason.cpu) != one.point.name
        )
        if first or reason.cpu not in self._armed:
            self._arm(machine, reason.cpu)

    def _arm(self, machine: BochsMachine, cpu: int) -> None:
        """Stop at the CPU's mode switches.  The command toggles, and an INIT switches it off."""
        machine.debugger(f"set $cpu = {cpu}")
        if "disabled" in machine.debugger("modebp"):
            machine.debugger("modebp")
        self._armed.add(cpu)

    def _stages(self, machine: BochsMachine) -> tuple[StageEvent, ...]:
        streams = machine.streams
        return decode(streams.get("e9") or streams.get("com1") or b"").events("e9")

    def _finished(self, machine: BochsMachine, evidence: Evidence) -> None:
        if self._ended:
            return
        self._write("\n")
        dead = evidence.ending is not Ending.EXITED
        if dead or not self._settings.headless:
            self._explain(evidence, machine.streams)
        if self._settings.headless or not evidence.cpus:
            return
        try:
            culprit = next((cpu.index for cpu in evidence.cpus if cpu.shutdown), 0)
            machine.debugger(f"set $cpu = {culprit}")
            while (line := self._read("bochs (ended)> ")) is not None and not _ENDS.match(line):
                if _RUNS.match(line) or not line.strip():
                    self._write("the machine has ended; q ends the session\n")
                elif line.strip() == "why":
                    self._explain(evidence, machine.streams)
                else:
                    self._command(machine, line)
        except DebuggerError:
            pass  # Bochs has gone too

    # -- the person

    def _ask(self, machine: BochsMachine, on_its_way: bool) -> Optional[str]:
        """The command to go on with; `on_its_way`: at a breakpoint or a step, not interrupted."""
        self._stepped = False
        while True:
            line = self._read("bochs> ")
            if line is None or _ENDS.match(line.strip()):
                self._ended = True
                return None
            line = line.strip()
            if not line:
                return "c"
            if _RUNS.match(line):
                self._last = None
                self._stepped = not line.startswith("c")
                return line
            if line == "why" and on_its_way:
                self._write("the machine is on its way: let it run (c), Ctrl-C when it hangs\n")
                continue
            self._command(machine, line)

    def _command(self, machine: BochsMachine, line: str) -> None:
        if line.strip() == "help lamp":
            self._write(HELP)
        elif line.strip() == "why":
            self._explain(machine.look(), machine.streams)
        elif _REFUSED.match(line.strip()):
            self._write("not from here\n")
        else:
            self._write(_lines(machine.debugger(line.strip())) + "\n")

    def _take_interrupt(self) -> bool:
        taken, self._interrupted = self._interrupted, False
        return taken

    @contextlib.contextmanager
    def _ctrl_c(self) -> Iterator[None]:
        """Ctrl-C stops the machine, not us."""

        def note(number: int, frame: Optional[FrameType]) -> None:
            self._interrupted = True

        before: Any = signal.signal(signal.SIGINT, note)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)

    # -- the terminal

    def _guest(self, data: bytes) -> None:
        text = self._cleaner.feed(data)
        if text:
            self._write_out(text)
            self._column = 0 if text.endswith("\n") else 1

    def _write(self, text: str) -> None:
        """Our own words begin on a line of their own."""
        if self._column:
            self._write_out("\n")
            self._column = 0
        self._write_out(text)


def _lines(text: str) -> str:
    """The debugger's words, which hold the guest's, safe to print."""
    return "\n".join(safe(line) for line in text.splitlines()).rstrip()


def _to_stdout(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()
