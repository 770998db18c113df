/* SPDX-License-Identifier: BSD-2-Clause */
#include "time/tsc.h"

#include "time/pit.h"

/* Readings of which the quickest counts. */
#define READINGS 8

/* The PIT's count is right to 1: 168 ppm of 10 ms. */
#define CALIBRATE_COUNTS (PIT_HZ / 100)
/* TSC cycles after which there is no PIT: 100 ms at 10 GHz. */
#define CALIBRATE_LIMIT 1000000000
/* How often the host may take the CPU away for longer than PIT_SPAN. */
#define CALIBRATE_TRIES 10
/* Where there is no PIT: too slow is safe, it makes every wait longer. */
#define FALLBACK_KHZ 4000000

static uint32_t khz = FALLBACK_KHZ;

struct reading clock_read(uint32_t (*read)(void))
{
    struct reading best = {.gap = UINT64_MAX};
    for (int i = 0; i < READINGS; i++) {
        uint64_t before = rdtsc();
        uint32_t count = read();
        uint64_t gap = rdtsc() - before;
        if (gap < best.gap)
            best = (struct reading){before + gap / 2, gap, count};
    }
    return best;
}

uint32_t tsc_calibrate_once(void)
{
    pit_start();
    struct reading first = clock_read(pit_read);
    while (first.count - pit_read() < CALIBRATE_COUNTS &&
           rdtsc() - first.tsc < CALIBRATE_LIMIT)
        pause();
    struct reading last = clock_read(pit_read);
    bool usable = !pit_ran_out() && last.count < first.count;
    pit_stop();
    if (!usable)
        return 0;
    return (uint32_t)((last.tsc - first.tsc) * PIT_HZ /
                      (first.count - last.count) / 1000);
}

uint32_t tsc_calibrate(void)
{
    for (int i = 0; i < CALIBRATE_TRIES; i++) {
        uint32_t measured = tsc_calibrate_once();
        if (measured) {
            khz = measured;
            break;
        }
    }
    return khz;
}

uint32_t tsc_khz(void)
{
    return khz;
}

uint64_t tsc_cycles(uint64_t us)
{
    return us * khz / 1000;
}

uint64_t tsc_microseconds(uint64_t cycles)
{
    return cycles * 1000 / khz;
}

uint64_t deadline_in(uint64_t us)
{
    return rdtsc() + tsc_cycles(us);
}

/* The last pause comes after the deadline.  Where CPUs share a host thread,
 * all of the time can pass before another one has had its turn; that pause
 * gives it one. */
void udelay(uint64_t us)
{
    uint64_t deadline = deadline_in(us);
    bool passed;
    do {
        passed = deadline_passed(deadline);
        pause();
    } while (!passed);
}
