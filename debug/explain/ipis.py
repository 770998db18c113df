# SPDX-License-Identifier: BSD-2-Clause
"""The INITs and SIPIs that a kernel sent, in words."""

from __future__ import annotations

from debug.evidence import Evidence, IpiEvent, IpiKind

_START = (IpiKind.INIT, IpiKind.INIT_DEASSERT, IpiKind.SIPI)


def starts(evidence: Evidence) -> tuple[str, ...]:
    """One sentence for each, in order, without those of the firmware."""
    return tuple(told(ipi) for ipi in kernel_starts(evidence))


def kernel_starts(evidence: Evidence) -> tuple[IpiEvent, ...]:
    """The kernel's start-up IPIs, in order."""
    return tuple(i for i in evidence.ipis if i.kind in _START and not i.by_firmware)


def told(ipi: IpiEvent) -> str:
    """`SIPI with vector 0x08 (page 0x8000) to APIC ID 1, from CPU 0`."""
    words = ipi.kind.value
    if ipi.vector is not None:
        words += f" with vector {ipi.vector:#04x} (page {ipi.vector << 12:#x})"
    destination = "an unknown APIC ID" if ipi.destination is None else f"APIC ID {ipi.destination}"
    words += f" to {ipi.shorthand or destination}"
    return words + (f", from CPU {ipi.source}" if ipi.source is not None else "")
