/* SPDX-License-Identifier: BSD-2-Clause */
#include "sched/sched.h"

void sched_tick(struct trap_frame *frame)
{
    (void)frame;
}

void sched_ipi(void) {}
