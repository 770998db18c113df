/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

/* Halt with interrupts on until something happens, for ever; without ticks. */
_Noreturn void idle(void);
