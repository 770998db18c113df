/* SPDX-License-Identifier: BSD-2-Clause */
/* The end of the machine because of a bug, with one undamaged report. */
#pragma once

#include <stdbool.h>

/* Report and stop every CPU. */
__attribute__((format(printf, 1, 2))) _Noreturn void panic(const char *format,
                                                           ...);

/* The same in two steps, for a report of several lines: after panic_begin()
 * only this CPU runs and prints. */
void panic_begin(void);
_Noreturn void panic_end(const char *reason);

bool panic_in_progress(void);
