# SPDX-License-Identifier: BSD-2-Clause
# Made by debug/kernel/facts.py from src/smp/lcpu.h and src/lib/exit.h; do not edit.
"""What the diagnoser knows of this project's own kernel: layouts in bytes, exit codes."""

LCPU_APIC_ID = 8
LCPU_ENTRY = 16
LCPU_INDEX = 4
LCPU_RECORD = 32
LCPU_SIZE = 64
LCPU_STACK = 24
LCPU_STATE = 0
LCPU_STATE_ALIVE = 2
LCPU_STATE_BOOTING = 1
EXIT_OK = 0x10
EXIT_SELFTEST_FAILED = 0x11
EXIT_PANIC = 0x12
EXIT_BAD_OPTION = 0x13
EXIT_BAD_LOADER = 0x14
EXIT_NO_ACPI = 0x15
EXIT_BAD_MADT = 0x16
EXIT_NO_LOW_PAGE = 0x17
EXIT_NO_MEMORY = 0x18
EXIT_NO_APIC = 0x19
EXIT_TRAMPOLINE = 0x1A
EXIT_TOO_MANY_CPUS = 0x1B
EXIT_MISSING_CPU = 0x1C
EXIT_NO_LONG_MODE = 0x1D
EXIT_NO_TICK = 0x1E
