# SPDX-License-Identifier: BSD-2-Clause
"""Reading a paused QEMU out through its monitor."""

from __future__ import annotations

from typing import Any, Mapping, Optional, Sequence

from debug.evidence import Pic
from debug.sources.qemu_evidence import CpuState, LogParts
from debug.sources.qemu_log import QemuLog
from debug.sources.qemu_text import parse_io_apics, parse_pics, parse_registers, split_cpus
from debug.sources.qmp import QmpClient, QmpClosed, QmpError
from debug.x86.registers import Rflags

MONITOR_TIMEOUT = 20.0  # seconds: the machine may be large and its host busy

CpuList = list[tuple[int, int, str]]  # index, host thread, QOM path


def read_cpus(qmp: QmpClient, earlier: Sequence[str] = ()) -> tuple[CpuList, list[CpuState]]:
    """Every CPU of a paused machine; `earlier`: what `info registers -a` showed before, in order.

    Raises QmpError.
    """
    listed = cpu_list(qmp.command("query-cpus-fast", timeout=MONITOR_TIMEOUT))
    texts = split_cpus(qmp.monitor("info registers -a", MONITOR_TIMEOUT))
    before = [split_cpus(sample) for sample in earlier]
    states = []
    for index, thread, path in listed:
        apic_id = _apic_id(qmp, path)
        lapic = ""
        if apic_id is not None:
            lapic = qmp.monitor(f"info lapic {apic_id}", MONITOR_TIMEOUT)
        text, own = texts.get(index, ""), [sample.get(index, "") for sample in before]
        roamed = len({_mode(one) for one in (*own, text)}) > 1
        last = own[-1] if own else ""
        long = _property(qmp, path, "lm")
        known = long if isinstance(long, bool) else None
        states.append(CpuState(index, thread, text, lapic, apic_id, last, roamed, known))
    return listed, states


def all_rest(sample: str) -> bool:
    """Whether every CPU is halted."""
    rests = [parse_registers(text)[1] for text in split_cpus(sample).values()]
    return bool(rests) and all(rests)


def awake_alone(sample: str) -> tuple[Optional[int], bool]:
    """(the one CPU that is not halted, whether no interrupt wakes another); None if they are more."""
    awake, dozing = [], 0
    for index, text in split_cpus(sample).items():
        registers, halted = parse_registers(text)
        if not halted:
            awake.append(index)
        elif (registers.rflags or 0) & Rflags.IF:
            dozing += 1
    return (awake[0] if len(awake) == 1 else None), not dozing


def _mode(text: str) -> tuple[object, ...]:
    """What a loop that waits for something never changes: CS and CR0."""
    registers = parse_registers(text)[0]
    return registers.segments.get("cs"), registers.get("cr0")


def accelerator(qmp: QmpClient) -> str:
    """ "kvm" or "tcg".  Raises QmpError."""
    kvm = qmp.command("query-kvm", timeout=MONITOR_TIMEOUT)
    return "kvm" if isinstance(kvm, dict) and kvm.get("enabled") else "tcg"


def read_controllers(
    qmp: QmpClient,
) -> tuple[tuple[Pic, ...], Optional[tuple[tuple[int, ...], ...]]]:
    """The machine's PICs, the first one first, and the entries of its I/O APICs.  Raises QmpError."""
    text = qmp.monitor("info pic", MONITOR_TIMEOUT)
    return parse_pics(text), parse_io_apics(text)


def _apic_id(qmp: QmpClient, path: str) -> Optional[int]:
    value = _property(qmp, path, "apic-id")
    return value if isinstance(value, int) and value >= 0 else None


def _property(qmp: QmpClient, path: str, name: str) -> object:
    """A property of a device; None where it has none of this name."""
    try:
        return qmp.command("qom-get", {"path": path, "property": name}, MONITOR_TIMEOUT)
    except QmpClosed:
        raise
    except QmpError:
        return None


def cpu_list(answer: object) -> CpuList:
    """(index, host thread, QOM path) of each CPU in the answer to query-cpus-fast."""
    found = []
    for entry in answer if isinstance(answer, list) else []:
        if isinstance(entry, dict):
            index, thread = entry.get("cpu-index"), entry.get("thread-id")
            if isinstance(index, int) and isinstance(thread, int):
                found.append((index, thread, str(entry.get("qom-path", ""))))
    return found


def logs_by_cpu(logs: Mapping[int, QemuLog], listed: CpuList) -> LogParts:
    threads: dict[int, list[int]] = {}
    for index, thread, _ in listed:
        threads.setdefault(thread, []).append(index)
    own: dict[int, QemuLog] = {}
    shared: list[QemuLog] = []
    for number, log in logs.items():
        indexes = threads.get(number, [])
        if len(indexes) == 1:
            own[indexes[0]] = log
        else:
            shared.append(log)
    return LogParts(own, shared)


def version_of(greeting: Mapping[str, Any]) -> str:
    version = greeting.get("version")
    numbers = version.get("qemu") if isinstance(version, dict) else None
    if not isinstance(numbers, dict):
        return ""
    return ".".join(str(numbers.get(name, "?"))[:8] for name in ("major", "minor", "micro"))
