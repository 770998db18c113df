# SPDX-License-Identifier: BSD-2-Clause
"""The first line of a report: what happened, to which CPU, where."""

from __future__ import annotations

from typing import Optional

from debug.evidence import Ending
from debug.explain import alive, firmware, panic
from debug.explain import stages as stage
from debug.explain import uefi_report
from debug.explain.context import Machine
from debug.explain.model import CpuState, CpuView, Status, Step
from debug.explain.state import bsp_in_firmware
from debug.x86.exceptions import vector
from debug.x86.modes import mode_of


def headline(
    status: Status,
    machine: Machine,
    index: Optional[int],
    steps: tuple[Step, ...],
    views: tuple[CpuView, ...],
) -> str:
    """The line for `status`; `index` is the CPU that it is about."""
    view = next((v for v in views if v.index == index), None)
    name = cpu_name(view) if view is not None else "a CPU"
    if status is Status.TRIPLE_FAULT:
        first = steps[0] if steps else None
        where = first.where if first is not None else view.where if view is not None else ""
        registers = first.registers if first is not None else None
        mode = view.mode if view is not None else ""
        if registers is not None:
            mode = mode_of(registers).value
        place = f" at {where}" if where else ""
        return f"{name} triple-faulted" + (f" in {mode}" if mode else "") + place
    if status is Status.MISSING_CPU:
        missing = [v for v in views if v.arrived is False]
        wanted = machine.evidence.expected_cpus or 0
        if not missing and 0 < len(views) < wanted:
            return f"the machine has {len(views)} of the {wanted} CPUs that must come up"
        if len(missing) > 1:
            arrived = sum(1 for v in views if v.arrived)
            return f"{len(missing)} of {len(views)} CPUs did not arrive ({arrived} did)"
        doing = f": {view.doing}" if view is not None else ""
        return f"{name} did not arrive{doing}"
    if status is Status.HANG:
        for held in panic.lines(machine):
            if held.cpu == index:
                return f"{name} hangs: interrupt {held.vector:#x} comes again behind each EOI"
        return f"{name} hangs" + (f": {view.doing}" if view is not None else "")
    if status is Status.PANIC:
        first = steps[0] if steps else None
        what = f" with {vector(first.vector)}" if first is not None else ""
        place = f" at {first.where}" if first is not None and first.where else ""
        who = "UEFI" if uefi_report.printed(machine.evidence.console) is not None else "the kernel"
        return f"{who} gave up{what}{place}"
    if status is Status.RESET:
        return "the guest asked for a reset; no CPU triple-faulted"
    if status is Status.HEALTHY:
        online = [v for v in views if v.arrived]
        for only in firmware.findings(machine):
            return (
                f"healthy so far: {only.firmware} alone, nothing of a kernel, in a record that is"
                " cut off"
            )
        if not online:
            return "healthy: no exception in what was recorded was fatal"
        codes = stage.argument(machine.evidence, stage.BSP_ALL_ONLINE)
        count = codes if codes is not None else len(online)
        more = sum(1 for v in views if v.arrived is None) if codes is None else 0
        told = f", {more} more in the guest's code" if more else ""
        halted = any(v.state is CpuState.HALTED for v in views)
        ended = halted and machine.evidence.ending is Ending.STOPPED
        how = "healthy, halted on purpose" if ended else "healthy"
        return f"{how}: {count} of {max(len(views), count)} CPUs online{told}"
    if machine.evidence.ending is Ending.EMULATOR_DIED and machine.evidence.messages:
        return f"the emulator ended by itself: {machine.evidence.messages[0]}"
    if machine.evidence.ending is Ending.STOPPED and not views and machine.evidence.messages:
        return f"nothing could be read: {machine.evidence.messages[0]}"
    for still in bsp_in_firmware(machine):
        return f"the machine is still in its firmware, at {still.where}: no kernel was seen"
    for only in firmware.findings(machine):
        return f"nothing of a kernel is in this record: it shows {only.firmware} alone"
    if machine.evidence.ending is Ending.RESTARTED:
        return "the machine restarted: by a triple fault, or because the guest asked for it"
    if machine.evidence.unseen:
        online = [v for v in views if v.arrived]
        told = f"; {len(online)} of {len(views)} CPUs online" if online else ""
        return f"{machine.evidence.unseen!r}, which --until awaits, did not appear{told}"
    if alive.printing(machine, views):
        return "the machine was still running and printing: nothing wrong was seen"
    return "the evidence does not tell what happened"


def cpu_name(view: CpuView) -> str:
    """`CPU 1 (APIC ID 1)`."""
    apic = f" (APIC ID {view.apic_id})" if view.apic_id is not None else ""
    return f"CPU {view.index}{apic}"
