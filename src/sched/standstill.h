/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * When nothing can run any more.
 *
 * Only a thread wakes a thread that waits: interrupt handlers wake nobody
 * but sleepers.  So the moment when the last one that could has stopped is
 * known exactly, and needs no deadline: a lost wake-up or a deadlock is
 * reported where it happens.
 */
#pragma once

#include <stdbool.h>

/* One thread more, or less, that runs, can run or sleeps; of the latter,
 * whether it waits now, or has ended.  The boot is the first. */
void standstill_more(void);
void standstill_less(bool waits);
/* One that waited does no more. */
void standstill_woken(void);
