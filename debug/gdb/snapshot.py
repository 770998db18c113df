# SPDX-License-Identifier: BSD-2-Clause
"""The machine at one stop: every CPU's registers, its memory and its stages, fetched once."""

from __future__ import annotations

import re
from typing import Optional

from debug.evidence import NoSymbols, Registers, StageEvent, Symbols
from debug.gdb.debugger import Debugger, DebuggerError
from debug.gdb.memory import StoppedMemory
from debug.sources.qemu_text import parse_registers, split_cpus
from debug.stages.memory import MemoryTrace, find_control, read_memory
from debug.x86.linear import LinearMemory
from debug.x86.modes import linear_pc

MAX_APIC_ID = 1024  # IDs that are asked for before a CPU without one is given up

_LAPIC_OF = re.compile(r"APIC state for CPU\s+(\d{1,5})\b")
_HOST_THREAD = re.compile(r"CPU #(\d{1,5}):.*?\bthread_id=(\d{1,10})")


class Snapshot:
    """What is fetched is kept until `clear()`; only APIC IDs outlive it, for they never change."""

    def __init__(self, debugger: Debugger, symbols: Symbols = NoSymbols()) -> None:
        self.debugger = debugger
        self.symbols = symbols
        self.memory = StoppedMemory(debugger)
        self._texts: Optional[dict[int, str]] = None
        self._parsed: dict[int, tuple[Registers, Optional[bool]]] = {}
        self._trace: Optional[MemoryTrace] = None
        self._control: Optional[int] = None
        self._apic_ids: Optional[dict[int, int]] = None

    def clear(self) -> None:
        """The machine has run, or somebody wrote to it."""
        self.memory.clear()
        self._texts = None
        self._parsed.clear()
        self._trace = None

    # -- CPUs

    def cpus(self) -> tuple[int, ...]:
        """The indices of all CPUs.  Raises DebuggerError when not connected."""
        found = self.debugger.cpus()
        if not found:
            raise DebuggerError(
                "not connected to a machine: `target remote` connects, `make gdb` starts one"
            )
        return found

    def chosen(self, cpu: Optional[int] = None) -> int:
        """`cpu`, or the selected one.  Raises DebuggerError if there is no such CPU."""
        cpus = self.cpus()
        index = self.debugger.selected() if cpu is None else cpu
        if index is None or index not in cpus:
            raise DebuggerError(f"there is no CPU {index}: there are CPUs 0 to {cpus[-1]}")
        return index

    def texts(self) -> dict[int, str]:
        """The monitor's `info registers` of each CPU."""
        if self._texts is None:
            self.cpus()
            self._texts = split_cpus(self.debugger.monitor("info registers -a"))
        return self._texts

    def registers(self, cpu: int) -> Registers:
        """All registers of a CPU with the hidden parts of its segments."""
        return self._of(cpu)[0]

    def halted(self, cpu: int) -> Optional[bool]:
        return self._of(cpu)[1]

    def _of(self, cpu: int) -> tuple[Registers, Optional[bool]]:
        if cpu not in self._parsed:
            self._parsed[cpu] = parse_registers(self.texts().get(cpu, ""))
        return self._parsed[cpu]

    def linear(self, cpu: int) -> LinearMemory:
        """Memory as this CPU sees it."""
        return LinearMemory(self.memory, self.registers(cpu))

    def pc(self, cpu: int) -> Optional[int]:
        """The linear address of the CPU's next instruction."""
        return linear_pc(self.registers(cpu))

    def apic_id(self, cpu: int) -> Optional[int]:
        return self.apic_ids().get(cpu)

    def apic_ids(self) -> dict[int, int]:
        """APIC ID of each CPU, as far as the monitor tells."""
        if self._apic_ids is None:
            wanted, found = set(self.cpus()), dict[int, int]()
            for apic_id in range(MAX_APIC_ID):
                if not wanted - found.keys():
                    break
                owner = _LAPIC_OF.search(self.lapic(apic_id))
                if owner:
                    found.setdefault(int(owner[1]), apic_id)
            self._apic_ids = found
        return self._apic_ids

    def lapic(self, apic_id: Optional[int]) -> str:
        """The monitor's `info lapic`; empty where there is none."""
        if apic_id is None:
            return ""
        try:
            return self.debugger.monitor(f"info lapic {apic_id}")
        except DebuggerError:
            return ""

    def host_threads(self) -> dict[int, int]:
        """The host thread that runs each CPU."""
        found = _HOST_THREAD.findall(self.debugger.monitor("info cpus"))
        return {int(cpu): int(thread) for cpu, thread in found}

    # -- stages

    def trace(self) -> MemoryTrace:
        """The stage record in memory; while the BSP is alone, the one in the kernel's image."""
        if self._trace is None:
            self._trace = self._find_trace()
        return self._trace

    def _find_trace(self) -> MemoryTrace:
        if self._control is not None:
            found = read_memory(self.memory, self._control)
            if found.control is not None:
                return found
        self._control = find_control(self.memory)
        if self._control is not None:
            return read_memory(self.memory, self._control)
        early = self.symbols.address("boot_trace_control")
        if early is not None:
            found = read_memory(self.memory, early)
            if found.control is not None:
                return found
        return MemoryTrace(None, (), ("no stage record in memory",))

    def stages(self, cpu: int) -> tuple[StageEvent, ...]:
        """What this CPU has lit so far, oldest first."""
        apic_id = self.apic_id(cpu)
        for record in self.trace().cpus:
            if record.apic_id == apic_id:
                return record.events
        return ()
