# SPDX-License-Identifier: BSD-2-Clause
"""Why a delivery failed, from what was observed alone: where memory is gone, or says otherwise now.

[SDM 3A "Error Code", "Interrupt 8-Double Fault Exception", "Interrupt 10-Invalid TSS Exception"]
"""

from __future__ import annotations

from dataclasses import replace
from typing import Optional

from debug.evidence import EventKind, ExceptionEvent
from debug.explain.findings import DeliveryFailed
from debug.x86.exceptions import GP, NP, PF, TS, SelectorCode, vector
from debug.x86.modes import Mode, mode_of
from debug.x86.refusals import Check

_FRAME = 64  # bytes below RSP that a frame takes, with alignment


def failures(events: tuple[ExceptionEvent, ...]) -> tuple[DeliveryFailed, ...]:
    """For each exception that the one before it, or an interrupt, led to: the check that failed."""
    found = []
    for first, second in zip(events, events[1:]):
        one = _failure(first, second)
        if one is not None:
            found.append(one)
    return tuple(found)


def refused_gate(first: ExceptionEvent, second: ExceptionEvent) -> Optional[int]:
    """The vector whose gate the error code of `second` names; None if it names none.

    TCG multiplies by the size of a gate where it should multiply by 8, if the gate lies beyond the
    limit in 64-bit mode.
    """
    code = SelectorCode(second.error_code or 0)
    if second.vector not in (GP, NP) or not code.idt:
        return None
    return first.vector if (second.error_code or 0) & ~1 == first.vector * 16 + 2 else code.index


def normal(events: tuple[ExceptionEvent, ...]) -> tuple[ExceptionEvent, ...]:
    """The events with the gate in each error code counted as the manual counts it."""
    found = list(events[:1])
    for first, second in zip(events, events[1:]):
        gate = refused_gate(first, second)
        if gate is not None and gate != SelectorCode(second.error_code or 0).index:
            second = replace(second, error_code=gate * 8 + 2)
        found.append(second)
    return tuple(found)


def _failure(first: ExceptionEvent, second: ExceptionEvent) -> Optional[DeliveryFailed]:
    check, why, address, stack = _why(first, second)
    if check is None:
        return None
    idtr = first.registers.idtr
    return DeliveryFailed(
        second.cpu,
        first.vector,
        check,
        f"{vector(first.vector)} could not be delivered: {why}",
        second.vector,
        idtr.base if idtr is not None else None,
        idtr.limit if idtr is not None else None,
        address,
        first.kind is not EventKind.EXCEPTION,
        stack,
    )


def _selector(event: ExceptionEvent) -> Optional[int]:
    """The selector in an error code, 0 for a null one; None where it names a gate, or is absent."""
    if event.error_code is None or SelectorCode(event.error_code).idt:
        return None
    return event.error_code & 0xFFFC


def _why(
    first: ExceptionEvent, second: ExceptionEvent
) -> tuple[Optional[Check], str, Optional[int], str]:
    """(check, in words, the address that faulted, the stack)."""
    registers = first.registers
    idtr, task = registers.idtr, registers.segments.get("tr")
    gate = refused_gate(first, second)
    if gate == first.vector:
        if second.vector == NP:
            return Check.GATE_NOT_PRESENT, f"gate {gate} of the IDT is not present", None, ""
        size = 16 if mode_of(registers).long else 8
        if idtr is not None and (gate + 1) * size - 1 > idtr.limit:
            why = f"gate {gate} is beyond the IDT's limit {idtr.limit:#x}"
            return Check.IDT_LIMIT, why, None, ""
        return Check.GATE_TYPE, f"gate {gate} of the IDT is not valid", None, ""
    selector = _selector(second)
    if second.vector == TS and selector is not None:
        if task is not None and selector and selector == task.selector & 0xFFFC:
            why = f"the TSS (selector {selector:#06x}) ends at {task.limit:#x}, before the stack"
            return Check.TSS_LIMIT, f"{why} that was needed", None, ""
        if registers.cpl == 3 and not mode_of(registers).long:
            what = f"{selector:#06x}, which is no stack of ring 0" if selector else "null"
            return Check.STACK_SELECTOR, f"SS0 in the TSS is {what}", None, "SS0:ESP0 of the TSS"
        return None, "", None, ""
    if second.vector in (GP, NP) and selector and mode_of(registers) is not Mode.REAL:
        code = registers.segments.get("cs")
        if code is not None and selector == code.selector & 0xFFFC:
            return None, "", None, ""  # the gate is right: the GDT is not the one CS came from
        check = Check.NOT_PRESENT if second.vector == NP else Check.WRONG_TYPE
        limit = registers.gdtr.limit if registers.gdtr is not None else None
        if not selector & 4 and limit is not None and selector | 7 > limit:
            return Check.BEYOND_LIMIT, f"its gate names {selector:#06x}, beyond the GDT", None, ""
        why = "is not present" if second.vector == NP else "is no code segment for it"
        return check, f"its gate names selector {selector:#06x}, which {why}", None, ""
    if second.vector != PF or second.cr2 is None:
        return None, "", None, ""
    at = second.cr2
    if idtr is not None and idtr.base <= at <= idtr.base + idtr.limit:
        return Check.TABLE_UNMAPPED, f"the IDT at {at:#x} is not accessible", at, ""
    if task is not None and task.selector & 0xFFFC and task.base <= at <= task.base + 0x67:
        return Check.TSS_UNMAPPED, f"the TSS at {at:#x} is not accessible", at, ""
    rsp = registers.get("rsp")
    if rsp is not None and rsp - _FRAME <= at < rsp:
        return Check.STACK_UNMAPPED, f"the stack at {at:#x} is not accessible", at, "RSP"
    if rsp is not None and at % 8 == 0 and at % 16 == 8 and abs(rsp - at) > 4096:
        why = f"the frame went to {at:#x}, far from RSP {rsp:#x}: a stack of the TSS"
        return Check.STACK_UNMAPPED, f"{why}, which is not accessible", at, "IST of the TSS"
    return None, "", None, ""
