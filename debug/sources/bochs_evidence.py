# SPDX-License-Identifier: BSD-2-Clause
"""From what Bochs said to the evidence model.  Pure: a parsed log and CPUs in, evidence out."""

from __future__ import annotations

from dataclasses import replace
from typing import Optional, Sequence

from debug.evidence import Cpu, Ending, Evidence, Memory, NoMemory, NoSymbols, Symbols
from debug.sources.bochs_dump import DUMP_LIMITS, Dump
from debug.sources.bochs_log import BochsLog

NO_MEMORY = "memory can't be read: only the log is left"
NOT_DETAILED = (
    "the log was made without the CPUs' debug level: page faults and error codes are not in it"
)
OTHER_BOOT = "Bochs reset the machine after the triple fault: the registers are gone"
AFTER_RESET = "Bochs resets at once: the registers before a reset are not known"


def cpu_of(dump: Dump) -> Cpu:
    """A CPU as its dump in the log shows it."""
    state = dump.state
    return Cpu(
        index=dump.cpu,
        registers=dump.registers,
        halted="halted" in state or "mwait" in state,
        waiting_for_sipi="SIPI" in state,
        shutdown="shutdown" in state,
    )


def ending_of(log: BochsLog) -> Ending:
    """How the run that wrote this log ended."""
    if log.death is not None:
        return Ending.TRIPLE_FAULT
    if log.shutdown_port:
        return Ending.EXITED
    if log.resets:
        return Ending.RESET
    if log.panics:
        return Ending.EMULATOR_DIED
    return Ending.STOPPED if log.quit else Ending.UNKNOWN


def with_death(cpus: Sequence[Cpu], log: BochsLog) -> tuple[Cpu, ...]:
    """Mark the CPU that died, and give it the flags it had: a shutdown clears IF."""
    if log.death is None:
        return tuple(cpus)
    flags = {dump.cpu: dump.registers.rflags for dump in log.dumps if dump.tick == log.death.tick}
    result = []
    for cpu in cpus:
        dead = cpu.index == log.death.cpu
        if dead and flags.get(cpu.index) is not None:
            cpu = replace(cpu, registers=replace(cpu.registers, rflags=flags[cpu.index]))
        result.append(replace(cpu, shutdown=dead or bool(cpu.shutdown)))
    return tuple(result)


def build(
    log: BochsLog,
    cpus: Optional[Sequence[Cpu]] = None,
    *,
    ending: Optional[Ending] = None,
    exit_code: Optional[int] = None,
    memory: Optional[Memory] = None,
    symbols: Optional[Symbols] = None,
    console: str = "",
    messages: Sequence[str] = (),
    expected_cpus: Optional[int] = None,
    limits: Sequence[str] = (),
) -> Evidence:
    """The evidence in a log alone, or with what a debugger read besides (`cpus`, `memory`)."""
    told = list(limits)
    ending = ending_of(log) if ending is None else ending
    from_dumps = cpus is None
    known = tuple(cpu_of(dump) for dump in log.dumps) if cpus is None else tuple(cpus)
    known = with_death(known, log)
    if ending is Ending.RESET and log.death is None:
        known = ()  # their registers are another boot's
    if from_dumps and known:
        told += DUMP_LIMITS
    if memory is None:
        told.append(NO_MEMORY)
    if log.lines and not log.detailed and log.death is not None:
        told.append(NOT_DETAILED)
    if log.death is not None and log.death.cpu not in {cpu.index for cpu in known}:
        told.append(OTHER_BOOT)
    said = list(messages)
    if ending is Ending.RESET:
        told.append(AFTER_RESET)
        if log.reset_reason:
            said.append(f"the reset was asked for here: {log.reset_reason}")
    said += log.messages
    said += [
        f"CPU{cpu}: HLT with interrupts off"
        for cpu in log.halted
        if log.death is None or cpu != log.death.cpu
    ]
    return Evidence(
        emulator="bochs",
        version=log.version,
        ending=ending,
        exit_code=exit_code,
        cpus=known,
        events=log.events,
        ipis=log.ipis,
        resets=log.resets,
        memory=memory if memory is not None else NoMemory(),
        symbols=symbols if symbols is not None else NoSymbols(),
        console=console,
        messages=tuple(said),
        expected_cpus=expected_cpus,
        in_firmware=log.death is not None and log.death.in_firmware,
        limits=tuple(dict.fromkeys(told)),
    )
