/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Time from the TSC, whose rate is measured once on the BSP against the PIT.
 *
 * The error of that rate is below CLOCK_ERROR_PPM, also where the host takes
 * the CPU away in the middle: both clocks are read together, and a reading
 * that took long is not used.  udelay() is never shorter than asked for, and
 * longer only by a turn of its loop, or by what a host gives to others.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "cpu/cpu.h"

#define CLOCK_ERROR_PPM 1000

/* Measure the rate against the PIT, and use it from now on; returns it in
 * kHz. */
uint32_t tsc_calibrate(void);

uint32_t tsc_khz(void);

/* The rate by the PIT in kHz; 0 if that does not run, or the host gave this
 * CPU never as much as CALIBRATE_LEAST counts of it. */
uint32_t tsc_calibration(void);

/* Another clock's count, and the TSC at that moment. */
struct reading {
    uint64_t tsc;
    uint64_t gap; /* TSC cycles that the reading took */
    uint32_t count;
};

/* The quickest of several readings. */
struct reading clock_read(uint32_t (*read)(void));

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
