# SPDX-License-Identifier: BSD-2-Clause
"""Where the near misses of rows stand that have no Case of their own in this directory."""

from __future__ import annotations

from tests.python.explain.test_clues import CASES as CLUES

ELSEWHERE = {case.row for case in CLUES} | set(
    """
    ap-missing ap-started-twice block-taken cpu-lacks-feature cpu-there-not-seen
    cpu-without-long-mode cr3-misaligned
    cr3-outside-memory direction-flag-set exception-without-idt entry-no-code far-jump-not-relocated
    gdt-overwritten
    halted-on-purpose handler-unreachable idt-holds-no-gates image-partly-mapped init-after-sipi
    ipi-not-sent-by-apic iret-frame-shifted ist-shared kernel-not-reached la57-mismatch local-apic-unmapped lock-not-released
    long-segment-too-early parameter-field-mixed-up pcide-too-early reserved-bit-set sipi-vector-rom
    segment-limit-exceeded table-level-skipped trampoline-not-aligned trampoline-overwritten
    waits-for-more-cpus waits-in-a-circle window-not-mapped
    """.split()
)
"""Rows with a near miss in another test."""
