/* SPDX-License-Identifier: BSD-2-Clause */
/* What one CPU asks of another. */
#pragma once

#include <stdbool.h>

/* The CPU that calls takes interrupts from now on: the others may count on
 * its answer.  After the scheduler gate, interrupts still off. */
void smp_listen(void);
bool smp_listens(unsigned cpu);

/* Wake a CPU that has halted: it runs sched_ipi().  Refused with a message
 * if it takes no interrupts. */
void smp_wake(unsigned cpu);
