# SPDX-License-Identifier: BSD-2-Clause
"""Reader of QEMU's `-d int,cpu_reset` log, with the lines of its APIC trace events among them.

Pure: bytes in, a QemuLog out, never an exception.  A log of any length is read through an Excerpt,
and only the last records of each class are kept and have their registers parsed, so that memory
and time are bounded.

What becomes which event, in order:

- `check_exception old: A new B` followed by a record `v=B`: one EXCEPTION B.
- ... followed by a record `v=08` because A and B make a double fault: an EXCEPTION B that was
  raised while delivering A (registers of the record, no error code: the log has none), and then
  EXCEPTION 8.
- ... with no record, as in real mode: EXCEPTION B without registers.
- `Servicing hardware INT=V` makes the record `v=V` behind it a HARDWARE_INTERRUPT, whatever V is.
- `Triple fault`, or a `check_exception old: 0x8` where that line is not logged: TRIPLE_FAULT with
  the vector that was raised last and the registers of the last record.
"""

from __future__ import annotations

import re
from collections import deque
from dataclasses import dataclass, field, replace
from typing import Iterable, Optional

from debug.evidence import EventKind, ExceptionEvent, Fragment, IpiEvent, ResetEvent
from debug.sources.excerpt import Excerpt, Piece
from debug.sources.qemu_ipi import IcrWrites
from debug.sources.qemu_log_events import Entry, LogEvent, event_of
from debug.sources.qemu_text import is_blank, parse_registers

ICR_WRITE = b"apic_mem_writel 0x300 = 0x000"
# Ends, and the writes of INIT and SIPI: with a log that floods they may stand anywhere in it.
MARKERS = (
    *(b"Triple fault", b"CPU Reset", b"check_exception old: 0x8 "),
    *(ICR_WRITE + icr for icr in (b"045", b"0c5", b"046", b"006", b"0c6")),
    *(ICR_WRITE + icr for icr in (b"c45", b"cc5", b"c46", b"c06", b"cc6")),
)
# The same in x2APIC mode, where the destination stands before the delivery mode and the vector.
_X2APIC_WRITE = b"apic_register_write register 0x30 = 0x"
_STARTS = re.compile(_X2APIC_WRITE + rb"[0-9a-f]{0,9}(?:[4c]5|[04c]6)[0-9a-f]{2}\r?\n")


def excerpt(head: int, tail: int) -> Excerpt:
    """What is kept of a QEMU log, however long it is."""
    return Excerpt(head, tail, MARKERS, stem=ICR_WRITE, lines={_X2APIC_WRITE: _STARTS})


MAX_FIRST = 32  # exceptions kept of the beginning: the first in time is the cause
MAX_EXCEPTIONS = 256  # and of the end, all with registers
MAX_INTERRUPTS = 64
MAX_RESETS = 1024
MAX_DUMP_LINES = 48  # of one record: with FPU and XMM registers it has 45

ERROR_CODE_VECTORS = frozenset((8, 10, 11, 12, 13, 14, 17, 21, 29, 30))
_CHECK = re.compile(r"check_exception old: 0x([0-9a-f]{1,8}) new 0x([0-9a-f]{1,8})")
_RECORD = re.compile(
    r"^\s*(?:([0-9]{1,10}):)?\s*v=([0-9a-f]{2})\s+e=([0-9a-f]{4,8})\s+i=([01])(?:\s+cpl=([0-3]))?"
)
_RECORD_CR2 = re.compile(r"\bCR2=([0-9a-f]{8,16})")
_RECORD_IP = re.compile(r"\bIP=[0-9a-f]{4}:([0-9a-f]{8,16})\b")
_HARDWARE = re.compile(r"Servicing hardware INT=0x([0-9a-f]{1,2})\b")
_UNKNOWN_OPCODE = re.compile(r"ILLOPC: ([0-9a-f]{8,16}):((?: [0-9a-f]{2}){1,15})")
_RESET = re.compile(r"CPU Reset \(CPU ([0-9]{1,5})\)")

_QUOTES = b" \t>|`"  # what a page may put in front of a line
_HEADS = frozenset(
    (b"ch", b"Se", b"CP", b"Tr", b"SM", b"IL", b"v=", b"ap", b"qe", *(b"%d" % n for n in range(10)))
)


@dataclass(frozen=True)
class QemuLog:
    """What one log file holds: the first `events` and the last ones, in order; the last `resets`."""

    events: tuple[LogEvent, ...] = ()
    resets: tuple[ResetEvent, ...] = ()
    ipis: tuple[IpiEvent, ...] = ()
    triple_faults: int = 0
    records: int = 0  # `v=` records read
    unread: int = 0  # bytes of the stream that the excerpt left out
    smm: int = 0  # entries to SMM (firmware)
    cut: bool = False  # it ends inside a dump, of which others are whole
    messages: tuple[str, ...] = ()  # lines of QEMU's own: warnings, aborts
    seen: tuple[Fragment, ...] = ()  # the bytes of opcodes that TCG does not know, up to there
    odd_lines: tuple[str, ...] = ()  # samples of lines that are no part of a known record

    @property
    def exceptions(self) -> tuple[ExceptionEvent, ...]:
        return tuple(entry.event for entry in self.events)


@dataclass
class _State:
    first: list[Entry] = field(default_factory=list)
    exceptions: deque[Entry] = field(default_factory=lambda: deque(maxlen=MAX_EXCEPTIONS))
    interrupts: deque[Entry] = field(default_factory=lambda: deque(maxlen=MAX_INTERRUPTS))
    resets: deque[tuple[int, tuple[bytes, ...], int]] = field(
        default_factory=lambda: deque(maxlen=MAX_RESETS)
    )  # the CPU, its dump, and how many triple faults came before
    icr: IcrWrites = field(default_factory=IcrWrites)
    messages: deque[str] = field(default_factory=lambda: deque(maxlen=32))
    seen: deque[Fragment] = field(default_factory=lambda: deque(maxlen=8))
    odd: list[str] = field(default_factory=list)
    number: int = -1
    sequence: int = 0
    records: int = 0
    triple_faults: int = 0
    smm: int = 0
    triple_told: bool = False
    hardware: Optional[int] = None
    pending: Optional[tuple[int, int]] = None  # the last check_exception without its record
    triple_pending: bool = False  # it said old: 0x8, and "Triple fault" has not followed yet
    tail: tuple[bytes, ...] = ()  # what follows the last line that may open a record


class LogReader:
    """Feed it the bytes of one log as they come; `result()` reads what there is by then.

    `head` and `tail` bound the memory, in bytes.
    """

    def __init__(self, head: int = 256 << 10, tail: int = 1 << 20) -> None:
        self._excerpt = excerpt(head, tail)

    def feed(self, chunk: bytes) -> None:
        self._excerpt.feed(chunk)

    @property
    def length(self) -> int:
        """How many bytes came."""
        return self._excerpt.length

    def result(self) -> QemuLog:
        pieces = self._excerpt.pieces()
        log = parse_pieces(pieces)
        return replace(log, unread=self.length - sum(len(piece.data) for piece in pieces))


def read_log(chunks: Iterable[bytes]) -> QemuLog:
    """The log in `chunks`, of any size and number."""
    reader = LogReader()
    for chunk in chunks:
        reader.feed(chunk)
    return reader.result()


def parse_pieces(pieces: Iterable[Piece]) -> QemuLog:
    """The log in the pieces that an Excerpt kept."""
    state = _State()
    for piece in pieces:
        # A page that logs were copied from may have turned spaces into U+00A0.
        lines = piece.data.replace(b"\xc2\xa0", b" ").split(b"\n")
        if piece.start:
            del lines[0]  # the cut may have gone through it
        _parse_lines(state, lines)
        _settle(state, ())
    return _finish(state)


def _parse_lines(state: _State, lines: list[bytes]) -> None:
    heads: list[int] = []
    for index, line in enumerate(lines):
        start = line[:2]
        if start[:1] in _QUOTES and start:
            start = line.lstrip(_QUOTES)[:2]
            if start[:1].isdigit():
                start = start[:1]
        elif start[:1].isdigit():
            start = start[:1]
        if start in _HEADS:
            heads.append(index)
    for position, index in enumerate(heads):
        end = heads[position + 1] if position + 1 < len(heads) else len(lines)
        dump = tuple(lines[index + 1 : min(end, index + MAX_DUMP_LINES)])
        _head(state, lines[index][:4096].lstrip(_QUOTES).decode("ascii", "replace"), dump)
        state.tail = dump


def _head(state: _State, line: str, dump: tuple[bytes, ...]) -> None:
    """One line that may open a record, and the lines up to the next."""
    if found := _RECORD.match(line):
        _record(state, found, line, dump)
    elif found := _CHECK.search(line):
        _settle(state, ())
        old, new = int(found[1], 16), int(found[2], 16)
        state.pending = (-1 if old > 0xFF else old, new)  # no vector: nothing was being delivered
        state.triple_pending = old == 8
        state.triple_told = False
        state.hardware = None
    elif found := _HARDWARE.search(line):
        _settle(state, ())
        _add_interrupt(state, EventKind.HARDWARE_INTERRUPT, int(found[1], 16))
        state.hardware = int(found[1], 16)
    elif "Triple fault" in line:
        _settle(state, ())
        if not state.triple_told:
            _triple(state)
    elif found := _RESET.search(line):
        _settle(state, ())
        state.hardware = None
        state.resets.append((int(found[1]), dump, state.triple_faults))
    elif found := _UNKNOWN_OPCODE.match(line):
        state.seen.append(Fragment(int(found[1], 16), bytes.fromhex(found[2])))
    elif line.startswith("SMM:"):
        _settle(state, ())
        state.smm += line.startswith("SMM: enter")
    elif state.icr.line(line):
        pass
    elif "qemu" in line[:24] and ":" in line:
        state.messages.append(_printable(line.strip())[:400])
    elif len(state.odd) < 32 and line.strip():
        state.odd.append(_printable(line.strip())[:120])


def _printable(text: str) -> str:
    return "".join(character for character in text if character.isprintable())


def _record(state: _State, found: re.Match[str], line: str, dump: tuple[bytes, ...]) -> None:
    state.records += 1
    if found[1]:
        state.number = int(found[1])
    vector, error = int(found[2], 16), int(found[3], 16)
    pending, delivering = state.pending, None
    if pending:
        delivering = pending[0]
        if vector != pending[1] and vector == 8:
            _settle(state, dump)
        state.pending = None
        state.triple_pending = False
    state.triple_told = False
    kind = EventKind.EXCEPTION
    if found[4] == "1":
        kind = EventKind.SOFTWARE_INTERRUPT
    elif state.hardware == vector:
        kind = EventKind.HARDWARE_INTERRUPT
        if state.interrupts and not state.interrupts[-1].dump:
            state.interrupts.pop()  # the line that announced it
    elif vector >= 32 and pending is None:
        kind = EventKind.HARDWARE_INTERRUPT
    state.hardware = None
    cr2, rip = _RECORD_CR2.search(line), _RECORD_IP.search(line)
    entry = Entry(
        state.number,
        state.sequence,
        kind,
        vector,
        error if kind is EventKind.EXCEPTION and vector in ERROR_CODE_VECTORS else None,
        int(cr2[1], 16) if cr2 else None,
        delivering,
        dump,
        int(found[5]) if found[5] else None,
        int(rip[1], 16) if rip else None,
    )
    state.sequence += 1
    if kind is EventKind.EXCEPTION and len(state.first) < MAX_FIRST:
        state.first.append(entry)
    (state.exceptions if kind is EventKind.EXCEPTION else state.interrupts).append(entry)


def _add_interrupt(state: _State, kind: EventKind, vector: int) -> None:
    state.interrupts.append(Entry(state.number, state.sequence, kind, vector))
    state.sequence += 1


def _settle(state: _State, dump: tuple[bytes, ...]) -> None:
    """A check_exception that no record of its own followed is an exception all the same."""
    if state.pending is None:
        return
    old, new = state.pending
    state.pending = None
    state.exceptions.append(
        Entry(
            state.number, state.sequence, EventKind.EXCEPTION, new & 0xFF, delivering=old, dump=dump
        )
    )
    state.sequence += 1
    if state.triple_pending:
        state.triple_pending = False
        _triple(state)
        state.triple_told = True


def _triple(state: _State) -> None:
    last = state.exceptions[-1] if state.exceptions else None
    state.triple_faults += 1
    state.exceptions.append(
        Entry(
            state.number,
            state.sequence,
            EventKind.TRIPLE_FAULT,
            last.vector if last else 8,
            delivering=8,
        )
    )
    state.sequence += 1


def _is_cut(state: _State) -> bool:
    """Whether the last dump lacks its end: EFER, where other ones have it."""
    begun = any(line.lstrip().startswith((b"EAX=", b"RAX=")) for line in state.tail[:1])
    dumps = [dump for _, dump, _ in state.resets] + [entry.dump for entry in state.exceptions]
    whole = any(line.startswith(b"EFER=") for dump in dumps for line in dump)
    return begun and whole and not any(line.startswith(b"EFER=") for line in state.tail)


def _finish(state: _State) -> QemuLog:
    kept = {e.sequence: e for e in (*state.first, *state.exceptions, *state.interrupts)}
    oldest = state.exceptions[0].sequence if state.exceptions else 0
    whole = not state.first or oldest <= state.first[-1].sequence
    events: list[LogEvent] = []
    previous: Optional[ExceptionEvent] = None
    for sequence, entry in sorted(kept.items()):
        # Before the oldest of the last ones some may be missing.
        event = event_of(entry, previous if whole or sequence != oldest else None)
        events.append(LogEvent(entry.number, entry.sequence, event))
        previous = event
    resets: list[ResetEvent] = []
    at_death: set[int] = set()  # the CPUs that the last triple fault reset
    for cpu, dump, life in state.resets:
        if life and life == state.triple_faults:
            if cpu in at_death:
                continue  # each CPU is reset once by it: this belongs to the machine's next life
            at_death.add(cpu)
        registers = parse_registers(b"\n".join(dump).decode("ascii", "replace"))[0]
        if not is_blank(registers):
            resets.append(ResetEvent(cpu, registers))
    return QemuLog(
        events=tuple(events),
        resets=tuple(resets),
        ipis=state.icr.events(),
        triple_faults=state.triple_faults,
        records=state.records,
        smm=state.smm,
        cut=_is_cut(state),
        messages=tuple(state.messages),
        seen=tuple(state.seen),
        odd_lines=tuple(state.odd),
    )
