/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

/* Run threads for ever, and halt with interrupts on while there are none. */
_Noreturn void idle(void);

/* Halt until an interrupt has been handled; interrupts off before and after. */
void idle_halt(void);
