/* SPDX-License-Identifier: BSD-2-Clause */
#include "sched/idle.h"

_Noreturn void idle(void)
{
    for (;;) /* STI takes effect after HLT has begun: no wake-up is lost */
        __asm__ volatile("sti; hlt" : : : "memory");
}
