# SPDX-License-Identifier: BSD-2-Clause
"""What the exit code of `lamppost` says; the same for all of its commands."""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """0 is success; 10 to 16 are the verdict on a machine, in the order of the JSON `status`."""

    HEALTHY = 0  # done; where a machine was judged, it is healthy
    DAMAGED = 1  # `stages --strict`: the trace was damaged; `--guess`: the guess was wrong
    USAGE = 2  # the command line is wrong
    MISSING_TOOL = 3  # a program or a Python package is not installed
    TRIPLE_FAULT = 10
    MISSING_CPU = 11
    HANG = 12
    PANIC = 13
    RESET = 14
    UNKNOWN = 15
    BAD_INPUT = 16  # a file is unreadable, empty or not what the command reads
    INTERRUPTED = 130  # Ctrl-C
    BROKEN_PIPE = 141  # the reader of the output went away


MEANING = {
    ExitCode.HEALTHY: "done; healthy where a machine was judged",
    ExitCode.DAMAGED: "the trace was damaged (stages --strict), or the guess wrong (--guess)",
    ExitCode.USAGE: "the command line is wrong",
    ExitCode.MISSING_TOOL: "a program or a Python package is not installed",
    ExitCode.TRIPLE_FAULT: "a CPU triple-faulted",
    ExitCode.MISSING_CPU: "a CPU did not arrive",
    ExitCode.HANG: "the machine hangs",
    ExitCode.PANIC: "the kernel gave up with a message",
    ExitCode.RESET: "the guest reset the machine",
    ExitCode.UNKNOWN: "the machine died and the cause is not known, or what --until awaits never came",
    ExitCode.BAD_INPUT: "a file is unreadable, empty or not what the command reads",
    ExitCode.INTERRUPTED: "interrupted",
    ExitCode.BROKEN_PIPE: "the reader of the output went away, or its disk is full",
}

_OF_STATUS = {
    "healthy": ExitCode.HEALTHY,
    "triple-fault": ExitCode.TRIPLE_FAULT,
    "missing-cpu": ExitCode.MISSING_CPU,
    "hang": ExitCode.HANG,
    "panic": ExitCode.PANIC,
    "reset": ExitCode.RESET,
    "unknown": ExitCode.UNKNOWN,
    "bad-input": ExitCode.BAD_INPUT,
}


def of_status(status: str) -> ExitCode:
    """The exit code for a report's `status`; UNKNOWN for a status that is not in the list."""
    return _OF_STATUS.get(status, ExitCode.UNKNOWN)
