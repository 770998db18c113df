/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The PIT's channel 2 as a clock: it counts down at a rate that has not
 * changed since 1981, and is started and read without an interrupt.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define PIT_HZ 1193182u

/* Counts for which the PIT can be read: 54.9 ms. */
#define PIT_SPAN 0xffffu

/* Start at PIT_SPAN; stop, and leave port 61H as it was. */
void pit_start(void);
void pit_stop(void);

/* The count now.  Meaningless once it has gone through 0. */
uint32_t pit_read(void);
bool pit_ran_out(void);
