/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The ends of the machine.  Each has a number of its own: the value written
 * to QEMU's isa-debug-exit device, whose exit code is then value * 2 + 1, and
 * the argument of the stage BSP_EXIT.  The README lists them.
 */
#pragma once

enum exit_code {
    EXIT_OK = 0x10,
    EXIT_SELFTEST_FAILED = 0x11,
    EXIT_PANIC = 0x12,
    EXIT_BAD_OPTION = 0x13,
    EXIT_BAD_LOADER = 0x14, /* not a Multiboot loader, or no memory map */
    EXIT_NO_ACPI = 0x15,
    EXIT_BAD_MADT = 0x16,
    EXIT_NO_LOW_PAGE = 0x17,
    EXIT_NO_MEMORY = 0x18,
    EXIT_NO_APIC = 0x19,
    EXIT_TRAMPOLINE = 0x1a,
    EXIT_TOO_MANY_CPUS = 0x1b,
    EXIT_MISSING_CPU = 0x1c,
    EXIT_NO_LONG_MODE = 0x1d,
    EXIT_NO_TICK = 0x1e, /* the timer's interrupt does not come */
};

#define ISA_DEBUG_EXIT 0xf4
#define BOCHS_SHUTDOWN 0x8900

/* End the machine: isa-debug-exit on QEMU, port 0x8900 on Bochs; where there
 * is neither, halt. */
_Noreturn void machine_exit(enum exit_code code);

/* The same without a word: for a CPU that can't even light a lamp. */
_Noreturn void machine_end(enum exit_code code);

/* The kernel can't go on: say why (what was expected, what was found, what to
 * do) and end the machine. */
__attribute__((format(printf, 2, 3))) _Noreturn void
boot_error(enum exit_code code, const char *format, ...);
