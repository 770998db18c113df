/* SPDX-License-Identifier: BSD-2-Clause */
/* The scheduler, as interrupts see it. */
#pragma once

#include "cpu/vectors.h"

/* The timer's tick, interrupts off. */
void sched_tick(struct trap_frame *frame);

/* Another CPU's smp_wake(), interrupts off: there may be work. */
void sched_ipi(void);
