# SPDX-License-Identifier: BSD-2-Clause
"""The exceptions in a Bochs log, and which of them were raised while which was delivered.

Pure.  With the CPU's debug level in the log, each exception is a line of its own:

    exception(0x0e): error_code=0002                 raised
    interrupt(): vector = 0e, TYPE = 3, EXT = 1      its delivery begins
    interrupt(long mode): vector must be within ...  its delivery fails (level e)
    exception(0x0d): error_code=0073                 raised by the failed delivery
    exception(0x08): error_code=0000                 the two make a double fault

Without it only the failed deliveries are there, and only some name their vector.
"""

from __future__ import annotations

import re
from collections import deque
from dataclasses import dataclass, field, replace
from typing import Optional

from debug.evidence import EventKind, ExceptionEvent, Registers

DOUBLE_FAULT = 8
HAS_ERROR_CODE = frozenset((8, 10, 11, 12, 13, 14, 17, 21, 29, 30))
MAX_REASON = 512  # characters
MAX_FIRST = 64  # exceptions kept of the beginning
MAX_INTERRUPTS = 64  # kept: they must not drive exceptions out

_RAISED = re.compile(r"^exception\(0x([0-9a-f]{1,2})\): error_code=([0-9a-f]{1,8})")
_DELIVERS = re.compile(r"^interrupt\(\): vector = ([0-9a-f]{1,2}), TYPE = ([0-9]{1,2})")
_PAGE_FAULT = re.compile(r"^page fault for address ([0-9a-f]{8,16}) ?@ ?([0-9a-f]{8,16})")
_FAILED = re.compile(r"^interrupt\(.{0,20}\)")
_NAMED_VECTOR = re.compile(r"vector=0x([0-9a-f]{1,2})")
_WORTH = re.compile(r"not present|reserved|generate #|page fault|protection|attempt|violation")

# Bochs's TYPE of an interrupt(): 0 external, 2 NMI, 3 hardware exception, 4 INT n,
# 5 INT1, 6 INT3 and INTO.
_EXTERNAL, _SOFTWARE = 0, (4, 5, 6)


@dataclass
class _Cpu:
    tick: int = -1
    reason: list[str] = field(default_factory=list)
    cr2: Optional[int] = None
    rip: Optional[int] = None  # of the instruction that a page fault names
    delivering: Optional[int] = None  # the vector of the last interrupt() at this tick
    failed: bool = False  # that delivery was seen to fail
    raised: Optional[int] = None  # the last exception whose delivery has not begun
    chain: list[int] = field(default_factory=list)  # serial numbers of the events that belong


class ChainReader:
    """Takes the lines of all CPUs in order; keeps the first exceptions and the last `limit`."""

    def __init__(self, limit: int) -> None:
        self._events: deque[tuple[int, ExceptionEvent]] = deque(maxlen=limit)
        self._first: list[tuple[int, ExceptionEvent]] = []  # the first in time is the cause
        self._interrupts: deque[tuple[int, ExceptionEvent]] = deque(maxlen=MAX_INTERRUPTS)
        self._serial = 0
        self._cpus: dict[int, _Cpu] = {}
        self.detailed = False

    def clear(self) -> None:
        """What was until now, or since the last shutdown, is the firmware's."""
        deaths = (at for at, event in self._events if event.kind is EventKind.TRIPLE_FAULT)
        last = max(deaths, default=0)
        for events in (self._events, self._interrupts):
            kept = [numbered for numbered in events if numbered[0] <= last]
            events.clear()
            events.extend(kept)
        self._first = [numbered for numbered in self._first if numbered[0] <= last]
        self._cpus.clear()

    def events(self) -> tuple[ExceptionEvent, ...]:
        # What is still among the last has the better version there.
        both = dict([*self._first, *self._events, *self._interrupts])
        return tuple(both[serial] for serial in sorted(both))

    def take(self, tick: int, cpu: int, level: str, text: str) -> None:
        """One log line of a CPU."""
        state = self._cpus.setdefault(cpu, _Cpu())
        if state.tick != tick:
            self._cpus[cpu] = state = _Cpu(tick=tick)
        if found := _RAISED.match(text):
            self.detailed = True
            self._raise(cpu, state, int(found[1], 16), int(found[2], 16))
        elif found := _DELIVERS.match(text):
            self._deliver(cpu, state, int(found[1], 16), int(found[2]))
        elif level == "e":
            self._error(cpu, state, text)
        elif found := _PAGE_FAULT.match(text):
            state.cr2, state.rip = int(found[1], 16), int(found[2], 16)
            state.reason.append(text)
        elif level == "d" and _WORTH.search(text):
            state.reason.append(text)

    def _raise(self, cpu: int, state: _Cpu, vector: int, error_code: int) -> None:
        outer: Optional[int] = -1
        if vector == DOUBLE_FAULT and state.raised is not None:
            # The first of the two: what was being delivered when the second came.
            outer = state.delivering if state.delivering is not None else state.raised
        elif state.delivering is not None and (state.failed or error_code & 1):
            outer = state.delivering
        elif state.delivering is not None:
            outer = None  # while it was delivered, or by the handler's first instructions
        if outer == -1:
            state.chain.clear()
        state.chain.append(
            self._append(
                ExceptionEvent(
                    kind=EventKind.EXCEPTION,
                    vector=vector,
                    registers=Registers(rip=state.rip if vector == 14 else None),
                    error_code=error_code if vector in HAS_ERROR_CODE else None,
                    cr2=state.cr2 if vector == 14 else None,
                    cpu=cpu,
                    while_delivering=outer,
                    tick=state.tick,
                    reason=_join(state.reason),
                )
            )
        )
        state.reason.clear()
        state.cr2 = state.rip = None
        state.raised = vector
        state.failed = False

    def _deliver(self, cpu: int, state: _Cpu, vector: int, kind: int) -> None:
        if state.raised != vector and (kind == _EXTERNAL or kind in _SOFTWARE):
            state.chain.clear()
            software = kind in _SOFTWARE
            state.chain.append(
                self._append(
                    ExceptionEvent(
                        kind=(
                            EventKind.SOFTWARE_INTERRUPT
                            if software
                            else EventKind.HARDWARE_INTERRUPT
                        ),
                        vector=vector,
                        registers=Registers(),
                        cpu=cpu,
                        while_delivering=-1,
                        tick=state.tick,
                    )
                )
            )
        state.delivering, state.raised, state.failed = vector, None, False

    def _error(self, cpu: int, state: _Cpu, text: str) -> None:
        if text.startswith("WARNING:"):
            return
        if _FAILED.match(text):
            state.failed = True
            named = _NAMED_VECTOR.search(text)
            if state.delivering is None and not self.detailed and named is not None:
                # No debug level: the failed delivery is all there is of this exception.
                vector = int(named[1], 16)
                state.chain.append(
                    self._append(
                        ExceptionEvent(
                            kind=EventKind.EXCEPTION,
                            vector=vector,
                            registers=Registers(),
                            cpu=cpu,
                            tick=state.tick,
                            reason=_join([*state.reason, text]),
                        )
                    )
                )
                state.reason.clear()
                return
        state.reason.append(text)

    def triple_fault(self, tick: int, cpu: int, vector: int, registers: Registers) -> None:
        """The CPU shut down; `registers` are those of its dump at this tick."""
        state = self._cpus.get(cpu)
        if state is None or state.tick != tick:
            state = _Cpu(tick=tick)
        error_code, reason = None, _join(state.reason)
        if self.detailed and state.chain and self._events:
            # The last exception is the one that could not be resolved: it becomes the mark.
            serial, last = self._events[-1]
            if serial == state.chain[-1] and last.vector == vector:
                self._events.pop()
                state.chain.pop()
                self._first = [numbered for numbered in self._first if numbered[0] != serial]
                error_code, reason = last.error_code, last.reason
        members = set(state.chain)
        for events in (self._events, self._interrupts):
            for place, (serial, event) in enumerate(events):
                if serial in members:
                    events[place] = (serial, replace(event, registers=registers))
        self._append(
            ExceptionEvent(
                kind=EventKind.TRIPLE_FAULT,
                vector=vector,
                registers=registers,
                error_code=error_code,
                cpu=cpu,
                while_delivering=DOUBLE_FAULT,
                tick=tick,
                reason=reason,
            )
        )

    def _append(self, event: ExceptionEvent) -> int:
        self._serial += 1
        interrupt = event.kind in (EventKind.HARDWARE_INTERRUPT, EventKind.SOFTWARE_INTERRUPT)
        if not interrupt and len(self._first) < MAX_FIRST:
            self._first.append((self._serial, event))
        (self._interrupts if interrupt else self._events).append((self._serial, event))
        return self._serial


def _join(parts: list[str]) -> str:
    return "; ".join(parts[-8:])[:MAX_REASON]
