/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The end of the machine because of a bug, with one undamaged report: the
 * first CPU that panics stops all others by NMI, waits until each has
 * stopped, and alone prints.
 */
#pragma once

#include <stdbool.h>

#include "cpu/vectors.h"

/* Report and stop every CPU. */
__attribute__((format(printf, 1, 2))) _Noreturn void panic(const char *format,
                                                           ...);

/*
 * The same in three steps, for a report of several lines.  panic_enter() comes
 * first: if this CPU panics already, its report is broken, which is told in
 * one line, with `what`, and the machine ends.  After panic_begin() only this
 * CPU runs and prints.
 */
void panic_enter(const char *what);
void panic_begin(void);
_Noreturn void panic_end(const char *reason);

/* For a CPU that comes to work, or that got an NMI: if the kernel panics,
 * stop for good.  `frame` is what the NMI interrupted, or NULL. */
void panic_stop_here(const struct trap_frame *frame);
