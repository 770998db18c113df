/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include <stdbool.h>

#include "boot/options.h"
#include "lib/exit.h"

/* A claim, and whether it holds. */
struct check {
    const char *claim;
    bool (*holds)(void);
};

/* What each part of the kernel claims of itself; the last one has no claim.
 * src/selftest.c has the list of parts. */
extern const struct check memory_checks[], ipi_checks[], cpu_checks[],
    time_checks[], sched_checks[];

/* Check what the boot made true, one KTAP line each; returns what the machine
 * must exit with. */
enum exit_code selftest_run(const struct options *options, unsigned online,
                            uint64_t trampoline);
