/* SPDX-License-Identifier: BSD-2-Clause */
#include "sched/idle.h"

#include "cpu/cpu.h"
#include "sched/sched.h"

void idle_halt(void)
{
    /* STI takes effect after HLT has begun: no wake-up is lost. */
    __asm__ volatile("sti; hlt" : : : "memory");
    interrupts_off();
}

_Noreturn void idle(void)
{
    interrupts_off();
    for (;;)
        sched_run_or_halt();
}
