/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The tick: TICK_HZ interrupts a second from the local APIC's timer of each
 * CPU that has started it.  Each calls sched_tick() (sched/sched.h).
 *
 * A CPU that can't keep up loses ticks, never its work: the next tick is
 * asked for when one is handled, and at least half a period away.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "cpu/vectors.h"

#define TICK_HZ 100

/* Choose the timer's mode and measure its rate against the TSC's; on the BSP,
 * after tsc_calibrate().  The APs use what was found. */
void timer_init(void);

/* Start and stop the tick of the CPU that calls. */
void timer_start(void);
void timer_stop(void);

/* Take one tick on the CPU that calls, or end the machine with a message. */
void timer_prove(void);

/* Ticks of the CPU with this index. */
uint64_t timer_ticks(unsigned idx);

void timer_interrupt(struct trap_frame *frame);
