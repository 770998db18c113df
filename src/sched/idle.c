/* SPDX-License-Identifier: BSD-2-Clause */
#include "sched/idle.h"

#include "time/timer.h"

_Noreturn void idle(void)
{
    timer_stop(); /* nothing to share: only an IPI can bring work */
    for (;;)      /* STI takes effect after HLT has begun: no wake-up is lost */
        __asm__ volatile("sti; hlt" : : : "memory");
}
