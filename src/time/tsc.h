/* SPDX-License-Identifier: BSD-2-Clause */
/* Time from the TSC, whose rate is measured once on the BSP. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "cpu/cpu.h"

/* Measure the rate against the PIT; returns it in kHz. */
uint32_t tsc_calibrate(void);

uint32_t tsc_khz(void);

/* Microseconds in TSC cycles. */
uint64_t tsc_cycles(uint64_t us);

/* TSC cycles in microseconds. */
uint64_t tsc_microseconds(uint64_t cycles);

void udelay(uint64_t us);

/* A deadline is a TSC value. */
uint64_t deadline_in(uint64_t us);

static inline bool deadline_passed(uint64_t deadline)
{
    return (int64_t)(rdtsc() - deadline) >= 0;
}
